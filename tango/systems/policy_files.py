"""Policies in files of the user's own: `FILE.py:FUNCTION`, wherever a policy can be named.

A run must be able to say later what decided in it, and every process that decides must use the same text. So a name that is stored bears
the digest of the file: `/home/me/place.py:near_home@3fa9c1d24b60`. A process that finds another text there refuses it, and the fallback
decides, with that reason in the decision. Rejected: keeping the source in the database, where whoever may write a row could run code on
every host.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, NamedTuple

from tango.errors import FileRefused, UsageError

FILE_POLICY = r"[^:]+\.py:[A-Za-z_]\w*(?:@[0-9a-f]{12})?"
"""How such a name looks, as a regular expression. A path may hold slashes, as does the name of a mix: what ends it is `.py:FUNCTION`."""
DIGEST_CHARACTERS = 12
MOST_FILE_BYTES = 1 << 20
PARAMETERS = 3
"""What a policy is asked with: requests, snapshot, settings."""

_PARTS = re.compile(r"(?P<path>[^:]+\.py):(?P<function>[A-Za-z_]\w*)(?:@(?P<digest>[0-9a-f]{12}))?")


class PolicyFile(NamedTuple):
    """The parts of such a name."""

    path: Path
    function: str
    digest: str
    """First characters of the SHA-256 of the file's content; empty: whatever is there."""

    def __str__(self) -> str:
        return f"{self.path}:{self.function}" + (f"@{self.digest}" if self.digest else "")


def file_policy(name: str) -> PolicyFile | None:
    """The parts of `FILE.py:FUNCTION`, None for any other name."""
    found = _PARTS.fullmatch(name)
    return PolicyFile(Path(found["path"]), found["function"], found["digest"] or "") if found else None


def stored_name(name: str) -> str:
    """The name that is kept: an absolute path, and the digest of what the file holds now. Any other name stays as it is.

    Raises: UsageError if the file cannot be read, or holds something else than a digest in the name says; FileRefused for one too long.
    """
    found = file_policy(name)
    if found is None:
        return name
    path = found.path.expanduser().absolute()
    digest = _digest(_content(path))
    _require_same(found._replace(path=path), digest)
    return str(PolicyFile(path, found.function, digest))


def short_names(text: str) -> str:
    """The name of a system with its files' names in place of their paths, for tables; data keeps the whole."""
    return re.sub(r"(?:(?<=/)|^)/[^:]*/([^/:]+\.py:)", r"\1", text)


def loaded_file_policy(found: PolicyFile) -> Callable[..., Any]:
    """The function. Its module is executed once for each content, in this process.

    Raises: UsageError for a file that cannot be read, is not what its digest says, or has no such function; FileRefused where executing
    it fails, with file and line, or for a function that cannot be called as a policy is.
    """
    path = found.path.expanduser().absolute()
    content = _content(path)
    digest = _digest(content)
    _require_same(found._replace(path=path), digest)
    namespace = _executed(path, digest, content)
    function = namespace.get(found.function)
    if not callable(function):
        offered = [
            name for name, value in namespace.items() if inspect.isfunction(value) and value.__module__ == _module_name(digest)
        ]
        raise UsageError(f"{path} has no function {found.function!r}, it has: {', '.join(offered) or 'none'}")
    if wrong := not_called_as_a_policy(function):
        raise FileRefused(f"{path}:{found.function} {wrong}")
    called: Callable[..., Any] = function
    return called


def not_called_as_a_policy(function: Callable[..., Any]) -> str:
    """Why something cannot be asked as a policy is, in words that follow its name; empty if it can."""
    try:
        inspect.signature(function).bind(*range(PARAMETERS))
    except TypeError as error:
        return f"cannot be called with (requests, snapshot, settings): {error}; docs/policies.md has an example"
    return ""


def where_it_failed(error: BaseException, policy: object) -> str:
    """`FILE:LINE` of the policy's own code in which an exception was raised, or of the innermost frame; empty without one.

    The innermost frame alone may lie in NumPy, where the author of the policy can change nothing.
    """
    own = getattr(getattr(policy, "__code__", None), "co_filename", None) or _file_of(policy)
    frame, innermost = None, None
    step = error.__traceback__
    while step is not None:
        innermost = (step.tb_frame.f_code.co_filename, step.tb_lineno)
        if innermost[0] == own:
            frame = innermost
        step = step.tb_next
    found = frame or innermost
    return f"{found[0]}:{found[1]}" if found else ""


def _file_of(policy: object) -> str | None:
    try:
        return inspect.getsourcefile(type(policy))
    except (TypeError, OSError):
        return None


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"the policy file {path} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_FILE_BYTES:
        raise FileRefused(f"the policy file {path} has over {MOST_FILE_BYTES} bytes")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGEST_CHARACTERS]


def _require_same(found: PolicyFile, digest: str) -> None:
    if found.digest and found.digest != digest:
        raise UsageError(
            f"the policy file {found.path} has changed: its digest is {digest}, {found.digest} was named. "
            "Submit again to use what it holds now"
        )


def _module_name(digest: str) -> str:
    return f"tango_policy_{digest}"


@cache
def _executed(path: Path, digest: str, content: bytes) -> dict[str, Any]:
    """The names that a file defines. What is executed is what was read, so that a file that is written meanwhile cannot slip in between."""
    spec = spec_from_file_location(_module_name(digest), path)
    if spec is None:  # a path that ends in .py always has a loader
        raise FileRefused(f"{path} is no Python source file")
    module = module_from_spec(spec)
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    except SyntaxError as error:
        raise FileRefused(f"{path}:{error.lineno}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # whatever the file does when it is executed
        line = where_it_failed(error, None) if not isinstance(error, OSError) else str(path)
        raise FileRefused(f"the policy file fails when it is read, at {line}: {type(error).__name__}: {error}") from error
    return module.__dict__
