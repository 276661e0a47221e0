"""The centre's stores, as processes of a chaos world have them: those of `tests/fakes`, held to PostgreSQL by the contract suites, over a
network and with faults, and with every change of a row told to the checks."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

from tango.control.run_facts import RunFacts
from tango.domain.identity import PodKey
from tango.domain.services import ServiceClass
from tango.errors import StoreUnavailable
from tango.settings import Settings
from tests.chaos.network import CENTRE, Network
from tests.chaos.timeline import Timeline
from tests.fakes.be_requests import MemoryBeRequests
from tests.fakes.checkpoints import MemoryCheckpointStore
from tests.fakes.event_log import MemoryEventLog
from tests.fakes.figures_store import MemoryFiguresStore
from tests.fakes.fleet_store import MemoryFleetStore
from tests.fakes.jobs import MemoryJobs
from tests.fakes.lease_store import MemoryLeaseStore
from tests.fakes.live_runs import MemoryLiveRuns
from tests.fakes.memory_state import MemoryState, Row
from tests.fakes.refusals import MemoryRefusals
from tests.fakes.run_store import MemoryRunStore
from tests.fakes.share_store import MemoryShareStore
from tests.fakes.tenants import MemoryTenants
from tests.fakes.tokens import MemoryTokenStore

NUMBERS_IN_BLOCK = 12
"""Numbers of requests that a cluster gets at once: so few that they run out while the line is cut."""
GIVES_UP_AFTER_S = 15.0
"""Seconds after which a call to the centre's store that got no answer is given up (`JournalSettings.centre_within_s`)."""


class WatchedRow(Row):
    """A row whose changes of state and epoch are told."""

    told: Callable[[Row, str, object, object], None]
    added: Callable[[Row], None]
    is_kept = False
    """Whether it is a row of the store, and not a copy of one."""

    def __setattr__(self, name: str, value: object) -> None:
        if self.is_kept and name in ("state", "epoch") and value != (before := getattr(self, name)):
            super().__setattr__(name, value)
            WatchedRow.told(self, name, before, value)
        else:
            super().__setattr__(name, value)


class ClockedState(MemoryState):
    """What the stores keep, by a clock of the database's own machine, later at every call."""

    timeline: Timeline
    skew_s: float = 0.0
    last_s: float = 0.0

    def now_s(self) -> float:
        """Unix time."""
        now_s = max(ClockedState.timeline.now_s + ClockedState.skew_s, ClockedState.last_s + 1e-9)
        ClockedState.last_s = now_s
        return now_s

    def watch(self, run_id: int) -> None:
        """Tell of changes of this run's rows from now on."""
        rows = self.runs[run_id].rows
        for k, row in enumerate(rows):
            rows[k] = _watched(row)

    def add(self, row: Row) -> Row:
        """What comes into a live run is watched from the beginning."""
        WatchedRow.added(row)
        return super().add(_watched(row))


def _watched(row: Row) -> WatchedRow:
    watched = WatchedRow.__new__(WatchedRow)
    for of in fields(Row):
        object.__setattr__(watched, of.name, getattr(row, of.name))
    watched.is_kept = True
    return watched


class Port:
    """A store as processes reach it: over the network, and with what may go wrong there."""

    def __init__(self, name: str, store: Any, centre: Centre) -> None:
        self._name, self._store, self._centre = name, store, centre

    def __getattr__(self, method: str) -> Any:
        found = getattr(self._store, method)
        if not callable(found):
            return found
        centre, what = self._centre, f"{self._name}.{method}"

        def call(*args: Any, **kwargs: Any) -> Any:
            return centre.call(what, found, args, kwargs)

        self.__dict__[method] = call
        return call


class Centre:
    """PostgreSQL, as it were, and what is wrong with it."""

    def __init__(self, timeline: Timeline, network: Network, settings: Settings, dice: random.Random) -> None:
        self.timeline, self.network, self._dice = timeline, network, dice
        ClockedState.timeline, ClockedState.skew_s, ClockedState.last_s = timeline, 0.0, 0.0
        self.state = state = ClockedState(lease=settings.lease, number_block=NUMBERS_IN_BLOCK)
        self.fleet = _Fleet(state, settings.sharing)
        self.runs = MemoryRunStore(state, chunk_rows=settings.store.chunk_rows)
        self.away_until_s = 0.0
        self.repeats_until_s = 0.0
        """Until then connections are lost at commits, and transactions are run again that have been committed."""
        self.calling = ""
        """The method that changes rows now."""
        self.stores: dict[str, Any] = {
            "runs": self.runs,
            "requests": MemoryBeRequests(state, max_attempts=settings.lease.max_attempts, job=settings.job),
            "jobs": MemoryJobs(state),
            "shares": MemoryShareStore(state, self.fleet),
            "figures": MemoryFiguresStore(state),
            "refusals": MemoryRefusals(state, settings.refusal),
            "leases": MemoryLeaseStore(state),
            "fleet": self.fleet,
            "events": MemoryEventLog(state),
            "tokens": MemoryTokenStore(),
            "tenants": MemoryTenants(state),
            "checkpoints": MemoryCheckpointStore(state),
            "live_runs": MemoryLiveRuns(state),
            "readers": NoReaders(),
            "records": CancelledPods(state),
        }
        self._not_awaited: deque[tuple[float, Callable[[], None]]] = deque()
        """What undoes the transactions of the last moments that did not wait for the disk, with when they were committed."""
        self.ports = {name: Port(name, store, self) for name, store in self.stores.items()}

    def call(self, what: str, method: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """One transaction, asked for by the process that runs. Raises: StoreUnavailable."""
        timeline, network = self.timeline, self.network
        process = timeline.current
        assert process is not None, f"{what} is called by nobody"
        site = process.machine.name
        if (closed_s := network.open_in_s(site, CENTRE)) > 0.0 and timeline.may_wait:
            timeline.sleep(min(closed_s, GIVES_UP_AFTER_S))
            if closed_s > GIVES_UP_AFTER_S:
                raise StoreUnavailable(f"{what}: no answer from the centre within {GIVES_UP_AFTER_S:g} s")
        with timeline.step(what, network.latency_s(site, CENTRE)):
            if self.away_until_s > timeline.now_s:
                network.seen.add("store away")
                raise StoreUnavailable(f"{what}: the store is away")
            self.calling = what
            if what in NOT_AWAITED:
                self._note_undo()
            try:
                result = method(*args, **kwargs)
                if self.repeats_until_s > timeline.now_s and self._dice.random() < 0.3 and what not in ONCE:
                    network.seen.add("transaction run again")
                    result = method(*args, **kwargs)
            finally:
                self.calling = ""
        if network.loses_answer(site, CENTRE) and timeline.may_wait:
            timeline.sleep(self._dice.uniform(0.5, GIVES_UP_AFTER_S))
            raise StoreUnavailable(f"{what}: the answer was lost")
        return result

    def _note_undo(self) -> None:
        state, fleet, now_s = self.state, self.fleet, self.timeline.now_s
        kept = dict(state.in_flight), dict(state.lc_waits), dict(fleet._nodes), dict(fleet._instances)

        def undo() -> None:
            state.in_flight, state.lc_waits, fleet._nodes, fleet._instances = kept

        self._not_awaited.append((now_s, undo))
        while self._not_awaited[0][0] < now_s - WRITTEN_WITHIN_S:
            self._not_awaited.popleft()

    def lose_power(self) -> None:
        """What did not wait for the disk is as it was a moment ago, and some of it a little later."""
        since_s = self.timeline.now_s - self._dice.uniform(0.0, WRITTEN_WITHIN_S)
        lost = [undo for at_s, undo in self._not_awaited if at_s >= since_s]
        if lost:
            self.network.seen.add("observations lost")
            lost[0]()
        self._not_awaited.clear()


NOT_AWAITED = frozenset({"shares.note_in_flight", "fleet.observe", "fleet.observe_all"})
"""Methods whose transactions do not wait for the disk (`tango.store.database.NOT_AWAITED`)."""
WRITTEN_WITHIN_S = 0.6
"""Seconds within which they are there all the same: three times PostgreSQL's `wal_writer_delay`."""
ONCE = frozenset({"runs.create_run"})
"""Methods that `tango.store` does not run again after a commit without an answer (`Database.run`, `once`)."""


class Here:
    """The stores of one process: what `tango.bootstrap.stores.Stores` has, on the fakes."""

    def __init__(self, centre: Centre, settings: Settings, owner: str, clock: Any) -> None:
        self.settings, self.owner, self.clock = settings, owner, clock
        for name, port in centre.ports.items():
            setattr(self, name, port)
        self.run_facts = RunFacts(centre.ports["runs"], clock)  # type: ignore[arg-type]


class _Fleet(MemoryFleetStore):
    """With what an agent asks for beside the port."""

    def credentials(self, cluster: str) -> tuple[str, str]:
        """Of every cluster, by its name."""
        return "kubeconfig", cluster


class NoReaders:
    """Nobody reads by hand."""

    def end_overlong(self) -> int:
        """None."""
        return 0


class CancelledPods:
    """The recorded pods of cancelled requests, as `tango.store.run_records` finds them."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def cancelled_pods(self, run_id: int) -> list[PodKey]:
        """Of BE attempts that the cancellation ended."""
        ended = {a.request_id for a in self._state.attempts if a.run_id == run_id and a.outcome == "cancelled"}
        rows = self._state.requests(run_id, ended)
        return [PodKey(r.target_cluster, r.pod) for r in rows if r.service_class is ServiceClass.BE and r.pod]
