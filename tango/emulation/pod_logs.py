"""Logs of containers: where their files lie, how they stay bounded, and how they are read. Virtual kubelet and API server meet here.

    <pods>/<namespace>_<pod>_<uid>/<container>/<restart>.log      and, before it, <restart>.log.1

A container that writes without end keeps its last `KEEP_BYTES` to twice that, as a kubelet keeps them (containerLogMaxSize, 10 MiB).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

KEEP_BYTES = 10 * 2**20
"""Size at which a log is moved aside, bytes."""
BLOCK = 2**16
"""Bytes read at once."""


def pod_folder(pods: Path, namespace: str, name: str, uid: str) -> Path:
    """The folder of one pod's logs and files; a later pod of the same name has another one."""
    return pods / f"{namespace}_{name}_{uid}"


def log_path(folder: Path, container: str, restart: int) -> Path:
    """The log of one life of a container, `restart` 0 for its first."""
    return folder / container / f"{restart}.log"


@dataclass(slots=True)
class BoundedLog:
    """What one container writes. Raises: OSError, from `write` too, as on a full disk."""

    path: Path
    keep_bytes: int = KEEP_BYTES
    _file: BinaryIO = field(init=False)
    _size: int = 0

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._open()

    def write(self, content: bytes) -> None:
        """Append; readers see it at once."""
        if self._size + len(content) > self.keep_bytes and self._size:
            self._file.close()
            os.replace(self.path, _older(self.path))
            self._open()
        self._file.write(content)
        self._size += len(content)

    def close(self) -> None:
        """Close the log: nothing more will be written."""
        self._file.close()

    def _open(self) -> None:
        self._file = open(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0)  # noqa: SIM115
        self._size = 0


class LogReader:
    """Reads a log as it grows: first what is there, or the end of it, then what is added. Close it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def start(self, *, tail_lines: int | None) -> Iterator[bytes]:
        """All that is there, or its last lines, in blocks; the next `more` goes on from there."""
        with contextlib.suppress(FileNotFoundError):
            older = _older(self._path)
            before = older.read_bytes() if older.exists() else b""
            self._file = self._path.open("rb")
            if tail_lines is None:
                yield from (before[k : k + BLOCK] for k in range(0, len(before), BLOCK))
                yield from self.more()
            else:
                found = _last_lines(before + self._file.read(), tail_lines)
                yield from (found[k : k + BLOCK] for k in range(0, len(found), BLOCK))

    def more(self) -> Iterator[bytes]:
        """What has been written since; of a file that was moved aside its rest first."""
        if self._file is None:
            with contextlib.suppress(FileNotFoundError):
                self._file = self._path.open("rb")
        while self._file is not None:
            while block := self._file.read(BLOCK):
                yield block
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino:
                    self._file.close()
                    self._file = self._path.open("rb")
                    continue
            return

    def close(self) -> None:
        """Close the file that is read."""
        if self._file is not None:
            self._file.close()


def _older(path: Path) -> Path:
    return path.with_suffix(".log.1")


def _last_lines(content: bytes, count: int) -> bytes:
    if count <= 0:
        return b""
    at = len(content) - 1 if content.endswith(b"\n") else len(content)
    for _ in range(count):
        at = content.rfind(b"\n", 0, at)
        if at < 0:
            return content
    return content[at + 1 :]
