"""How this process's LC requests were answered, by service and node: what dispatch policies that go by experience are told.

It is noted by the very step that the engine notes by (`scheduling.lc.seen_answers`), and from the first time on that such a policy asks:
while none decides, nothing is noted. Each process has seen its own requests alone, as each proxy of a mesh has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tango.domain.identity import NodeKey
from tango.domain.seen_answers import SEEN
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.seen_answers import note_answer, note_failure


class SeenAnswers:
    """The answers of one process to one entry cluster. Thread-safe: dispatch asks in one thread, calls tell in another."""

    def __init__(self, *, now_s: Callable[[], float] = time.time) -> None:
        """`now_s` is the clock of snapshots."""
        self._now_s = now_s
        self._lock = threading.Lock()
        self._of: FleetSnapshot | None = None
        """A snapshot with the rows that `_seen` has; None: nobody has asked yet."""
        self._seen: NDArray[np.void] = np.zeros(0, SEEN)
        """(s * n,) service by service"""
        self._row: dict[tuple[str, NodeKey], int] = {}

    def told(self, snapshot: FleetSnapshot) -> FleetSnapshot:
        """The snapshot with what has been seen. The column is this object's own: whoever keeps it longer than a plan takes a copy."""
        with self._lock:
            known = self._of
            if known is None or not (_are_the_same(known, snapshot) or known.has_rows_of(snapshot)):
                self._arrange(snapshot)
            self._of = snapshot
            return replace(snapshot, answers=self._seen.reshape(len(snapshot.services), len(snapshot.nodes)))

    def answered(self, service: str, node: NodeKey, *, answer_s: float, served_s: float) -> None:
        """A request was answered just now, `answer_s` after it was sent, of which service took `served_s`."""
        with self._lock:
            row = self._row.get((service, node))
            if row is not None:
                note_answer(self._seen, row, self._now_s(), answer_s, served_s)

    def failed(self, service: str, node: NodeKey) -> None:
        """A call came to nothing just now."""
        with self._lock:
            row = self._row.get((service, node))
            if row is not None and self._of is not None:
                nodes = len(self._of.nodes)
                note_failure(self._seen, row, row - row % nodes, nodes, self._now_s())

    def _arrange(self, snapshot: FleetSnapshot) -> None:
        """Give what is known the rows of a snapshot; what is of no row any more is forgotten."""
        before, were = self._seen, self._row
        places = [(service.name, key) for service in snapshot.services for key in snapshot.node_keys]
        self._row = {place: row for row, place in enumerate(places)}
        self._seen = np.zeros(len(places), SEEN)
        for place, row in self._row.items():
            if place in were:
                self._seen[row] = before[were[place]]


def _are_the_same(one: FleetSnapshot, other: FleetSnapshot) -> bool:
    return one.nodes is other.nodes and one.node_cluster is other.node_cluster and one.services is other.services
