"""Durability: an append-only log of writes, so that what was acknowledged survives SIGKILL.

A line is written with write(2) before the answer goes out, which outlives the process; fsync follows at most every 50 ms, which
bounds what a loss of power can take. At start, and when the log has grown, the current objects are written to a fresh file that replaces
the old one by rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

COMPACT_BYTES = 64 * 2**20


class Journal:
    """One file of lines `[rv, resource key, namespace, name, object or null]`; None as folder keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._descriptor = -1
        self._bytes = 0
        self._compacted_bytes = 0
        self.dirty = False

    @property
    def wants_compaction(self) -> bool:
        """The log is large, and several times what the objects need."""
        return self._bytes > COMPACT_BYTES and self._bytes > 3 * self._compacted_bytes

    def read(self) -> Iterator[tuple[int, str, str, str, dict[str, object] | None]]:
        """All complete lines; a last line that was cut by a crash was never acknowledged and is dropped."""
        if self._folder is None or not (self._folder / "journal.jsonl").exists():
            return
        with (self._folder / "journal.jsonl").open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return
                try:
                    rv, resource, namespace, name, item = orjson.loads(line)
                except (orjson.JSONDecodeError, ValueError):
                    return
                yield rv, resource, namespace, name, item

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the file by these lines, durably."""
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._folder / "journal.new"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for line in lines:
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(fresh, self._folder / "journal.jsonl")
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._folder / "journal.jsonl", os.O_WRONLY | os.O_APPEND)
        self._bytes = self._compacted_bytes = size

    def append(self, line: bytes) -> None:
        """Write one line through to the kernel."""
        if self._descriptor < 0:
            return
        written = os.write(self._descriptor, line)
        while written < len(line):  # a short write: the disk is nearly full; the rest raises if it does not fit
            written += os.write(self._descriptor, line[written:])
        self._bytes += len(line)
        self.dirty = True

    def sync(self) -> None:
        """fsync what was written since the last time."""
        if self.dirty and self._descriptor >= 0:
            self.dirty = False
            os.fsync(self._descriptor)


def line(rv: int, resource: str, namespace: str, name: str, payload: bytes | None) -> bytes:
    """One line, around the object's ready JSON."""
    head = orjson.dumps([rv, resource, namespace, name])
    return head[:-1] + b"," + (payload or b"null") + b"]\n"
