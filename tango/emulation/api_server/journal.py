"""A write-ahead log: an append-only file of writes, so that every acknowledged write survives SIGKILL.

Order: a line reaches the kernel by write(2) before the response is sent, so it outlives the process. fsync(2) follows within 50 ms,
which bounds what a power cut can take. At start, and when the log has grown, it is compacted: the current objects are written to a new
file, which replaces the old one by rename(2).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from tango.errors import ConfigError

COMPACT_BYTES = 64 * 2**20
"""Size below which the log is not compacted. Chosen: reading it at a start takes about a second."""
Entry = tuple[int, str, str, str, dict[str, object] | None]
"""(resource version, resource key, namespace, name, object); None as object means that it was deleted."""


class ObjectLog:
    """The log `journal.jsonl` in a folder: lines `[resource version, resource key, namespace, name, object or null]`.

    With None as folder nothing is kept. Raises: ConfigError if another process holds the folder's lock.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._descriptor = -1
        self._lock = -1
        self._bytes = 0
        self._compacted_bytes = 0
        self.dirty = False
        self.appended = asyncio.Event()
        """Set by every line that is to be synced; whoever waits for it clears it."""
        if folder is not None:
            self._lock = _locked(folder)

    @property
    def wants_compaction(self) -> bool:
        """Whether the log is over `COMPACT_BYTES` and more than three times as long as after the last compaction.

        The second condition keeps a large but stable set of objects from being rewritten for every few writes.
        """
        return self._bytes > COMPACT_BYTES and self._bytes > 3 * self._compacted_bytes

    def read(self) -> Iterator[Entry]:
        """All entries. An incomplete last line, as a crash leaves it, was never acknowledged and is dropped.

        Raises: ConfigError for a line that cannot be parsed and is followed by others, which no crash explains.
        """
        if self._folder is None or not (self._folder / "journal.jsonl").exists():
            return
        path, torn = self._folder / "journal.jsonl", 0
        with path.open("rb") as file:
            for number, text in enumerate(file, 1):
                entry = _entry(text)
                if entry is None:
                    torn = torn or number
                elif torn:
                    raise ConfigError(
                        f"{path} is damaged: line {torn} cannot be read, yet line {number} can. Restore the file from a copy, or delete "
                        f"line {torn} to go on without that write."
                    )
                else:
                    yield entry

    def rewrite(self, lines: Iterable[bytes]) -> None:
        """Replace the log by these lines, durably. Raises: OSError; the old file then stays in use."""
        if self._folder is None:
            return
        fresh = self._folder / "journal.new"
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for text in lines:
                file.write(text)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(fresh, self._folder / "journal.jsonl")
        _sync_folder(self._folder)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = os.open(self._folder / "journal.jsonl", os.O_WRONLY | os.O_APPEND)
        self._bytes = self._compacted_bytes = size

    def append(self, text: bytes) -> None:
        """Hand one line to the kernel. Raises: OSError; the file is then as long as before the call."""
        if self._descriptor < 0:
            return
        try:
            written = os.write(self._descriptor, text)
            while written < len(text):  # a short write happens when the disk is nearly full; the next one raises if nothing fits
                written += os.write(self._descriptor, text[written:])
        except OSError:
            # Without this the next line would be appended to half a line, and both would be unreadable.
            os.ftruncate(self._descriptor, self._bytes)
            raise
        self._bytes += len(text)
        self.dirty = True
        self.appended.set()

    def sync(self) -> None:
        """fsync what was appended since the last call. Runs in a thread of its own, beside `append`. Raises: OSError."""
        if self.dirty and self._descriptor >= 0:
            # Cleared before the fsync: a line that is appended meanwhile sets it again and is synced by the next call.
            self.dirty = False
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync, close the file and release the folder's lock."""
        self.sync()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1


def line(rv: int, resource: str, namespace: str, name: str, payload: bytes | None) -> bytes:
    """One line of the log; `payload` is the object's JSON, serialised once by `storage`, None for a deletion."""
    head = orjson.dumps([rv, resource, namespace, name])
    return head[:-1] + b"," + (payload or b"null") + b"]\n"


def _entry(text: bytes) -> Entry | None:
    if not text.endswith(b"\n"):
        return None
    try:
        rv, resource, namespace, name, item = orjson.loads(text)
    except (TypeError, ValueError):
        return None
    return rv, resource, namespace, name, item


def _locked(folder: Path) -> int:
    """A descriptor that holds an exclusive flock(2) on the folder; the kernel releases it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(
            f"the data folder {folder} is in use by another API server; stop it, or choose another --data-dir"
        ) from error
    return descriptor


def _sync_folder(folder: Path) -> None:
    """fsync a folder, which makes a rename inside it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
