"""Durability: an append-only log of writes, so that what was acknowledged survives SIGKILL.

A line is written with write(2) before the answer goes out, which outlives the process; fsync follows at most every 50 ms, which
bounds what a loss of power can take. At start, and when the log has grown, the current objects are written to a fresh file that replaces
the old one by rename.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from tango.errors import ConfigError

COMPACT_BYTES = 64 * 2**20
Entry = tuple[int, str, str, str, dict[str, object] | None]
"""Resource version, resource key, namespace, name, object; None as object is a delete."""


class Journal:
    """One file of lines `[rv, resource key, namespace, name, object or null]`; None as folder keeps nothing.

    Raises: ConfigError while another process has the folder.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._descriptor = -1
        self._lock = -1
        self._bytes = 0
        self._compacted_bytes = 0
        self.dirty = False
        if folder is not None:
            self._lock = _locked(folder)

    @property
    def wants_compaction(self) -> bool:
        """The log is large, and several times what the objects need."""
        return self._bytes > COMPACT_BYTES and self._bytes > 3 * self._compacted_bytes

    def read(self) -> Iterator[Entry]:
        """All complete lines; a last line that was cut by a crash was never acknowledged and is dropped.

        Raises: ConfigError for a line that cannot be read though more follow: that is damage, no crash.
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
        """Replace the file by these lines, durably. Raises: OSError, and then the old file stays in use."""
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
        """Write one line through to the kernel. Raises: OSError, and then the file ends where it did before."""
        if self._descriptor < 0:
            return
        try:
            written = os.write(self._descriptor, text)
            while written < len(text):  # a short write: the disk is nearly full; the rest raises if it does not fit
                written += os.write(self._descriptor, text[written:])
        except OSError:
            # Half a line would swallow the next one.
            os.ftruncate(self._descriptor, self._bytes)
            raise
        self._bytes += len(text)
        self.dirty = True

    def sync(self) -> None:
        """fsync what was written since the last time."""
        if self.dirty and self._descriptor >= 0:
            self.dirty = False
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Sync, and let others have the folder."""
        self.sync()
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1


def line(rv: int, resource: str, namespace: str, name: str, payload: bytes | None) -> bytes:
    """One line, around the object's ready JSON."""
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
    """A descriptor that holds the folder; the kernel lets go when the process ends, however it ends."""
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
    """Make a rename in it durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
