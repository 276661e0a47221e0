"""The spans of BE requests, jobs among them: of a placement by the scheduler, all others by the agent that settles the last attempt.

    request                      due ──────────────────────► settled     root, or below the span of whoever sent the job
    └─ attempt                   waits from ───────────────► ended       one for each epoch, whoever ended it
       ├─ wait                   waits from ─► placed
       ├─ start                  placed ─► started
       ├─ run                    started ─► finished                     its id is in the environment of a job's pod
       └─ settle                 finished ─► ended
    place                        one a placement, linked with the attempts that it gave a node

The centre keeps the attempts of a request with their times, so that its tree is made at once, when it has ended. Nothing here may cost a
request anything: an error is logged, and the spans are missing.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from tango.domain.identity import RequestKey
from tango.domain.lifecycle import TERMINAL
from tango.domain.requests import RequestState
from tango.domain.runs import Placement, RunInfo, RunKind
from tango.domain.tracing import (
    ATTEMPT,
    REQUEST,
    RUN,
    SETTLE,
    START,
    TRACEPARENT_VARIABLE,
    WAIT,
    AttemptTrack,
    BeTrack,
    RequestTrace,
    TraceSpan,
    attempt_attributes,
    continued,
    cycle_context,
    request_attributes,
)
from tango.ports.spans import Spans

log = structlog.get_logger(__name__)

PLACE = "place"


class BeTrackReader(Protocol):
    """The part of the centre's store that is read for traces."""

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, BeTrack]:
        """What is known of these requests. Raises: StoreUnavailable."""
        ...


class BeTracing:
    """Makes the spans of BE requests in one process. Thread-safe."""

    def __init__(self, spans: Spans, tracks: BeTrackReader, info: Callable[[int], RunInfo]) -> None:
        """`info`: a run, with its zero. Raises: UsageError for one that was deleted."""
        self._spans, self._tracks, self._info = spans, tracks, info

    def placed(self, placements: Sequence[Placement], *, began_s: float, policy: str) -> Sequence[Placement]:
        """These were recorded by a cycle that began then, and their pods are about to be made; gives them with what their jobs are
        told."""
        try:
            traces = [self._trace_of(placement) for placement in placements]
        except Exception as error:  # whatever it is: the pods are made
            _note(error)
            return placements
        links = tuple(
            trace.context(ATTEMPT, placement.epoch)
            for placement, trace in zip(placements, traces, strict=True)
            if trace is not None
        )
        if links:
            numbers = (number for p in placements for number in (p.run_id, p.request_id, p.epoch))
            cycle = TraceSpan(
                name=PLACE,
                context=cycle_context(PLACE, *numbers),
                began_s=began_s,
                ended_s=time.time(),
                attributes={"tango.policy": policy, "tango.requests": len(placements)},
                links=links,
            )
            self._spans.end([cycle])
        return [
            placement if trace is None else _told(placement, trace) for placement, trace in zip(placements, traces, strict=True)
        ]

    def settled(self, keys: Iterable[tuple[int, int]]) -> None:
        """Attempts of these (run, request) have ended: where the request has too, its tree is made."""
        by_run: dict[int, list[int]] = defaultdict(list)
        for run_id, request_id in keys:
            by_run[run_id].append(request_id)
        for run_id, request_ids in by_run.items():
            try:
                self._settled(run_id, request_ids)
            except Exception as error:  # whatever it is: they are settled
                _note(error)

    def _settled(self, run_id: int, request_ids: Sequence[int]) -> None:
        info = self._info(run_id)
        zero_s, sampling = info.started_at_s or 0.0, self._spans.sampling
        if info.kind is not RunKind.LIVE:
            request_ids = [k for k in request_ids if sampling.of_request(run_id, zero_s, k) is not None]
        if not request_ids:
            return
        spans: list[TraceSpan] = []
        for request_id, track in self._tracks.tracks(run_id, request_ids).items():
            trace = self._trace(run_id, zero_s, request_id, track.traceparent)
            if trace is not None and track.state in TERMINAL:
                spans += _tree(trace, track, zero_s)
        self._spans.end(spans)

    def _trace_of(self, placement: Placement) -> RequestTrace | None:
        zero_s = self._info(placement.run_id).started_at_s or 0.0
        env = dict(placement.job.env) if placement.job is not None else {}
        return self._trace(placement.run_id, zero_s, placement.request_id, env.get(TRACEPARENT_VARIABLE, ""))

    def _trace(self, run_id: int, zero_s: float, request_id: int, traceparent: str) -> RequestTrace | None:
        if traceparent:
            return continued(run_id, request_id, traceparent)
        return self._spans.sampling.of_request(run_id, zero_s, request_id)


def _told(placement: Placement, trace: RequestTrace) -> Placement:
    """With the trace in the environment of its job, if it is one."""
    job = placement.job
    if job is None:
        return placement
    env = (
        *(of for of in job.env if of[0] != TRACEPARENT_VARIABLE),
        (TRACEPARENT_VARIABLE, str(trace.context(RUN, placement.epoch))),
    )
    return replace(placement, job=replace(job, env=env))


def _tree(trace: RequestTrace, track: BeTrack, zero_s: float) -> Iterable[TraceSpan]:
    ended_s = max((attempt.ended_s for attempt in track.attempts), default=track.due_s)
    failure = "" if track.state is RequestState.SUCCEEDED else track.reason or str(track.state)
    key = RequestKey(trace.run_id, trace.request_id)
    yield trace.span(
        REQUEST,
        began_s=zero_s + track.due_s,
        ended_s=zero_s + ended_s,
        attributes=request_attributes(key, "be", track.service, track.entry_cluster) | {"tango.state": str(track.state)},
        failure=failure,
    )
    for attempt in track.attempts:
        yield from _of_attempt(trace, attempt, zero_s)


def _of_attempt(trace: RequestTrace, attempt: AttemptTrack, zero_s: float) -> Iterable[TraceSpan]:
    ended_s, node = attempt.ended_s, attempt.node
    times = (attempt.released_s, attempt.dispatched_s, attempt.started_s, attempt.finished_s)
    began_s = next((at_s for at_s in times if at_s is not None), ended_s)
    yield trace.span(
        ATTEMPT,
        epoch=attempt.epoch,
        began_s=zero_s + began_s,
        ended_s=zero_s + ended_s,
        within=REQUEST,
        attributes={} if node is None else attempt_attributes(node, epoch=attempt.epoch, attempt=attempt.epoch, pod=attempt.pod),
        failure=attempt.reason,
    )
    released_s, dispatched_s, started_s, finished_s = times
    for name, from_s, to_s in (
        (WAIT, released_s, dispatched_s),
        (START, dispatched_s, started_s),
        (RUN, started_s, finished_s if finished_s is not None else ended_s),
        (SETTLE, finished_s, ended_s),
    ):
        if from_s is not None and to_s is not None:
            yield trace.span(name, epoch=attempt.epoch, began_s=zero_s + from_s, ended_s=zero_s + to_s, within=ATTEMPT)


def _note(error: Exception) -> None:
    log.warning("spans_not_made", error=f"{type(error).__name__}: {error}")
