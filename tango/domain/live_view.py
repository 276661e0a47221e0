"""What people see of a running fleet: the picture of now, and how the last minutes went. Values alone; who reads them is a port.

Sizes are bounded whatever the fleet does: nodes are columns, everything else is cut to the newest or the worst, and says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

WINDOW_S = 300.0
"""Seconds of the past that count as the last minutes."""
BUCKET_S = 10.0
"""Seconds of one point of a service's line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCluster:
    """A cluster and the sums over its nodes."""

    name: str
    is_away: bool
    """Whether its agent has been silent for so long that nothing is placed there."""
    age_s: float | None
    """Seconds since its nodes and pods were as they are known; None: never seen."""
    lc_under_way: int
    """LC requests that entered there and have not ended, as its journal last told."""
    lc_late: int
    """Of those, how many are late or wait long for their dispatch."""
    nodes: int
    ready: int
    closed: int
    """Nodes that get no new pods."""
    cpu_millicores: int
    cpu_lc_millicores: int
    cpu_be_millicores: int
    cpu_other_millicores: int
    cpu_used_millicores: float | None
    """Measured; None where nothing is measured."""
    memory_mib: int
    memory_lc_mib: int
    memory_be_mib: int
    memory_other_mib: int
    pods_lc: int
    pods_be: int
    pods_other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNodes:
    """All nodes, columns of shape (n,), by cluster and name. What is held is what pods request; NaN: not measured."""

    cluster: tuple[str, ...]
    name: tuple[str, ...]
    zone: tuple[str, ...]
    ready: NDArray[np.bool_]
    schedulable: NDArray[np.bool_]
    cpu_millicores: NDArray[np.int64]
    cpu_lc_millicores: NDArray[np.int64]
    cpu_be_millicores: NDArray[np.int64]
    cpu_other_millicores: NDArray[np.int64]
    cpu_used_millicores: NDArray[np.float64]
    memory_mib: NDArray[np.int64]
    memory_lc_mib: NDArray[np.int64]
    memory_be_mib: NDArray[np.int64]
    memory_other_mib: NDArray[np.int64]
    memory_used_mib: NDArray[np.float64]
    pods_lc: NDArray[np.int64]
    pods_be: NDArray[np.int64]
    pods_other: NDArray[np.int64]
    pods_most: NDArray[np.int64]
    lc_cpu_pressure: NDArray[np.float64]
    memory_pressure: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.name)

    def of(self, cluster: str) -> LiveNodes:
        """The rows of one cluster."""
        mine = np.array([c == cluster for c in self.cluster], bool)
        rows = np.flatnonzero(mine)
        columns: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, values in columns.items():
            columns[name] = values[mine] if isinstance(values, np.ndarray) else tuple(values[row] for row in rows)
        return LiveNodes(**columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedWork:
    """BE requests of one service that wait in one entry cluster, and LC that waits for its dispatch as the centre knows it."""

    service_class: str
    service: str
    cluster: str
    state: str
    requests: int
    oldest_s: float
    """Seconds since the first of them was due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveRun:
    """A run whose requests may move on, and how far it is. Numbers of requests are exact at the instant of the picture."""

    run_id: int
    kind: str
    name: str
    status: str
    system: str
    speed: float
    span_s: float
    """Length of the trace in trace seconds; 0: not known before, as of a live run."""
    elapsed_s: float | None
    """Wall seconds since its zero; None: not begun."""
    accepted: int
    to_come: int
    waiting: int
    in_flight: int
    succeeded: int
    lost: int
    """Requests that failed, were shed or cancelled."""
    lc_ended: int
    lc_in_time: int
    be_ended: int
    be_succeeded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """What a cluster, a service there or a node refuses, and for how long nothing is tried."""

    cluster: str
    service: str
    node: str
    role: str
    kind: str
    words: str
    times: int
    since_s: float
    """Seconds since it was met first."""
    left_s: float
    """Seconds until something is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTenant:
    """What the last placement of BE saw of a tenant; there are some while several have requests or one has a quota."""

    tenant: str
    weight: float
    share: float
    """Its dominant share, of what LC leaves."""
    weighted_share: float
    """Over its weight: where all want more, these are equal."""
    below_s: float | None
    """Seconds that it has waited below its share; None: it does not."""
    withheld: bool
    """Whether it gets nothing more until another one has its next request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenDecision:
    """A scheduling cycle."""

    at_s: float
    """When it was recorded (Unix time)."""
    kind: str
    cluster: str
    policy: str
    checkpoint: str
    considered: int
    placed: int
    unplaced: int
    late: int
    shed: int
    snapshot_ms: float
    decide_ms: float
    apply_ms: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenScaling:
    """A resize of an LC instance, or an eviction of a BE pod."""

    at_s: float
    kind: str
    cluster: str
    node: str
    service: str
    pod: str
    before_millicores: int | None
    after_millicores: int | None
    reason: str
    outcome: str
    actuation_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveNow:
    """The fleet at one instant, read in one transaction."""

    at_s: float
    """Unix time by the database's clock."""
    fleet: str
    clusters: tuple[LiveCluster, ...]
    nodes: LiveNodes
    queue: tuple[QueuedWork, ...]
    """The oldest first."""
    queue_is_cut: bool
    """Whether more waits than was looked at: then `queue` has the oldest of it."""
    tenants: tuple[LiveTenant, ...]
    """Those that have waited below their shares the longest, then those with the largest shares."""
    runs: tuple[LiveRun, ...]
    paused: tuple[Paused, ...]
    decisions: tuple[SeenDecision, ...]
    """The newest first."""
    scaling: tuple[SeenScaling, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceLately:
    """How a service's requests of open runs fared in the last minutes; latencies and targets in trace time."""

    service: str
    service_class: str
    target_ms: float | None
    ended: int
    """LC requests that were due then and have ended; of BE, attempts that ended then."""
    in_time: int
    """LC: answered within their target. BE: attempts that succeeded."""
    lost: int
    """LC: shed, failed or cancelled. BE: attempts that did not succeed, an eviction for example."""
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    ended_by_bucket: tuple[int, ...]
    """By bucket, the oldest first."""
    in_time_by_bucket: tuple[int, ...]
    tenant: str = ""
    """Whose the service is; empty: it is declared no more."""

    @property
    def missed(self) -> int:
        """What was not in time: late or lost."""
        return self.ended - self.in_time

    @property
    def rate(self) -> float | None:
        """The share in time; None where nothing ended."""
        return self.in_time / self.ended if self.ended else None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsLately:
    """The cycles of the last minutes by who decided."""

    kind: str
    policy: str
    checkpoint: str
    cycles: int
    considered: int
    placed: int
    unplaced: int
    shed: int
    decide_p50_ms: float
    decide_p99_ms: float
    whole_p99_ms: float
    """Snapshot, decision and its carrying out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveLately:
    """What was answered, decided and done in the last minutes."""

    at_s: float
    window_s: float
    """Seconds that were looked at: less than asked for where more happened than is read at once."""
    bucket_s: float
    services: tuple[ServiceLately, ...]
    decisions: tuple[DecisionsLately, ...]

    @property
    def lc_rate(self) -> float | None:
        """The QoS rate of all LC requests of the window; None where none ended."""
        lc = [s for s in self.services if s.service_class == "lc"]
        ended = sum(s.ended for s in lc)
        return sum(s.in_time for s in lc) / ended if ended else None


SUMMED = {
    "nodes": None,
    "ready": "ready",
    "cpu_millicores": "cpu_millicores",
    "cpu_lc_millicores": "cpu_lc_millicores",
    "cpu_be_millicores": "cpu_be_millicores",
    "cpu_other_millicores": "cpu_other_millicores",
    "memory_mib": "memory_mib",
    "memory_lc_mib": "memory_lc_mib",
    "memory_be_mib": "memory_be_mib",
    "memory_other_mib": "memory_other_mib",
    "pods_lc": "pods_lc",
    "pods_be": "pods_be",
    "pods_other": "pods_other",
}
"""Sums of a cluster → the column of its nodes; None: their number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterHeard:
    """What is known of a cluster beside its nodes."""

    name: str
    is_away: bool
    age_s: float | None
    lc_under_way: int
    lc_late: int


def with_sums(clusters: Sequence[ClusterHeard], nodes: LiveNodes) -> tuple[LiveCluster, ...]:
    """The clusters in their order, each with the sums over its nodes. Nodes of a cluster that is away count as not ready."""
    rows = {cluster.name: row for row, cluster in enumerate(clusters)}
    of = np.array([rows.get(name, -1) for name in nodes.cluster], np.int64)
    known = of >= 0

    def summed(column: NDArray[Any] | None) -> NDArray[np.float64]:
        weights = None if column is None else column[known].astype(np.float64)
        return np.bincount(of[known], weights=weights, minlength=len(clusters)).astype(np.float64)

    sums = {name: summed(None if column is None else getattr(nodes, column)) for name, column in SUMMED.items()}
    closed = summed(~nodes.schedulable)
    used = summed(np.nan_to_num(nodes.cpu_used_millicores))
    measured = summed(~np.isnan(nodes.cpu_used_millicores))
    found = []
    for row, cluster in enumerate(clusters):
        own = {name: int(values[row]) for name, values in sums.items()}
        if cluster.is_away:
            own["ready"] = 0
        found.append(
            LiveCluster(
                name=cluster.name,
                is_away=cluster.is_away,
                age_s=cluster.age_s,
                lc_under_way=cluster.lc_under_way,
                lc_late=cluster.lc_late,
                closed=int(closed[row]),
                cpu_used_millicores=float(used[row]) if measured[row] else None,
                **own,
            )
        )
    return tuple(found)
