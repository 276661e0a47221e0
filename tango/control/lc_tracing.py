"""The spans of LC requests, made by the worker that does each part of the work, from times that are recorded anyway.

    request                         due ─────────────────────────────────► settled     root, or below the gateway's span
    └─ attempt                      waits from ──────────────────────────► settled     one for each epoch
       ├─ wait                      waits from ─► batch begun
       ├─ dispatch                  batch begun ─► recorded                            linked with the message's span
       ├─ POST /v1/work             sent ─► answered                                   its id goes on to the instance
       └─ settle                    answered ─► settled

Nothing here may cost a request anything: an error is logged, and the spans are missing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import structlog

from tango.domain.identity import RequestKey
from tango.domain.lifecycle import Event, Outcome
from tango.domain.observations import InstanceState
from tango.domain.requests import Batch, LcWork, Reason
from tango.domain.runs import RunInfo, RunKind
from tango.domain.tracing import (
    ATTEMPT,
    CALL,
    DISPATCH,
    PROCESS,
    REQUEST,
    SEND,
    SETTLE,
    WAIT,
    Attribute,
    RequestTrace,
    SpanKind,
    TraceContext,
    TracedMessage,
    TraceSpan,
    Track,
    attempt_attributes,
    continued,
    request_attributes,
)
from tango.errors import InstanceFailed
from tango.ports.instances import WORK_PATH, Answered, Served
from tango.ports.requests import Dispatched
from tango.ports.spans import Spans

log = structlog.get_logger(__name__)

T = TypeVar("T")
Key = tuple[int, int, int]
"""(run, request, epoch)"""
QUEUE, EXECUTION_QUEUE = "lc", "exec"
"""How the queues of a cluster begin into which its LC requests go."""


class LcTrackReader(Protocol):
    """The part of the journal that is read for traces."""

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, Track]:
        """What is known of these requests; those that are not here any more are missing. Raises: StoreUnavailable."""
        ...


@dataclass(slots=True)
class TracedCall:
    """The call of a request that is sampled, as far as it has come. Times are Unix seconds; 0: not yet."""

    trace: RequestTrace
    epoch: int
    method: str
    """Empty: the request is of a trace."""
    sent_at_s: float = 0.0
    answered_at_s: float = 0.0
    status: int = 0
    """Of the answer; 0: none."""
    address: str = ""
    port: int = 0
    pod: str = ""

    @property
    def traceparent(self) -> str:
        """What the instance is told."""
        return str(self.trace.context(CALL, self.epoch))

    def ends(
        self, exchange: asyncio.Future[Served] | asyncio.Future[Answered], instance: InstanceState, *, sent_at_s: float
    ) -> None:
        """The call has ended, one way or the other."""
        self.sent_at_s, self.answered_at_s = sent_at_s, time.time()
        self.address, self.port, self.pod = instance.pod_ip, instance.port, instance.pod
        if not exchange.done() or exchange.cancelled():
            return
        error = exchange.exception()
        if isinstance(error, InstanceFailed):
            self.status = error.status
        elif error is None:
            served = exchange.result()
            self.status = served.answer.status if isinstance(served, Answered) else 200


class LcTracing:
    """Makes the spans of one cluster's LC requests in one process. Thread-safe."""

    def __init__(
        self, spans: Spans, tracks: LcTrackReader, info: Callable[[int], RunInfo], *, cluster: str, max_attempts: int
    ) -> None:
        """`info`: a run, with its zero. `max_attempts`: as `LeaseSettings` has it."""
        self._spans, self._tracks, self._info = spans, tracks, info
        self._cluster, self._max_attempts = cluster, max_attempts

    def begun(self, works: Sequence[LcWork]) -> dict[Key, TracedCall]:
        """Those of these requests, about to be called, that have a trace."""
        found: dict[Key, TracedCall] = {}
        for run_id, of_run in _by_run(works):
            traces = self._traces(run_id, [work.request_id for work in of_run])
            for work in of_run:
                if (one := traces.get(work.request_id)) is not None:
                    trace, method = one
                    found[run_id, work.request_id, work.epoch] = TracedCall(trace, work.epoch, method)
        return found

    def published(self, batches: Sequence[Batch], *, began_s: float) -> None:
        """These were sent to workers for the first time, one message for all of a run."""
        together: dict[int, list[int]] = defaultdict(list)
        for batch in batches:
            together[batch.run_id].extend(batch.request_ids)
        for run_id, ids in together.items():
            links = tuple(trace.context(REQUEST) for trace, _ in self._traces(run_id, ids).values())
            self._message(SEND, QUEUE, run_id, ids, links, began_s=began_s)

    def handed_on(self, run_id: int, dispatched: Dispatched, *, began_s: float) -> None:
        """What this process had no place for was sent to all workers of the cluster."""
        traces, epochs = (
            self._traces(run_id, dispatched.request_ids),
            dict(zip(dispatched.request_ids, dispatched.epochs, strict=True)),
        )
        links = tuple(trace.context(ATTEMPT, epochs[request_id]) for request_id, (trace, _) in traces.items())
        self._message(SEND, EXECUTION_QUEUE, run_id, list(epochs), links, began_s=began_s, epochs=epochs.values())

    def claimed(self, run_id: int, given: Mapping[int, int], traced: Iterable[TracedCall], *, began_s: float) -> None:
        """Such a message was taken, and these of its requests are about to be called. `given`: epochs by request, as it has them."""
        links = tuple(call.trace.context(ATTEMPT, call.epoch) for call in traced)
        self._message(PROCESS, EXECUTION_QUEUE, run_id, list(given), links, began_s=began_s, epochs=given.values())

    def dispatched(
        self, run_id: int, message: Sequence[int], dispatched: Dispatched, shed: Sequence[int], *, began_s: float, policy: str
    ) -> None:
        """A batch was planned and recorded: what it gave out, and what it shed. `message`: the requests of its message."""
        self._harmless(partial(self._dispatched, run_id, message, dispatched, shed, began_s=began_s, policy=policy))

    def settling(self, ended: Sequence[tuple[TracedCall, LcWork, Outcome]]) -> Callable[[], None]:
        """What is to be called once these have been settled; before that their rows are read."""
        tracks: dict[RequestKey, Track] = {}
        for run_id, works in _by_run([work for _, work, _ in ended]):
            found = self._harmless(partial(self._tracks.tracks, run_id, [work.request_id for work in works])) or {}
            tracks |= {RequestKey(run_id, request_id): track for request_id, track in found.items()}

        def settled() -> None:
            now_s = time.time()
            spans = [
                span
                for call, work, outcome in ended
                for span in self._attempt(call, work, outcome, tracks.get(RequestKey(work.run_id, work.request_id)), now_s)
            ]
            self._spans.end(spans)

        return lambda: self._harmless(settled)

    def expired(self, batches: Sequence[Batch]) -> None:
        """These wait again, because the process that ran them is gone: it has left the spans of their attempts to whoever notices."""
        for batch in batches:
            self._harmless(partial(self._expired, batch.run_id, batch.request_ids))

    def _dispatched(
        self, run_id: int, message: Sequence[int], dispatched: Dispatched, shed: Sequence[int], *, began_s: float, policy: str
    ) -> None:
        given = dict(zip(dispatched.request_ids, dispatched.epochs, strict=True))
        given |= {work.request_id: work.epoch for work in dispatched.started}
        traces = self._traces(run_id, [*given, *shed])
        if not traces:
            return
        zero_s, now_s = self._zero_s(run_id), time.time()
        tracks = self._tracks.tracks(run_id, sorted(traces))
        queue = f"{QUEUE}.{self._cluster}"
        contexts = {
            request_id: trace.context(ATTEMPT, given[request_id]) if request_id in given else trace.context(REQUEST)
            for request_id, (trace, _) in traces.items()
        }
        message_of = TracedMessage(queue=queue, run_id=run_id, zero_s=zero_s, request_ids=message)
        taken = message_of.span(PROCESS, began_s=began_s, ended_s=now_s, links=tuple(contexts.values()), given=given.values())
        spans = [taken]
        for request_id, (trace, _) in traces.items():
            track, epoch = tracks.get(request_id), given.get(request_id, 0)
            # It may be under the next epoch by now, or have gone.
            known = track if track is not None and track.epoch == epoch else None
            recorded_s = known.dispatched_at_s if known and known.dispatched_at_s else now_s
            within = ATTEMPT if epoch else REQUEST
            if epoch and known and known.waits_from_s:
                spans.append(trace.span(WAIT, epoch=epoch, began_s=known.waits_from_s, ended_s=began_s, within=within))
            spans.append(
                trace.span(
                    DISPATCH,
                    epoch=epoch,
                    began_s=began_s,
                    ended_s=recorded_s,
                    within=within,
                    attributes={"tango.policy": policy},
                    links=(taken.context,),
                )
            )
            if not epoch:
                of_request = self._of_request(trace, track.service if track else "") | {"tango.state": "shed"}
                due_at_s = zero_s + track.due_s if track else began_s
                spans.append(trace.span(REQUEST, began_s=due_at_s, ended_s=now_s, attributes=of_request, failure="shed"))
        self._spans.end(spans)

    def _attempt(self, call: TracedCall, work: LcWork, outcome: Outcome, track: Track | None, now_s: float) -> Iterable[TraceSpan]:
        trace, epoch, failure = call.trace, call.epoch, str(outcome.reason)
        began_s = (track.waits_from_s or track.dispatched_at_s) if track is not None and track.epoch == epoch else None
        began_s = began_s or call.sent_at_s or now_s
        answered_s = call.answered_at_s or now_s
        if call.sent_at_s:
            called = trace.span(
                CALL,
                epoch=epoch,
                began_s=call.sent_at_s,
                ended_s=answered_s,
                within=ATTEMPT,
                attributes=_of_call(call),
                failure=failure,
            )
            yield replace(called, name=call.method or f"POST {WORK_PATH}", kind=SpanKind.CLIENT)
            yield trace.span(SETTLE, epoch=epoch, began_s=answered_s, ended_s=now_s, within=ATTEMPT)
        of_attempt = attempt_attributes(work.node, epoch=epoch, attempt=work.attempt, pod=call.pod)
        yield trace.span(
            ATTEMPT, epoch=epoch, began_s=began_s, ended_s=now_s, within=REQUEST, attributes=of_attempt, failure=failure
        )
        if outcome.event is Event.RETURN or (outcome.event is Event.REQUEUE and work.attempt < self._max_attempts):
            return
        state = "succeeded" if outcome.event is Event.SUCCEED else "failed"
        of_request = self._of_request(trace, work.service) | {"tango.target_ms": work.target_s * 1e3, "tango.state": state}
        due_at_s = self._zero_s(work.run_id) + work.due_s
        yield trace.span(REQUEST, began_s=due_at_s, ended_s=now_s, attributes=of_request, failure=failure)

    def _expired(self, run_id: int, request_ids: Sequence[int]) -> None:
        traces = self._traces(run_id, request_ids)
        tracks = self._tracks.tracks(run_id, sorted(traces)) if traces else {}
        spans = []
        for request_id, track in tracks.items():
            if track.dispatched_at_s is None or track.node is None:
                continue
            # It waits for its next attempt since this one was taken back.
            ended_s = track.waits_from_s or time.time()
            of_attempt = attempt_attributes(track.node, epoch=track.epoch, attempt=track.attempt)
            spans.append(
                traces[request_id][0].span(
                    ATTEMPT,
                    epoch=track.epoch,
                    began_s=track.dispatched_at_s,
                    ended_s=ended_s,
                    within=REQUEST,
                    attributes=of_attempt,
                    failure=str(Reason.LEASE_EXPIRED),
                )
            )
        self._spans.end(spans)

    def _traces(self, run_id: int, request_ids: Sequence[int]) -> dict[int, tuple[RequestTrace, str]]:
        """Of those that are sampled the trace, and the method of the call that a caller sent, empty for one of a trace."""
        return self._harmless(partial(self._read_traces, run_id, request_ids)) or {}

    def _read_traces(self, run_id: int, request_ids: Sequence[int]) -> dict[int, tuple[RequestTrace, str]]:
        info, zero_s, found = self._info(run_id), self._zero_s(run_id), dict[int, tuple[RequestTrace, str]]()
        sampling = self._spans.sampling
        if info.kind is not RunKind.LIVE:
            for request_id in request_ids:
                if (trace := sampling.of_request(run_id, zero_s, request_id)) is not None:
                    found[request_id] = trace, ""
            return found
        for request_id, track in self._tracks.tracks(run_id, request_ids).items():
            said = continued(run_id, request_id, track.traceparent)
            # What came by Celery says nothing; of what came through a gateway it has said so already.
            trace = said if track.traceparent else sampling.of_request(run_id, zero_s, request_id)
            if trace is not None:
                found[request_id] = trace, track.method
        return found

    def _message(
        self,
        name: str,
        kind: str,
        run_id: int,
        ids: Sequence[int],
        links: tuple[TraceContext, ...],
        *,
        began_s: float,
        epochs: Iterable[int] = (),
    ) -> None:
        """One that carries a request which is sampled. `epochs`: those that it names."""
        if not links:
            return

        def end() -> None:
            zero_s, now_s = self._zero_s(run_id), time.time()
            message = TracedMessage(
                queue=f"{kind}.{self._cluster}", run_id=run_id, zero_s=zero_s, request_ids=ids, epochs=list(epochs)
            )
            self._spans.end([message.span(name, began_s=began_s, ended_s=now_s, links=links)])

        self._harmless(end)

    def _of_request(self, trace: RequestTrace, service: str) -> dict[str, Attribute]:
        return request_attributes(RequestKey(trace.run_id, trace.request_id), "lc", service, self._cluster)

    def _zero_s(self, run_id: int) -> float:
        return self._info(run_id).started_at_s or 0.0

    @staticmethod
    def _harmless(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:  # whatever it is: requests go on
            log.warning("spans_not_made", error=f"{type(error).__name__}: {error}")
            return None


def _by_run(works: Iterable[LcWork]) -> list[tuple[int, list[LcWork]]]:
    by_run: dict[int, list[LcWork]] = defaultdict(list)
    for work in works:
        by_run[work.run_id].append(work)
    return list(by_run.items())


def _of_call(call: TracedCall) -> dict[str, Attribute]:
    """After OpenTelemetry's conventions for HTTP. Path and query of what a caller sends are his."""
    found: dict[str, Attribute] = {
        "http.request.method": call.method or "POST",
        "server.address": call.address,
        "server.port": call.port,
    }
    if not call.method:
        found["url.full"] = f"http://{call.address}:{call.port}{WORK_PATH}"
    if call.status:
        found["http.response.status_code"] = call.status
    return found
