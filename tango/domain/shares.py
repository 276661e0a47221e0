"""A cluster's share of a run: the LC requests that enter there, handed to its journal and, as they change, shipped back as copies.

An LC request belongs to the journal of its entry cluster from the hand-over until it is terminal: nobody else changes it. What the
centre has of it are copies, which follow by sequence number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.observations import InstanceState
from tango.domain.runs import DecisionRecord, RunInfo
from tango.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRows:
    """LC requests of one run that enter one cluster, in order of their ids and so of their due times, shape (n,)."""

    request_id: NDArray[np.int64]
    service: tuple[str, ...]
    due_s: NDArray[np.float64]
    """Wall seconds since the run began."""
    target_s: NDArray[np.float64]
    """Wall seconds from the due time to the answer."""
    cpu_work_s: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    epoch: NDArray[np.int32]
    """As the centre's copy has it: above 0 where a journal that had the request before was lost."""
    attempt: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.request_id)


class RequestCopy(NamedTuple):
    """An LC request as its journal has it after the last change that a shipment tells of. Times are wall seconds since the run began."""

    run_id: int
    request_id: int
    state: str
    epoch: int
    attempt: int
    cluster: str | None
    """Where it was dispatched to, with `node`; None: nowhere yet."""
    node: str | None
    owner: str | None
    late: bool
    started_s: float | None
    finished_s: float | None
    reason: str


class AcceptedCopy(NamedTuple):
    """A caller's request whose acceptance a shipment tells of: what never changes, and how it stands at the shipment's end."""

    copy: RequestCopy
    service: str
    due_s: float
    target_s: float
    cpu_work_s: float
    memory_mib: float
    tenant: str


class AttemptCopy(NamedTuple):
    """An attempt that has ended, as the table `attempt` keeps it."""

    run_id: int
    request_id: int
    epoch: int
    service: str
    cluster: str | None
    node: str | None
    started_s: float | None
    finished_s: float | None
    latency_s: float | None
    outcome: str
    reason: str
    work_lost_s: float
    ended_at_s: float
    """Unix time by the cluster's clock."""
    released_at_s: float | None = None
    """Since when it waited for this attempt: Unix time by the same clock, as the next."""
    dispatched_at_s: float | None = None
    sent_s: float | None = None
    """When its instance was called, wall seconds since the run began."""
    decided: int | None = None
    """`DecisionCopy.sequence` of what gave it out."""


class DecisionCopy(NamedTuple):
    """An LC dispatch, as the table `decision` keeps it."""

    run_id: int
    at_s: float
    """Unix time by the cluster's clock."""
    record: DecisionRecord
    apply_ms: float
    """Milliseconds that recording it took."""
    sequence: int = 0
    """Its number among the events of its journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """What happened in a journal from one sequence number to another, both included: the last state of each request that changed."""

    cluster: str
    journal: str
    """Identity of the journal, drawn when its file was made: a new journal begins again at sequence number 1."""
    first: int
    last: int
    requests: tuple[RequestCopy, ...]
    """Of requests that the centre has by now."""
    attempts: tuple[AttemptCopy, ...]
    decisions: tuple[DecisionCopy, ...]
    accepted: tuple[AcceptedCopy, ...] = ()
    """Of requests that the centre does not have yet, in order of (run, request)."""


class LcInFlight(NamedTuple):
    """LC requests of one entry cluster that are dispatched to one node and not settled."""

    service: str
    cluster: str
    node: str
    requests: int
    scale: float
    """Sum over them of what their run multiplies works by: 1 each in trace time, 1 / speed each in a run that is sped up."""


class LcWait(NamedTuple):
    """How much the LC requests wait that entered one cluster."""

    under_way: int = 0
    """Released and not ended."""
    late: int = 0
    """Of these, how many are expected beyond their target, or have waited for their dispatch for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFleet:
    """The fleet as the centre last published it to one cluster: without the LC requests of that cluster's own journal."""

    snapshot: FleetSnapshot
    instances: tuple[tuple[str, InstanceState], ...]
    """(cluster, instance) of every known LC instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareState:
    """How far a cluster's share of a run has come, as the centre knows it."""

    run_id: int
    cluster: str
    accepted: int
    """Number of LC requests of the share."""
    handed_to: int
    """Id of the last request that the journal is known to have; -1: none."""
    complete: bool
    """The journal has the whole share, or takes no more of it because the run was stopped."""
    terminal: int
    """Number of its requests whose copies are terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """What the journals of some clusters are to follow, as the centre has it at one instant."""

    shares: Mapping[str, Sequence[tuple[RunInfo, ShareState]]]
    """By cluster, the runs with a share of it that have not ended, in order of their ids."""
    is_open: bool
    """Whether any run that replays a trace has not ended, whoever has a share of it. Live runs are open for days, used or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalGap:
    """Events that a cluster's journals had shipped and forgotten when the centre was restored from a backup: they are lost."""

    cluster: str
    missing: int
    """How many events are lost."""
    at_s: float
    """When the journal went on without the last of them (Unix time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedTo:
    """Up to which sequence number a cluster's journal has been shipped."""

    cluster: str
    journal: str
    sequence: int
    at_s: float
    """Unix time of the last shipment, by the database's clock."""
