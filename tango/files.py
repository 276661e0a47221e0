"""Files that appear whole or not at all, and the one error for a file that this machine will not read or write."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from tango.errors import FileUnusable

_WRITING = {
    errno.ENOSPC: "free some space on its disk, or name another place",
    errno.EDQUOT: "free some of your quota, or name another place",
    errno.EROFS: "its file system is read-only; name another place",
    errno.ENOENT: "make its folder, or name another place",
    errno.EMFILE: "too many files are open; raise the limit of open files (ulimit -n)",
}
"""What to do where something cannot be written, by the number of the system's error; for others, look at owner and permissions."""
_READING = {
    errno.ENOENT: "name a file that is there",
    errno.EISDIR: "name a file in it",
    errno.EMFILE: _WRITING[errno.EMFILE],
}


@contextlib.contextmanager
def usable(path: Path, to: str = "written") -> Iterator[None]:
    """For a block that reads or writes `path`; `to` is what the message says cannot be done with it, "read" for one that reads.

    Raises: FileUnusable for every OSError of the block.
    """
    try:
        yield
    except OSError as error:
        remedies, other = (_READING, "file") if to == "read" else (_WRITING, "place")
        remedy = remedies.get(error.errno or 0, f"look at its owner and permissions, or name another {other}")
        message = f"{path} cannot be {to}: {error.strerror or error}; {remedy}"
        raise FileUnusable(message, path=str(path), is_full=error.errno in (errno.ENOSPC, errno.EDQUOT)) from error


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file, no more than `most + 1` bytes of it: what is longer, or has no end as a device, is the caller's to refuse.

    Raises: OSError.
    """
    with path.open("rb") as file:
        return file.read(most + 1)


def write_whole(path: Path, content: str | bytes | memoryview, *, mode: int | None = None) -> None:
    """Write a file aside and rename it, text as UTF-8: a reader sees the old content or the new, never a part.

    `mode` is that of the new file, whatever the umask; with None that of the file whose place it takes, or 0666 less the umask where there
    is none. What is no regular file, such as /dev/stdout, is written to as it is, and a link to a file stays one. Raises: FileUnusable;
    nothing is left behind then.
    """
    with usable(path):
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            return
        real = Path(os.path.realpath(path))
        aside = real.with_name(f".{real.name}.{os.getpid()}.{secrets.token_hex(4)}")
        # A name that nobody can guess or have put there as a link: some folders are shared.
        kept = real.stat().st_mode & 0o777 if mode is None and real.exists() else mode
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666 if mode is None else mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if kept is not None:
                    os.fchmod(descriptor, kept)
                file.write(content.encode() if isinstance(content, str) else content)
            aside.replace(real)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


def write_new(path: Path, content: str) -> None:
    """Write a file that is not there yet, as UTF-8. Raises: FileUnusable, where there is one too."""
    if path.exists() or path.is_symlink():
        raise FileUnusable(
            f"{path} is there already and is left as it is; name another file, or move that one away", path=str(path)
        )
    with usable(path), path.open("x", encoding="utf-8") as file:
        file.write(content)


def made_folder(path: Path, *, mode: int = 0o777) -> Path:
    """The folder, made with its missing parents, with `mode` less the umask. Raises: FileUnusable."""
    with usable(path, "made"):
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    return path
