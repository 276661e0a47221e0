"""Counting in this process: a few additions in memory, which is a file (`slots.py`) where the environment names a folder for them.

Without one nothing is counted, and a call costs a look at one variable. A metric has `MOST_SERIES` series in a process at the most;
what comes beyond is counted under `other`, so that no name from outside can let a scrape grow. As with logging there is one account for
the whole process; a fork begins one of its own.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tango.telemetry.catalogue import OTHER, SERIES_FOLDED, Metric
from tango.telemetry.slots import Key, Slot, take

METRICS_DIR = "TANGO_METRICS_DIR"
"""Environment variable with the folder in which processes count; without it none does."""
MOST_SERIES = 500
"""Series of one metric in one process. Services times outcomes of a large installation are a few hundred."""


class Account:
    """The counts of one process, in the slot that it holds. Thread-safe."""

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._values = slot.values
        self._places = slot.places
        self._series: Counter[str] = Counter(key[0] for key in slot.places)
        self._lock = threading.Lock()

    def count(self, metric: Metric, labels: tuple[str, ...], by: float) -> None:
        """Add to a series of one value."""
        with self._lock:
            at = self._places.get((metric.name, *labels)) or self._place(metric, labels)
            if at:
                self._values[at] += by

    def put(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge."""
        with self._lock:
            at = self._places.get((metric.name, *labels)) or self._place(metric, labels)
            if at:
                self._values[at] = value

    def observe(self, metric: Metric, labels: tuple[str, ...], values: Iterable[float]) -> None:
        """Add values to a histogram."""
        buckets, last = metric.buckets, metric.places - 1
        with self._lock:
            at = self._places.get((metric.name, *labels)) or self._place(metric, labels)
            if at:
                for value in values:
                    self._values[at + bisect_left(buckets, value)] += 1.0
                    self._values[at + last] += value

    def close(self) -> None:
        """Give the slot back."""
        with self._lock:
            self._places = {}
            self._slot.close()

    def _place(self, metric: Metric, labels: tuple[str, ...]) -> int | None:
        """A place for a new series, or that of `other`; None where the file is full. Places begin behind the head, so none is 0."""
        key: Key = (metric.name, *labels)
        if self._series[metric.name] < MOST_SERIES - 1 and (found := self._slot.add(key, metric.places)):
            self._series[metric.name] += 1
            return found
        folded = (SERIES_FOLDED.name,)
        if (at := self._places.get(folded) or self._slot.add(folded, 1)) is not None:
            self._values[at] += 1.0
        other = (metric.name, *(OTHER for _ in labels))
        return self._places.get(other) or self._slot.add(other, metric.places)


_account: Account | None = None
_is_begun = False
_begin = threading.Lock()


def begin(folder: str | None = None) -> Account | None:
    """Begin to count, in this folder or that of the environment; gives the account, None where nothing is counted. The first call of
    `count`, `put` or `observe` does so too."""
    global _account, _is_begun
    with _begin:
        if not _is_begun:
            named = os.environ.get(METRICS_DIR) if folder is None else folder
            slot = take(Path(named)) if named else None
            _account, _is_begun = (Account(slot) if slot is not None else None), True
        return _account


def end() -> None:
    """Count no more, and give the file back; another call begins anew."""
    global _account, _is_begun
    with _begin:
        if _account is not None:
            _account.close()
        _account, _is_begun = None, False


def count(metric: Metric, *labels: str, by: float = 1.0) -> None:
    """Add to a counter, or to a gauge."""
    account = _account if _is_begun else begin()
    if account is not None:
        account.count(metric, labels, by)


def put(metric: Metric, *labels: str, value: float) -> None:
    """Set a gauge. Those of several processes are added up; that of a process which has ended counts as 0."""
    account = _account if _is_begun else begin()
    if account is not None:
        account.put(metric, labels, value)


def observe(metric: Metric, *labels: str, values: Iterable[float]) -> None:
    """Add values to a histogram, in the metric's unit."""
    account = _account if _is_begun else begin()
    if account is not None:
        account.observe(metric, labels, values)


def _begin_after_fork() -> None:
    """In the child: its parent goes on in the file that both have open, and a lock may be held by a thread that is not there."""
    global _account, _is_begun, _begin
    _begin = threading.Lock()
    account, _account, _is_begun = _account, None, False
    if account is not None:
        account._slot.close()


os.register_at_fork(after_in_child=_begin_after_fork)
