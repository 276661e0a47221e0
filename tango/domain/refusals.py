"""Refusals: a cluster, or a node's kubelet, did not take a pod for a reason that is its own and not the request's.

    what it speaks of     kinds                                                         paused meanwhile
    a cluster             credentials, permission, namespace, throttled, unreachable    all placements there
    a service there       quota, admission; in a namespace of its own                   that service there
                          permission, namespace
    a node, for a service node                                                          that service on that node

Each is a row that pauses what it speaks of: at first for a second, twice as long with each refusal that follows a pause, up to a bound,
less a random part. When the pause is over one pod at a time is tried (half-open, as circuit breakers have it); when that one is taken the
row goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.refusal_kind import RefusalKind
from tango.domain.snapshot import FleetSnapshot

MOST_WORDS = 500
"""Characters that are kept of what a server said; Pod Security lists every field that it objects to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One refusal, as it was met."""

    cluster: str
    kind: RefusalKind
    words: str
    """The server's own, at most `MOST_WORDS` characters."""
    service: str = ""
    """Empty: of all services."""
    node: str = ""
    """Empty: of all nodes."""
    at_least_s: float = 0.0
    """Seconds that the server asked to wait."""

    @classmethod
    def of(
        cls,
        kind: RefusalKind,
        *,
        cluster: str,
        service: str,
        words: str,
        node: str = "",
        namespace: str = "",
        at_least_s: float = 0.0,
    ) -> Refusal:
        """For the scope that the kind speaks of.

        `namespace`: that of the pod where it is not Tango's own. What may not be done there, or a namespace that is not there, is its
        owner's matter and the service's: others go on.
        """
        is_of_service = kind.is_of_service or (bool(namespace) and kind.is_of_namespace)
        return cls(
            cluster=cluster,
            kind=kind,
            words=words[:MOST_WORDS],
            service=service if is_of_service else "",
            node=node if kind is RefusalKind.NODE else "",
            at_least_s=at_least_s,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalState:
    """A row: what is paused, why, and until when."""

    cluster: str
    service: str
    node: str
    role: str
    """Who met it: `scheduler` or `agent`, which may have credentials of their own."""
    kind: RefusalKind
    words: str
    times: int
    """Refusals in a row, each after a pause."""
    since_s: float
    """Unix time of the first of them."""
    left_s: float
    """Seconds until its pause is over; 0 or less: one pod at a time is tried."""

    @property
    def is_paused(self) -> bool:
        """Whether nothing is tried now."""
        return self.left_s > 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.words}"


@dataclass(frozen=True, slots=True)
class Pauses:
    """All rows at one instant, as the placement asks them."""

    states: tuple[RefusalState, ...] = ()

    def barred(self, snapshot: FleetSnapshot) -> NDArray[np.bool_]:
        """(s, n) where no pod of a service may be put now."""
        found = np.zeros((len(snapshot.services), len(snapshot.nodes)), np.bool_)
        for state in self.states:
            if state.is_paused:
                found |= _rows(state, snapshot)
        return found

    def one_of_each(self, service: NDArray[np.int32], node: NDArray[np.int32], snapshot: FleetSnapshot) -> NDArray[np.int32]:
        """The plan `node` of requests of these services, with all but one taken back (-1) of what would try each row that is over."""
        kept = node.copy()
        for state in self.states:
            if state.is_paused:
                continue
            placed = np.flatnonzero(kept >= 0)
            tries = placed[_rows(state, snapshot)[service[placed], kept[placed]]]
            kept[tries[1:]] = -1
        return kept

    def of(self, cluster: str) -> Sequence[RefusalState]:
        """The refusals of one cluster."""
        return [state for state in self.states if state.cluster == cluster]


def _rows(state: RefusalState, snapshot: FleetSnapshot) -> NDArray[np.bool_]:
    """(s, n) what a row speaks of."""
    services = np.array([state.service in ("", s.name) for s in snapshot.services], np.bool_)
    of_cluster = np.array([name == state.cluster for name in snapshot.clusters], np.bool_)[snapshot.node_cluster]
    nodes = of_cluster & np.array([state.node in ("", name) for name in snapshot.nodes], np.bool_)
    found: NDArray[np.bool_] = services[:, None] & nodes[None, :]
    return found
