"""The part of a gateway in distributed traces: its own span of each call that is sampled, and the word to whoever serves it.

    caller's traceparent ─► its trace goes on, sampled as he says      the span of the call here ─► traceparent, kept with the call
    none ─► a new trace, sampled by ratio                              the worker's spans of the request hang below that

The ids of a call are drawn, since it has no number yet when it comes; what stands in its `traceparent` is what everybody goes by from then
on, also where it says that nothing is sampled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import structlog

from tango.domain.call_json import METHODS
from tango.domain.calls import Headers
from tango.domain.identity import RequestKey
from tango.domain.jobs import NewJob
from tango.domain.requests import Batch
from tango.domain.tracing import (
    REQUEST,
    SEND,
    TRACEPARENT,
    TRACEPARENT_VARIABLE,
    Attribute,
    RequestTrace,
    SpanKind,
    TraceContext,
    TracedMessage,
    TraceSpan,
    continued,
)
from tango.errors import RequestRejected
from tango.gateway.headers import AnyHeaders
from tango.ports.spans import Spans

log = structlog.get_logger(__name__)

CALLER_GONE_STATUS = 499
"""What stands in the log for a caller who was gone before there was an answer."""


@dataclass(slots=True)
class TracedArrival:
    """A call that has come, and in which trace it is."""

    context: TraceContext
    """The span of the call here; or what the caller said, who does not sample it."""
    above_id: int
    """The caller's span; 0: none."""
    method: str
    route: str
    scheme: str
    began_s: float = field(default_factory=time.time)

    def told(self, kept: Headers, held: Headers) -> tuple[Headers, Headers]:
        """(headers that are kept, those that are held), the first with what the worker and the instance are told, whatever is kept else."""
        return (*_without(kept), (TRACEPARENT, str(self.context))), _without(held)

    def in_job(self, job: NewJob) -> NewJob:
        """The job with the same in its environment, unless it brings one of its own."""
        if any(name == TRACEPARENT_VARIABLE for name, _ in job.env):
            return job
        try:
            return replace(job, env=(*job.env, (TRACEPARENT_VARIABLE, str(self.context))))
        except RequestRejected:  # it is as large as a job may be
            return job


class GatewayTracing:
    """That of one cluster's gateway. `arrives` and `answered` are called in the loop, the others in the intake's threads."""

    def __init__(self, spans: Spans, zero_s: Callable[[int], float], *, cluster: str) -> None:
        """`zero_s`: Unix time of a run's zero. Raises: UsageError, StoreUnavailable."""
        self._spans, self._zero_s, self._cluster = spans, zero_s, cluster
        self._drawn = random.SystemRandom()
        self._accepted: dict[RequestKey, RequestTrace] = {}
        """Those that are sampled and of which no worker has been told."""

    def arrives(self, method: str, path: str, headers: AnyHeaders, *, scheme: str) -> TracedArrival | None:
        """A call; None for one that no trace begins with, such as a question how a request stands."""
        is_call = path.startswith("/s/")
        if not is_call and not (path == "/jobs" and method == "POST"):
            return None
        route = "/s/{service}/{path}" if is_call else path
        said = TraceContext.parsed(headers.get(TRACEPARENT, ""))
        if said is not None:
            own = said._replace(span_id=self._number(64)) if said.is_sampled else said
            return TracedArrival(own, said.span_id, method, route, scheme)
        if not is_call:
            return None  # a job's own trace begins with its row, and is sampled by that
        trace_id = self._number(128)
        return TracedArrival(
            TraceContext(trace_id, self._number(64), self._spans.sampling.takes(trace_id)), 0, method, route, scheme
        )

    def answered(self, arrival: TracedArrival, *, status: int, problem: str, notes: Mapping[str, str]) -> None:
        """It has been answered, or its caller is gone. `notes`: what the log says of it."""
        if not arrival.context.is_sampled:
            return
        is_known = arrival.method in METHODS
        failure = "caller-gone" if status == CALLER_GONE_STATUS else (problem or str(status)) if status >= 500 else ""
        attributes: dict[str, Attribute] = {
            "http.request.method": arrival.method if is_known else "_OTHER",
            "http.route": arrival.route,
            "url.scheme": arrival.scheme,
            "http.response.status_code": status,
            "tango.cluster": self._cluster,
            **{f"tango.{name}": value for name, value in notes.items()},
        }
        if problem:
            attributes["tango.problem"] = problem
        self._spans.end(
            [
                TraceSpan(
                    name=f"{arrival.method if is_known else 'HTTP'} {arrival.route}",
                    kind=SpanKind.SERVER,
                    context=arrival.context,
                    parent_id=arrival.above_id,
                    began_s=arrival.began_s,
                    ended_s=time.time(),
                    attributes=attributes,
                    failure=failure,
                )
            ]
        )

    def accepted(self, new: Iterable[tuple[RequestKey, Headers]]) -> None:
        """These have their rows now."""
        for key, headers in new:
            said = next((value for name, value in headers if name == TRACEPARENT), "")
            if (trace := continued(*key, said)) is not None:
                self._accepted[key] = trace

    def published(self, batches: Sequence[Batch], *, began_s: float) -> None:
        """A worker is told of these, by one message for all of a run."""
        by_run: dict[int, list[int]] = {}
        for batch in batches:
            by_run.setdefault(batch.run_id, []).extend(batch.request_ids)
        for run_id, ids in by_run.items():
            found = (self._accepted.pop(RequestKey(run_id, request_id), None) for request_id in ids)
            links = tuple(trace.context(REQUEST) for trace in found if trace is not None)
            if not links:
                continue
            try:
                zero_s = self._zero_s(run_id)
            except Exception as error:  # whatever it is: callers are served
                log.warning("spans_not_made", error=f"{type(error).__name__}: {error}")
                continue
            message = TracedMessage(queue=f"lc.{self._cluster}", run_id=run_id, zero_s=zero_s, request_ids=ids)
            self._spans.end([message.span(SEND, began_s=began_s, ended_s=time.time(), links=links)])

    def _number(self, bits: int) -> int:
        return self._drawn.getrandbits(bits) or 1


def _without(headers: Headers) -> Headers:
    return tuple(of for of in headers if of[0].lower() != TRACEPARENT)
