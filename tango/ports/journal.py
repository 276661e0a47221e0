"""The journal of a cluster: a durable store beside it, in which LC requests that enter there live until they are terminal.

Nothing of it waits for the centre. The cluster's workers dispatch and settle in it, its agent fills it with what is to come and ships
to the centre what has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.observations import InstanceState, NodeState
from tango.domain.runs import RunInfo
from tango.domain.services import Service
from tango.domain.shares import LcInFlight, LcWait, PublishedFleet, ShareRows, Shipment
from tango.domain.snapshot import FleetSnapshot
from tango.ports.callers import CallerRequests
from tango.ports.requests import LcRequests
from tango.ports.tokens import KnownTokens


class JournalFleet(Protocol):
    """The fleet as a cluster knows it: its own nodes by its agent, all others as the centre last published them.

    Raises: StoreUnavailable, also for a snapshot before the first publication.
    """

    def observe(self, nodes: Sequence[NodeState], instances: Sequence[InstanceState]) -> None:
        """Replace the cluster's own nodes and instances."""
        ...

    def publish(self, fleet: PublishedFleet) -> None:
        """Replace what the centre published."""
        ...

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """What was published, with the own cluster as observed and the journal's own requests in flight; `at_s` is its time stamp."""
        ...

    def instances(self) -> list[tuple[str, InstanceState]]:
        """(cluster, instance) of every LC instance: the own ones as observed, others as published."""
        ...

    def services(self) -> tuple[Service, ...]:
        """All declared services, by name, as published; empty before the first publication."""
        ...


class JournalIntake(Protocol):
    """What the agent puts into the journal, and how far that has come. Raises: StoreUnavailable."""

    def belong_to(self, centre: str) -> bool:
        """Serve the centre of this identity from now on; gives whether the journal had served another one and begins anew.

        A new centre numbers its runs from 1 again, and knows nothing of what was shipped to the old one.
        """
        ...

    def note_access(self, kubeconfig: str, context: str) -> None:
        """Keep by which file and context the cluster's API server is reached, for a start of the agent without the centre."""
        ...

    def access(self) -> tuple[str, str] | None:
        """(kubeconfig path, context) as last noted; None: never."""
        ...

    def follow(self, runs: Sequence[RunInfo]) -> None:
        """Keep these runs, as they are now: those that may have requests here. A run that is not named any more is forgotten once
        nothing of it is live and everything is shipped."""
        ...

    def runs(self) -> list[RunInfo]:
        """The runs that the journal keeps, in order of their ids, as they were last followed."""
        ...

    def run(self, run_id: int) -> RunInfo:
        """One of them. Raises: UsageError for one that the journal does not have."""
        ...

    def taken_to(self, run_id: int) -> int:
        """Id of the last request of the run that `take` has put here; -1: none."""
        ...

    def take(self, run_id: int, rows: ShareRows, *, up_to: int = -1) -> int:
        """Accept requests of a run that has not ended; those with ids up to `taken_to` are left out. Gives how many were accepted.

        `taken_to` is then the last of them, or `up_to` where that is more: no other request up to there is live.
        """
        ...

    def take_again(self, run_id: int, rows: ShareRows) -> int:
        """Accept those of the requests up to `taken_to` that are not here any more, nor in any event, and so had ended; gives how many
        there were.

        Only for a centre that has forgotten their ends, and only before anything is shipped to it: what is here has not been shipped, or
        is shipped once more.
        """
        ...

    def cancel_stopped(self, *, limit: int) -> int:
        """Cancel at most `limit` live requests of runs that are being cancelled; gives how many."""
        ...


class JournalLive(Protocol):
    """What the agent does in the journal for requests of callers. Raises: StoreUnavailable."""

    def live_is_wanted(self) -> bool:
        """Whether a caller was turned away within the last minute because no live run was open here."""
        ...

    def numbers_left(self, run_id: int) -> int:
        """How many requests of the run can be accepted before more numbers are needed."""
        ...

    def add_numbers(self, run_id: int, first: int, last: int) -> None:
        """Keep a block of numbers that the centre has given to this cluster; twice: the same."""
        ...

    def give_up_lost(self, run_id: int, rows: ShareRows) -> int:
        """Fail those of a live run's requests, which the centre has as live, that this journal never had: another one of the cluster had
        them and was lost. Gives how many. What is here, or has ended here and is not shipped, is left as it is."""
        ...

    def has_let_go(self, run_id: int) -> bool:
        """Whether a run that was closed has nothing live here any more, and nothing that is not shipped."""
        ...


class JournalShipping(Protocol):
    """What happened in the journal since the last shipment. Raises: StoreUnavailable."""

    def unshipped(self, *, limit: int, beyond: int | None = None) -> Shipment | None:
        """What happened first, at most `limit` events; None where everything is shipped. `beyond`: what happened after the event of this
        number, shipped before or not, which must not be before `first_kept() - 1`.

        What it gives is durable: after a loss of power the journal still has it, so that no sequence number is ever used twice.
        """
        ...

    def first_kept(self) -> int:
        """Sequence number of the first event that the journal still has, whether it was shipped or not; where it has none, of the next."""
        ...

    def shipped(self, last: int) -> None:
        """The centre has everything up to this sequence number: forget terminal requests that nothing is left of, and the events but for
        the last `JournalSettings.kept_events`. A number that was told before changes nothing."""
        ...

    def copy_back(self) -> None:
        """Now and then bring the file up to date with its log, which grows else. To be called often, also while the line is cut."""
        ...

    def in_flight(self) -> list[LcInFlight]:
        """The journal's requests in flight, by service and node."""
        ...

    def lc_wait(self) -> LcWait:
        """How much the journal's requests wait."""
        ...


class Journal(LcRequests, CallerRequests, JournalFleet, JournalIntake, JournalLive, JournalShipping, KnownTokens, Protocol):
    """All of it, as one process has it open."""

    def hold(self, name: str, *, owner: str, ttl_s: float) -> bool:
        """Take or renew a named lease, by which one process at a time does periodic work; False while another owner holds it."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...
