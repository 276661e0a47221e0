"""Files in which processes count, one for each that runs at a time: `0.tally`, `1.tally` and so on in one folder.

A process takes the first file that nobody holds and goes on with the counters that it finds there. So there are as many files as there
were ever processes at one time, however often each was restarted, and counters never fall: neither a restart nor a SIGKILL loses one.
Held is a file by a lock of its open description (fcntl(2), F_OFD_SETLK), which the kernel releases however the process ends, and which
readers can ask for without taking it.

A file is a head and records, each written once: the length of its key, the number of its values, the key as JSON (name of the metric,
values of its labels) filled up to eight bytes, then the values, float64 in the order of the machine. The head says how far it is written;
that is moved on after a record is whole, so a reader sees all of it or nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from tango.telemetry.catalogue import CATALOGUE, Metric, MetricKind

FILE_BYTES = 1 << 20
"""Size of a file, of which only what is used takes room: about 5,000 series of histograms."""
MOST_PROCESSES = 256
"""Files in one folder at the most; processes beyond count for themselves alone."""
_HEAD = struct.Struct("=8sQ")
_MAGIC = b"TANGOTL1"
_RECORD = struct.Struct("=II")
_LOCK = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""

Key = tuple[str, ...]
"""Name of a metric, then the values of its labels."""


class Slot:
    """A file that this process holds, mapped into memory. `values` is all of it as float64: an assignment is seen by readers at once."""

    def __init__(self, descriptor: int) -> None:
        """Take over what is there; what another version left, whose metrics differ, is begun anew. Gauges begin at 0."""
        self._descriptor = descriptor
        os.ftruncate(descriptor, FILE_BYTES)
        self._map = mmap.mmap(descriptor, FILE_BYTES)
        self.values = memoryview(self._map).cast("d")
        self.places: dict[Key, int] = {}
        """Index of the first value of each series."""
        magic, used = _HEAD.unpack_from(self._map)
        try:
            found = list(_records(self._map, used)) if magic == _MAGIC else None
        except ValueError:
            found = None
        if found is None:
            self._map[: max(_HEAD.size, min(used, FILE_BYTES))] = bytes(max(_HEAD.size, min(used, FILE_BYTES)))
            _HEAD.pack_into(self._map, 0, _MAGIC, _HEAD.size)
        for metric, key, at in found or ():
            self.places[key] = at // 8
            if metric.kind is MetricKind.GAUGE:
                self.values[at // 8] = 0.0

    def add(self, key: Key, places: int) -> int | None:
        """Make room for a series; gives the index of its first value, or None where the file is full."""
        used: int = _HEAD.unpack_from(self._map)[1]
        name = json.dumps(key, ensure_ascii=False).encode()
        padded = name + b" " * (-(used + _RECORD.size + len(name)) % 8)
        first = used + _RECORD.size + len(padded)
        end = first + 8 * places
        if end > FILE_BYTES:
            return None
        self._map[first:end] = bytes(8 * places)
        self._map[used:first] = _RECORD.pack(len(padded), places) + padded
        _HEAD.pack_into(self._map, 0, _MAGIC, end)
        self.places[key] = first // 8
        return first // 8

    def close(self) -> None:
        """Give the file to whoever comes next. In a fork: the parent keeps it."""
        self.values.release()
        self._map.close()
        os.close(self._descriptor)


def take(folder: Path) -> Slot | None:
    """The first file of the folder that nobody holds; None where it cannot be written to, or all are held."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(MOST_PROCESSES):
            descriptor = os.open(folder / f"{number}.tally", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
                return Slot(descriptor)
            except BlockingIOError:
                os.close(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
    except OSError:
        return None
    return None


def read_slots(folder: Path) -> Iterator[tuple[Metric, Key, tuple[float, ...], bool]]:
    """(metric, values of its labels, values, whether its process runs) of every series in a folder; none of a folder that is not there.

    A file that cannot be read, or is not one of these, is left out.
    """
    for path in sorted(folder.glob("*.tally")):
        with contextlib.suppress(OSError, ValueError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                magic, used = _HEAD.unpack(os.pread(descriptor, _HEAD.size, 0))
                content, is_held = os.pread(descriptor, min(used, FILE_BYTES), 0), _is_held(descriptor)
            except struct.error as error:  # another process is making it just now
                raise ValueError(str(error)) from error
            finally:
                os.close(descriptor)
            for metric, key, at in list(_records(content, used)) if magic == _MAGIC else ():
                yield metric, key[1:], struct.unpack_from(f"={metric.places}d", content, at), is_held


def _is_held(descriptor: int) -> bool:
    asked = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0))
    return bool(_LOCK.unpack(asked)[0] != fcntl.F_UNLCK)


def _records(content: bytes | mmap.mmap, used: int) -> Iterator[tuple[Metric, Key, int]]:
    """(metric, key, offset of the values) of each record. Raises: ValueError for what this version would not have written."""
    at = _HEAD.size
    if not at <= used <= len(content):
        raise ValueError(f"{used} bytes are said to be written of {len(content)}")
    while at < used:
        size, places = _RECORD.unpack_from(content, at)
        first = at + _RECORD.size + size
        if first + 8 * places > used:
            raise ValueError(f"the record at {at} reaches beyond what is written")
        key = tuple(json.loads(content[at + _RECORD.size : first]))
        metric = CATALOGUE.get(key[0]) if key else None
        if metric is None or metric.places != places or len(metric.labels) != len(key) - 1:
            raise ValueError(f"{key} is no series of this version")
        yield metric, key, first
        at = first + 8 * places
