"""A check for commands that read trace files and write one: the output must not be one of the inputs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tango.errors import UsageError


def require_other_file(written: Path, read: Iterable[str | Path]) -> None:
    """Raises: UsageError if `written` is one of the files in `read`, also under another name such as a symbolic link."""
    if written.exists() and any(Path(path).exists() and written.samefile(path) for path in read):
        raise UsageError(f"{written} is the trace that is read; name another file to write, or it would be lost")
