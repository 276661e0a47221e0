"""What a gateway needs of a journal, in memory: implements `tango.gateway.view.GatewayJournal`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tango.domain.calls import Accepted, Answer, CalledWork, CallerRequest, Calls, CallStanding
from tango.domain.identity import RequestKey
from tango.domain.observations import InstanceState, NodeState
from tango.domain.requests import Reason, RequestState
from tango.domain.services import Service
from tango.domain.shares import PublishedFleet
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tokens import KnownToken
from tango.errors import NotOpen, StoreUnavailable

RUN = 7


@dataclass(slots=True)
class _Row:
    request: CallerRequest
    standing: CallStanding
    epoch: int = 0
    answer: Answer | None = None


class MemoryCallers:
    """The journal of c1 with a live run, which tests close or take away; nothing is ever dropped."""

    def __init__(self, services: Sequence[Service] = (), *, wall_s: Callable[[], float] = lambda: 1_700_000_000.0) -> None:
        self._wall_s, self._lock = wall_s, threading.Lock()
        self._services, self._tokens = tuple(services), list[KnownToken]()
        self._rows: dict[RequestKey, _Row] = {}
        self._keys: dict[tuple[str, str], RequestKey] = {}
        self.ready: list[tuple[str, InstanceState]] = []
        self.is_open, self.is_away = True, False
        self.together: list[int] = []
        """How many requests each transaction accepted."""
        self.is_disk_broken = False
        self.disk = threading.Event()
        """Cleared: the disk hangs."""
        self.disk.set()
        self.on_disk = 0
        """How many rows there were when the disk was last waited for."""

    # ---- what callers bring

    def accept(self, requests: Sequence[CallerRequest]) -> list[Accepted]:
        """Numbers from 0."""
        with self._here():
            if not self.is_open:
                raise NotOpen("no live run is open")
            self.together.append(len(requests))
            return [self._accepted(request) for request in requests]

    def wait_for_disk(self) -> None:
        """Counted, with how many rows there were."""
        self.disk.wait()
        with self._here():
            if self.is_disk_broken:
                raise StoreUnavailable("the journal cannot be written to its disk")
            self.on_disk = len(self._rows)

    def opens(self) -> bool:
        """As `is_open` has it."""
        with self._here():
            return self.is_open

    def withdraw(self, keys: Sequence[RequestKey], *, reason: Reason) -> int:
        """Those that are live."""
        with self._here():
            live = [row for row in map(self._rows.get, keys) if row is not None and not row.standing.has_ended]
            for row in live:
                row.standing = replace(row.standing, state=RequestState.CANCELLED, reason=str(reason))
            return len(live)

    def standings(self, keys: Sequence[RequestKey]) -> dict[RequestKey, CallStanding]:
        """As they are."""
        with self._here():
            return {key: self._rows[key].standing for key in keys if key in self._rows}

    def answer(self, key: RequestKey) -> Answer | None:
        """As kept."""
        with self._here():
            return self._rows[key].answer if key in self._rows else None

    def calls(self, keys: Sequence[RequestKey]) -> Calls:
        """Until they have ended."""
        with self._here():
            rows = {key: self._rows[key] for key in keys if key in self._rows and not self._rows[key].standing.has_ended}
            return {key: CalledWork(call=row.request.call, answer_to=row.request.answer_to) for key, row in rows.items()}

    def keep_answers(self, answers: Sequence[tuple[RequestKey, Answer]]) -> None:
        """The first one stays."""
        with self._here():
            for key, answer in answers:
                self._rows[key].answer = self._rows[key].answer or answer

    def still_run(self, keys: Sequence[tuple[RequestKey, int]]) -> set[RequestKey]:
        """Those that run."""
        with self._here():
            return {
                key
                for key, epoch in keys
                if key in self._rows and self._rows[key].standing.state is RequestState.RUNNING and self._rows[key].epoch == epoch
            }

    def drop_old(self, *, limit: int) -> int:
        """Nothing grows old."""
        return 0

    # ---- the fleet

    def observe(self, nodes: Sequence[NodeState], instances: Sequence[InstanceState]) -> None:
        """Those of c1."""
        self.ready = [("c1", instance) for instance in instances]

    def declare(self, *services: Service) -> None:
        """These, as a publication would bring them."""
        self._services = services

    def publish(self, fleet: PublishedFleet) -> None:
        """Its services."""
        self._services = fleet.snapshot.services

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """Gateways do not ask."""
        raise NotImplementedError

    def instances(self) -> list[tuple[str, InstanceState]]:
        """As observed."""
        with self._here():
            return list(self.ready)

    def services(self) -> tuple[Service, ...]:
        """As published."""
        return self._services

    def admit(self, tokens: Sequence[KnownToken]) -> None:
        """All of them."""
        self._tokens = list(tokens)

    def admitted(self) -> tuple[KnownToken, ...]:
        """As last told."""
        return tuple(self._tokens)

    # ---- what happens to them

    def start(self, key: RequestKey) -> int:
        """An attempt begins; gives its epoch."""
        with self._lock:
            row = self._rows[key]
            row.epoch += 1
            row.standing = replace(row.standing, state=RequestState.RUNNING, attempt=row.epoch, node="c1/c1-n1")
            return row.epoch

    def end(self, key: RequestKey, state: RequestState, reason: str = "", *, latency_s: float | None = None) -> None:
        """It ends, unless it has ended before."""
        with self._lock:
            row = self._rows[key]
            if not row.standing.has_ended:
                row.standing = replace(row.standing, state=state, reason=reason, latency_s=latency_s)

    def sent(self, key: RequestKey) -> CallerRequest:
        """What was accepted under this key."""
        return self._rows[key].request

    @property
    def keys(self) -> list[RequestKey]:
        """All requests, in order."""
        return list(self._rows)

    def _here(self) -> threading.Lock:
        if self.is_away:
            raise StoreUnavailable("the journal cannot be used")
        return self._lock

    def _accepted(self, request: CallerRequest) -> Accepted:
        known = self._keys.get((request.tenant, request.key)) if request.key else None
        if known is not None:
            return Accepted(key=known, is_new=False, is_taken=request.digest != self._rows[known].request.digest)
        key = RequestKey(RUN, len(self._rows))
        if request.key:
            self._keys[request.tenant, request.key] = key
        standing = CallStanding(
            state=RequestState.RELEASED, service=request.service, tenant=request.tenant, due_at_s=self._wall_s()
        )
        self._rows[key] = _Row(request, standing)
        return Accepted(key=key)
