"""Execute: run dispatched LC requests on their instances, many at a time, and settle them in groups.

A Celery task only claims rows and hands them to the process's `LcExecutor`; the calls then run on one asyncio loop in a thread
of their own. The Celery slot is free again at once, because from the claim on the lease of this process, and not the message, protects
the work: if it dies, its heartbeat ends and the journal's keeper sends the requests elsewhere under a new epoch.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
import uvloop

from tango.control.answer_margin import AnswerMargin
from tango.control.lc_tracing import LcTracing, TracedCall
from tango.control.node_health import NodeHealth
from tango.control.seen_answers import SeenAnswers
from tango.control.serve_callers import ServeCallers
from tango.control.settle_apart import settle_apart
from tango.domain.identity import NodeKey, PodKey
from tango.domain.lifecycle import Event, Outcome, after_disruption
from tango.domain.observations import InstanceState
from tango.domain.patience import call_within_s, is_hopeless
from tango.domain.requests import Batch, LcWork, Reason
from tango.domain.services import Service, ServiceClass
from tango.errors import BrokerUnavailable, CallFailed, InstanceFailed, StoreUnavailable, TangoError
from tango.ports.instances import Answered, InstanceCalls, Served
from tango.ports.journal import JournalFleet
from tango.ports.messages import Publisher
from tango.ports.requests import LcRequests
from tango.settings import LcSettings, LeaseSettings
from tango.telemetry.loops import watch_lag

log = structlog.get_logger(__name__)
Exchange: TypeAlias = asyncio.Future[Served] | asyncio.Future[Answered]
"""The call of one request, as long as it is under way."""


class InstanceDirectory:
    """Which LC instances serve a service on a node, as the journal last knew it; re-read when older than `max_age_s`."""

    def __init__(self, fleet: JournalFleet, *, max_age_s: float = 0.5) -> None:
        self._fleet = fleet
        self._max_age_s = max_age_s
        self._read_at_s = -1e9
        self._by_place: dict[tuple[str, NodeKey], list[InstanceState]] = {}
        self._by_pod: dict[PodKey, InstanceState] = {}
        """All, ready or not."""
        self._services: dict[str, Service] = {}
        self._turn = itertools.count()

    def refresh(self, *, max_age_s: float | None = None) -> None:
        """Read the instances again if the last reading is too old. Blocking: call it off the event loop."""
        now_s = time.monotonic()
        if now_s - self._read_at_s < (self._max_age_s if max_age_s is None else max_age_s):
            return
        by_place: dict[tuple[str, NodeKey], list[InstanceState]] = defaultdict(list)
        by_pod: dict[PodKey, InstanceState] = {}
        for cluster, instance in self._fleet.instances():
            by_pod[PodKey(cluster, instance.pod)] = instance
            if instance.ready:
                by_place[instance.service, NodeKey(cluster, instance.node)].append(instance)
        self._services = {service.name: service for service in self._fleet.services()}
        self._by_place, self._by_pod, self._read_at_s = dict(by_place), by_pod, now_s

    def pick(self, service: str, node: NodeKey) -> InstanceState | None:
        """A ready instance of the service on the node, taking turns; None where there is none."""
        found = self._by_place.get((service, node))
        return found[next(self._turn) % len(found)] if found else None

    def is_gone(self, cluster: str, instance: InstanceState) -> bool | None:
        """Whether an instance is being taken away, or has been; None while it is as it was, False where it is there and not ready."""
        known = self._by_pod.get(PodKey(cluster, instance.pod))
        if known is None or known.uid != instance.uid or known.leaving:
            return True
        return None if known.ready else False

    def shed_after_targets(self, service: str) -> float:
        """After how many targets a request of the service is given up; 0: never, nor of one that is not declared any more."""
        known = self._services.get(service)
        return known.shed_after_targets if known else 0.0

    def over_tls(self, service: str) -> bool:
        """Whether instances of the service speak TLS."""
        known = self._services.get(service)
        return known is not None and known.tls

    def any_on(self, node: NodeKey) -> InstanceState | None:
        """An instance on the node, of whatever service; None where none is ready."""
        return next((found[0] for (_, at), found in self._by_place.items() if at == node), None)

    def payload_kib(self, service: str) -> float:
        """Size of one request of the service on the wire, in KiB; 0 for a service that is not declared any more."""
        known = self._services.get(service)
        return known.payload_kib if known else 0.0


class _Places:
    """A semaphore that counts free places for calls and can take many at once, or as many as there are."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._changed = threading.Condition()
        self._waiting = 0
        self._is_closed = False

    def take(self, places: int, *, within_s: float) -> bool:
        """Wait until that many places are free, then take them; False if they are not within `within_s`.

        Raises: TangoError once the places are closed: nobody would give one back.
        """
        with self._changed:
            self._waiting += 1
            are_free = self._changed.wait_for(lambda: self._is_closed or self._free >= places, within_s)
            self._waiting -= 1
            if self._is_closed:
                raise TangoError(
                    "this worker executes nothing any more: its executor has stopped, or has failed with the error that its log "
                    "names `executor_ended`; restart it"
                )
            if are_free:
                self._free -= places
            return are_free

    def take_up_to(self, places: int) -> int:
        """Take the places that are free now, at most `places`; none once they are closed, nor while a thread waits in `take`,
        which would starve otherwise."""
        with self._changed:
            taken = 0 if self._waiting or self._is_closed else min(places, self._free)
            self._free -= taken
            return taken

    def give(self, places: int) -> None:
        """Give places back."""
        with self._changed:
            self._free += places
            if self._waiting:
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody take a place any more, nor wait for one."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


PAUSES_S = (0.1, 1.0)
"""Backoff in seconds before a request is sent again after its first and second failure; after later ones it waits for the keeper,
which comes every few seconds. A node that restarts needs seconds, and attempts without a pause would all be spent on it."""

GONE_WITHIN_S, GONE_LOOK_S = 0.35, 0.05
"""Seconds within which the journal must tell that an instance is being taken away whose call has failed, and between two looks: its agent
tells within `KubeSettings.observe_every_s` (0.25 s). A request waits about as long before it is sent again anyway."""
PROBE_WITHIN_S = 1.0
"""Seconds in which a probe has to be answered. Chosen: as long as a call must wait to count as hanging."""
TAKEN_BACK_UP_TO_ATTEMPT = 2
"""Last attempt of a request that is taken back from a node which hangs. One further attempt for that, and another because the nodes
of a cluster often hang together and are found out one after the other: with one, 11 of 1,080 requests timed out while all four nodes of
a cluster hung for 40 s."""

ASK_AGAIN_S = 0.5
"""Seconds between two tries while the store is away: far below the lease of a request, and few enough not to crowd it as it comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceReach:
    """How this process reaches instances, and what it knows of how they answer."""

    directory: InstanceDirectory
    calls: Callable[[], InstanceCalls]
    """Made once, on the executor's loop."""
    health: NodeHealth
    margin: AnswerMargin
    seen: SeenAnswers = field(default_factory=SeenAnswers)


class LcExecutor:
    """Runs claimed LC requests on one event loop in its own thread. One per worker process, made after the fork.

    `run_zero_s(run_id)` gives the Unix time of a run's zero. Results are kept until the journal has taken them: while its disk is
    full they wait, and an epoch that has moved on meanwhile simply does not count.
    """

    def __init__(
        self,
        *,
        requests: LcRequests,
        reach: InstanceReach,
        publisher: Publisher,
        run_zero_s: Callable[[int], float],
        callers: ServeCallers,
        owner: str,
        settings: LcSettings,
        lease: LeaseSettings,
        tracing: LcTracing | None = None,
    ) -> None:
        """`tracing` makes spans of what is done here; None: nobody wants any."""
        self._requests = requests
        self._directory = reach.directory
        self._publisher = publisher
        self._run_zero_s = run_zero_s
        self._health = reach.health
        self._margin = reach.margin
        self._seen = reach.seen
        self._callers = callers
        self._owner = owner
        self._settings = settings
        self._lease = lease
        self._tracing = tracing
        self._traced: dict[tuple[int, int, int], TracedCall] = {}
        """Of those in flight and not settled that have a trace; empty without `tracing`."""
        self._places = _Places(settings.max_in_flight)
        self._in_flight: dict[tuple[int, int, int], LcWork] = {}
        self._exchanges: dict[tuple[int, int, int], Exchange] = {}
        """Exchanges under way, to take them back from a node that hangs."""
        self._ended: list[tuple[LcWork, Outcome]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._zeros_s: dict[int, float] = {}
        self._loop = uvloop.new_event_loop()
        self._calls_factory = reach.calls
        self._calls: InstanceCalls | None = None
        self._taken_back: set[tuple[int, int, int]] = set()
        self._looking: asyncio.Task[None] | None = None
        """A look at the instances for those whose calls have failed."""
        self.broken = 0
        """Errors that this executor's loops have survived, since its start; its log has each with its trace."""
        self._stopping = threading.Event()
        self._to_settle, self._to_watch = asyncio.Event(), asyncio.Event()
        """Set on the loop when there is something to settle or to watch, so that an executor with nothing to do sleeps."""
        self._thread = threading.Thread(target=self._run_loop, name="lc-executor", daemon=True)
        self._thread.start()

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return len(self._in_flight)

    def execute(self, run_id: int, request_ids: Sequence[int], epochs: Sequence[int]) -> int:
        """Claim the rows and start their calls; return as soon as they are under way. Gives how many were claimed.

        Blocks while `max_in_flight` calls are under way, which holds the messages back in their queue; at most `LeaseSettings.dispatch_s`
        for each part of the batch, after which the rest is left to the keeper. Raises: TangoError when the executor has ended.
        """
        claimed = 0
        step = max(1, self._settings.max_in_flight // 4)
        for begin in range(0, len(request_ids), step):
            ids, its_epochs = request_ids[begin : begin + step], epochs[begin : begin + step]
            if not self._places.take(len(ids), within_s=self._lease.dispatch_s):
                # The leases of their dispatch are over, so the keeper has given them a new epoch or is about to.
                log.warning("no_place_in_time", run_id=run_id, requests=len(request_ids) - begin)
                break
            works: Sequence[LcWork] = ()
            began_s = time.time()
            try:
                works = self._requests.claim_execution(run_id, ids, its_epochs, owner=self._owner, lease_s=self._lease.execution_s)
            finally:
                self.start(works, reserved=len(ids))
            if self._tracing is not None:
                calls = [self._traced.get((run_id, work.request_id, work.epoch)) for work in works]
                given = dict(zip(request_ids, epochs, strict=True))
                self._tracing.claimed(run_id, given, [call for call in calls if call is not None], began_s=began_s)
            claimed += len(works)
        return claimed

    def reserve(self, wanted: int) -> int:
        """Reserve places for up to `wanted` calls without waiting; gives how many. Pass them to `start` as `reserved`."""
        return self._places.take_up_to(wanted)

    def start(self, works: Sequence[LcWork], *, reserved: int) -> None:
        """Start claimed requests in `reserved` places, and give back the places that are not used."""
        self._places.give(reserved - len(works))
        if works:
            try:
                self._directory.refresh()
            except StoreUnavailable as error:
                # An old directory is better than none; where it has nothing, the request is requeued.
                log.warning("instances_not_read", error=str(error))
            except Exception:  # raised here it would keep the places of these requests for ever
                self._note_broken("instances_broken")
            try:
                self._callers.prepare(works)
            except StoreUnavailable as error:
                log.warning("calls_not_read", error=str(error))
            except Exception:
                self._note_broken("calls_broken")
            if self._tracing is not None:
                self._traced |= self._tracing.begun(works)
            # Here and not on the loop: from now on this process has to live for them, and `close` waits for them.
            for work in works:
                self._in_flight[work.run_id, work.request_id, work.epoch] = work
            self._loop.call_soon_threadsafe(self._start_calls, works)

    def close(self, *, timeout_s: float = 10.0) -> None:
        """Wait for the calls under way, settle what ended, stop the thread."""
        deadline_s = time.monotonic() + timeout_s
        while self._in_flight and time.monotonic() < deadline_s:
            time.sleep(0.02)
        self._stopping.set()
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._to_settle.set)
        self._thread.join(timeout=max(1.0, deadline_s - time.monotonic()))

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except Exception:
            log.exception("executor_ended")
        finally:
            self._places.close()
            self._loop.close()

    async def _main(self) -> None:
        self._calls = self._calls_factory()
        watch_lag(self._loop, "executor")
        beside = [asyncio.create_task(step) for step in (self._beat(), self._watch_nodes(), self._callers.watch())]
        while not (self._stopping.is_set() and not self._ended):
            await self._to_settle.wait()
            if not self._stopping.is_set():
                await asyncio.sleep(self._settings.settle_every_s)  # for others to end meanwhile
            self._to_settle.clear()
            if self._ended:
                ended, self._ended = self._ended, []
                await self._settle(ended)
        for task in beside:
            task.cancel()
        for task in list(self._tasks):  # messages that still wait out their backoff: the keeper will publish them
            task.cancel()
        await self._calls.close()
        await self._callers.close()

    def _start_calls(self, works: Sequence[LcWork]) -> None:
        for work in works:
            task = self._loop.create_task(self._call(work))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _call(self, work: LcWork) -> None:
        try:
            outcome = await self._outcome_of(work)
        except Exception:  # a defect must not leave a row without an end: the reason shows, the log has the trace
            log.exception("lc_call_broken", run_id=work.run_id, request_id=work.request_id)
            # Nobody knows how far a caller's call had come.
            ends = self._failed if work.is_called else self._requeue
            outcome = ends(work, Reason.INSTANCE_UNREACHABLE)
        self._ended.append((work, outcome))
        self._to_settle.set()
        self._in_flight.pop((work.run_id, work.request_id, work.epoch), None)
        self._places.give(1)

    async def _outcome_of(self, work: LcWork) -> Outcome:
        instance = self._directory.pick(work.service, work.node)
        if instance is None:  # it was there when the request was dispatched
            return self._disrupted(work, Reason.NO_INSTANCE)
        if self._is_hopeless(work):
            return self._failed(work, Reason.TARGET_UNREACHABLE)
        patience_s, settings = work.patience_s if work.is_called else math.inf, self._settings
        timeout_s = call_within_s(
            target_s=work.target_s, patience_s=patience_s, targets=settings.timeout_targets, least_s=settings.timeout_min_s
        )
        key = (work.run_id, work.request_id, work.epoch)
        traced = self._traced.get(key)
        sent_at_s = time.time()
        try:
            exchange = self._begun(instance, work, timeout_s, traced, answers=lambda: self._health.answered(work.node, key))
        except CallFailed as error:
            return self._requeue(work, Reason(error.reason))
        self._exchanges[key] = exchange
        self._health.begun(work.node, key, target_s=work.target_s, patience_s=patience_s)
        self._to_watch.set()
        try:
            served = await exchange
        except asyncio.CancelledError:
            if exchange.cancelled() and work.is_called and self._callers.is_unwanted(work):
                self._health.given_up(work.node, key)
                return self._failed(work, Reason.CALLER_GONE)  # its row has ended already
            if not exchange.cancelled() or not self._was_taken_back(key):
                raise
            return self._requeue(work, Reason.TIMED_OUT)
        except InstanceFailed as error:
            self._note_health(work.node, key, Reason(error.reason), instance)
            return await self._outcome_of_failure(work, instance, error)
        finally:
            self._exchanges.pop(key, None)
            if work.is_called:
                self._callers.over(work)
            if traced is not None:
                traced.ends(exchange, instance, sent_at_s=sent_at_s)
        self._health.answered(work.node, key)
        finished_at_s = time.time()
        served_s = served.finished_at_s - served.started_at_s
        self._seen.answered(work.service, work.node, answer_s=finished_at_s - sent_at_s, served_s=served_s)
        zero_s = await self._zero_of(work.run_id)
        if work.answer_expected_s < math.inf:
            late_by_s = finished_at_s - zero_s - work.answer_expected_s
            self._margin.answered(work.service, late_by_s=late_by_s, target_s=work.target_s)
        event, reason = Event.SUCCEED, Reason.NONE
        if isinstance(served, Answered):
            event, reason = self._callers.answered(work, served)
        return Outcome(
            run_id=work.run_id,
            request_id=work.request_id,
            epoch=work.epoch,
            event=event,
            reason=reason,
            sent_s=sent_at_s - zero_s,
            started_s=served.started_at_s - zero_s,
            finished_s=finished_at_s - zero_s,
        )

    def _begun(
        self,
        instance: InstanceState,
        work: LcWork,
        timeout_s: float,
        traced: TracedCall | None,
        *,
        answers: Callable[[], None],
    ) -> Exchange:
        """Call the instance. `answers` is called once it begins to answer a caller: how long the rest takes is for him to say.

        Raises: CallFailed where there is nothing to call it with.
        """
        told = "" if traced is None else traced.traceparent
        if work.is_called:
            over_tls = self._directory.over_tls(work.service)
            return self._callers.begin(instance, work, over_tls=over_tls, timeout_s=timeout_s, answers=answers, traceparent=told)
        assert self._calls is not None
        payload_kib = self._directory.payload_kib(work.service)
        return asyncio.ensure_future(
            self._calls.call(instance, work, payload_kib=payload_kib, timeout_s=timeout_s, traceparent=told)
        )

    async def _outcome_of_failure(self, work: LcWork, instance: InstanceState, error: InstanceFailed) -> Outcome:
        """Another attempt where that can do no harm, at no cost where the instance was taken away."""
        event, reason = Event.REQUEUE, Reason(error.reason)
        gone = reason is not Reason.TIMED_OUT and await self._is_gone(work, instance)
        if isinstance(error, CallFailed):
            event, reason = await self._callers.failed(work, error, is_free=gone)
        elif reason is Reason.TIMED_OUT:
            # Given up after `LcSettings.timeout_targets`: it counts as missed either way, and a further attempt would only add load.
            event = Event.FAIL
        if event is not Event.REQUEUE:
            return self._failed(work, reason)
        return self._disrupted(work, Reason.INSTANCE_GONE) if gone else self._requeue(work, reason)

    async def _is_gone(self, work: LcWork, instance: InstanceState) -> bool:
        """Whether the instance, with which a call has failed, is being taken away; the cluster's agent may have to tell that yet."""
        until_s = time.monotonic() + GONE_WITHIN_S
        while (gone := self._directory.is_gone(work.node.cluster, instance)) is None and time.monotonic() < until_s:
            await asyncio.sleep(GONE_LOOK_S)
            # One look for all who ask: when a node dies they are hundreds.
            if self._looking is None or self._looking.done():
                self._looking = self._loop.create_task(self._look_again())
            await asyncio.shield(self._looking)
        return bool(gone)

    async def _look_again(self) -> None:
        try:
            await asyncio.to_thread(self._directory.refresh, max_age_s=GONE_LOOK_S)
        except StoreUnavailable as error:
            log.warning("instances_not_read", error=str(error))
        except Exception:  # what was read before stands
            self._note_broken("instances_broken")

    def _note_health(self, node: NodeKey, key: tuple[int, int, int], reason: Reason, instance: InstanceState) -> None:
        """Any answer proves that the node is alive. An instance that is being taken away proves nothing about its node."""
        if self._directory.is_gone(node.cluster, instance):
            self._health.over(node, key)
        elif reason in (Reason.INSTANCE_REFUSED, Reason.SERVICE_ERROR):
            self._health.answered(node, key)
        else:
            self._health.failed(node, key)
            self._seen.failed(instance.service, node)

    async def _zero_of(self, run_id: int) -> float:
        """Unix time of a run's zero, read once. Waits for a journal that is away: the request was served and must not be served again."""
        while (zero_s := self._zeros_s.get(run_id)) is None:
            try:
                self._zeros_s[run_id] = await asyncio.to_thread(self._run_zero_s, run_id)
            except StoreUnavailable as error:
                log.warning("result_waits", run_id=run_id, error=str(error))
                await asyncio.sleep(ASK_AGAIN_S)
        return zero_s

    def _is_hopeless(self, work: LcWork) -> bool:
        """Whether it has waited too long for a place; not asked before the run's zero is known, which nobody waits for here."""
        zero_s = self._zeros_s.get(work.run_id)
        if zero_s is None:
            return False
        patience = self._directory.shed_after_targets(work.service)
        waited_s = time.time() - zero_s - work.due_s
        return is_hopeless(waited_s=waited_s, target_s=work.target_s, shed_after_targets=patience, patience_s=work.patience_s)

    @staticmethod
    def _failed(work: LcWork, reason: Reason) -> Outcome:
        return Outcome(run_id=work.run_id, request_id=work.request_id, epoch=work.epoch, event=Event.FAIL, reason=reason)

    @staticmethod
    def _requeue(work: LcWork, reason: Reason) -> Outcome:
        return Outcome(run_id=work.run_id, request_id=work.request_id, epoch=work.epoch, event=Event.REQUEUE, reason=reason)

    @staticmethod
    def _disrupted(work: LcWork, reason: Reason) -> Outcome:
        event = after_disruption(work.epoch)
        return Outcome(run_id=work.run_id, request_id=work.request_id, epoch=work.epoch, event=event, reason=reason)

    async def _settle(self, ended: list[tuple[LcWork, Outcome]]) -> None:
        outcomes = [outcome for _, outcome in ended]
        traced = []
        if self._traced:
            of = ((self._traced.get((work.run_id, work.request_id, work.epoch)), work, outcome) for work, outcome in ended)
            traced = [(call, work, outcome) for call, work, outcome in of if call is not None]
        try:
            self.broken += await asyncio.to_thread(self._kept_and_settled, self._callers.settled_first(), outcomes, traced)
        except StoreUnavailable as error:
            log.warning("settle_waits", outcomes=len(outcomes), error=str(error))
            self._ended = ended + self._ended
            self._to_settle.set()
            await asyncio.sleep(ASK_AGAIN_S)
            return
        for call, *_ in traced:
            self._traced.pop((call.trace.run_id, call.trace.request_id, call.epoch), None)
        again = defaultdict[float, list[LcWork]](list)
        for work, outcome in ended:
            if outcome.event is Event.RETURN:
                again[PAUSES_S[0]].append(work)
            elif outcome.event is Event.REQUEUE and work.attempt <= len(PAUSES_S):
                again[PAUSES_S[work.attempt - 1]].append(work)
        for pause_s, works in again.items():
            if works:
                task = self._loop.create_task(self._publish_after(pause_s * random.uniform(0.7, 1.3), works))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _kept_and_settled(
        self, keep: Callable[[], None], outcomes: Sequence[Outcome], traced: Sequence[tuple[TracedCall, LcWork, Outcome]]
    ) -> int:
        settled = self._tracing.settling(traced) if self._tracing is not None and traced else None
        keep()
        broken = settle_apart(self._requests, outcomes)
        if settled is not None:
            settled()
        return broken

    async def _publish_after(self, pause_s: float, works: Sequence[LcWork]) -> None:
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(self._publish_again, works)

    def _publish_again(self, works: Sequence[LcWork]) -> None:
        groups: dict[tuple[int, str, str], list[int]] = defaultdict(list)
        for work in works:
            groups[work.run_id, work.entry_cluster, work.service].append(work.request_id)
        batches = [
            Batch(run_id=run, cluster=cluster, service=service, service_class=int(ServiceClass.LC), request_ids=tuple(ids))
            for (run, cluster, service), ids in groups.items()
        ]
        try:
            self._publisher.arrivals(batches)
        except BrokerUnavailable as error:
            log.warning("requeued_not_published", requests=len(works), error=str(error))
        except Exception:  # the keeper publishes them
            self._note_broken("requeued_not_published", requests=len(works))

    def _was_taken_back(self, key: tuple[int, int, int]) -> bool:
        """Whether the exchange was cancelled because its node hangs; asked once."""
        found = key in self._taken_back
        self._taken_back.discard(key)
        return found

    async def _watch_nodes(self) -> None:
        """Take back what hangs on nodes that answer nothing, once for each request, and probe nodes that are out."""
        while True:
            if self._health.is_quiet():
                self._to_watch.clear()
                await self._to_watch.wait()
            await asyncio.sleep(self._health.look_every_s)
            for key in self._health.overdue():
                exchange = self._exchanges.get(key)
                # Later attempts that hang wait out their time: a request that makes nodes hang must not go through all of them.
                work = self._in_flight.get(key)
                may_repeat = work is None or not work.is_called or self._callers.may_repeat(work)
                if exchange is not None and (work is None or work.attempt <= TAKEN_BACK_UP_TO_ATTEMPT) and may_repeat:
                    self._taken_back.add(key)
                    exchange.cancel()
            for node in self._health.to_probe():
                task = self._loop.create_task(self._probe(node))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _probe(self, node: NodeKey) -> None:
        instance = self._directory.any_on(node)
        assert self._calls is not None
        # With no ready instance there is nothing to probe, and dispatch sends nothing there either.
        well = instance is not None and await self._calls.probe(instance, timeout_s=PROBE_WITHIN_S)
        self._health.probed(node, well=well)

    async def _beat(self) -> None:
        """Send heartbeats while requests are in flight; from the loop, so that a loop that hangs counts as dead."""
        while True:
            await asyncio.sleep(self._lease.execution_s / 3)
            if not self._in_flight and not self._ended:
                continue
            try:
                await asyncio.to_thread(self._requests.heartbeat, self._owner, lease_s=self._lease.execution_s)
            except StoreUnavailable as error:
                log.warning("heartbeat_failed", error=str(error))
            except Exception:  # the next one is sent all the same
                self._note_broken("heartbeat_broken")

    def _note_broken(self, event: str, **fields: object) -> None:
        self.broken += 1
        log.exception(event, broken=self.broken, **fields)
