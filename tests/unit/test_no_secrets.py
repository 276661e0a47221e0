"""No key, token or password of a real server stands in a tracked file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PATTERNS = {
    "private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{20}",
    "token of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "token of GitHub": r"\b(?:gh[pousr]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z_]{60,})\b",
    "token of GitLab": r"\bglpat-[0-9A-Za-z_-]{20}\b",
    "token of Slack": r"\bxox[abprs]-[0-9A-Za-z-]{20,}\b",
    "token of Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "token of PyPI": r"\bpypi-[0-9A-Za-z_-]{60,}\b",
    "JSON web token": r"\beyJ[0-9A-Za-z_-]{15,}\.eyJ[0-9A-Za-z_-]{15,}\.[0-9A-Za-z_-]{20,}\b",
    "token of Tango": r"\btango_(?![a-z_]+\b)[0-9A-Za-z_-]{32}",
    "password in an address": r"\b(?:postgres(?:ql)?|rediss?|amqps?|https?)://[^\s:/@]*:[^\s:/@{}$<>*….'\"]{20,}@",
}
"""What secrets look like, by the prefixes that their makers gave them for this; Tango's own beside them."""


def findings(text: str) -> list[str]:
    """Which kinds of secrets a text has in it."""
    return [kind for kind, pattern in PATTERNS.items() if re.search(pattern, text)]


def test_no_tracked_file_has_a_secret_in_it() -> None:
    """All that git knows; nothing of what was found is shown."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    found = {}
    for name in filter(None, names):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            kinds = findings(path.read_text(errors="replace"))
            if kinds:
                found[name] = kinds

    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAabcdef",
        "AKIA" + "ABCDEFGHIJKLMNOP",
        "ghp_" + "a" * 36,
        "tango_" + "Ab1-" * 8,
        "postgresql://tango_app:" + "x" * 24 + "@db.example/tango",
    ],
)
def test_what_is_looked_for_is_found(text: str) -> None:
    """A scan that finds nothing may look for nothing."""
    assert findings(text)
