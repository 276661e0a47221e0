"""The tutorial as a new user types it: every command block of docs/tutorial.md, in order, in one shell."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.live_stack import ROOT, LiveStack

pytestmark = [pytest.mark.timeout(400)]

TUTORIAL = ROOT / "docs" / "tutorial.md"


def blocks(text: str) -> list[str]:
    """The indented blocks of a document, as they are typed."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.startswith("    ") or (not line.strip() and found[-1]):
            found[-1].append(line[4:])
        elif found[-1]:
            found.append([])
    return ["\n".join(block).rstrip() + "\n" for block in found if block]


def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """From an empty folder to a simulated run beside the recorded one."""
    stack = LiveStack(tmp_path / "home")
    commands = tmp_path / "bin"
    commands.mkdir()
    tango = commands / "tango"
    tango.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from tango.cli.main import run; run()" "$@"\n')
    (commands / "python3").symlink_to(sys.executable)
    tango.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
    environment |= {
        "HOME": str(tmp_path),
        "TANGO_HOME": str(stack.home),
        "PATH": f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    script = "set -eu\n" + "".join(blocks(TUTORIAL.read_text(encoding="utf-8")))
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300.0, check=False
        )
    finally:
        if (stack.home / "stack.json").exists():
            stack.stop()

    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for greeted in ("World", "You", "Ada", "Grace", "Barbara"):
        assert f"Hello, {greeted}!" in said
    assert "2262 primes" in said
    assert said.count("succeeded") >= 5
    assert "run 1 under k8s-native" in done.stderr
