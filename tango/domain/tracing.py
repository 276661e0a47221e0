"""Distributed traces of requests, in the sense of OpenTelemetry: their ids, and the spans that they are made of.

Ids are functions of what every process knows of a request: its run with the run's zero, its number, its epoch, and the name of the span. So
nothing has to travel for whoever does a part of the work to name the trace and the span above its own, what is done twice makes the same
span, and all processes sample the same requests. Only what a caller says himself in a `traceparent` is kept, with his call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

from tango.domain.identity import NodeKey, RequestKey
from tango.domain.requests import RequestState

Attribute = str | int | float | bool

TRACEPARENT = "traceparent"
"""Header of W3C Trace Context."""
TRACEPARENT_VARIABLE = "TRACEPARENT"
"""The same as a variable of the environment of processes, as OpenTelemetry specifies it."""
REQUEST, ATTEMPT, WAIT, DISPATCH, CALL, SETTLE, START, RUN = (
    "request",
    "attempt",
    "wait",
    "dispatch",
    "call",
    "settle",
    "start",
    "run",
)
"""Spans of a request, by which their ids are made; but for the call they are named so too."""
SEND, PROCESS = "send", "process"
"""Spans of a message."""
_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)


class TraceContext(NamedTuple):
    """A span, as others are told of it."""

    trace_id: int
    """128 bits, not 0."""
    span_id: int
    """64 bits, not 0."""
    is_sampled: bool = True

    def __str__(self) -> str:
        """As the value of a `traceparent`."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"

    @classmethod
    def parsed(cls, text: str) -> TraceContext | None:
        """The context of a `traceparent`; None for what is none, which counts as if it had not come (W3C Trace Context)."""
        found = _PARENT.fullmatch(text.strip())
        if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
            return None
        context = cls(int(found["trace"], 16), int(found["span"], 16), bool(int(found["flags"], 16) & 1))
        return context if context.trace_id and context.span_id else None


class SpanKind(StrEnum):
    """The kinds of OpenTelemetry."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSpan:
    """One part of the work, which has ended. Times are Unix seconds."""

    name: str
    kind: SpanKind = SpanKind.INTERNAL
    context: TraceContext
    parent_id: int = 0
    """0: it is the root of its trace."""
    began_s: float
    ended_s: float
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    links: tuple[TraceContext, ...] = ()
    """Spans of other traces that it worked for."""
    failure: str = ""
    """What went wrong, as `error.type`; empty: nothing."""


@dataclass(frozen=True, slots=True)
class RequestTrace:
    """The trace of one request that is sampled."""

    run_id: int
    request_id: int
    trace_id: int
    above_id: int = 0
    """The span above that of the request, of whoever sent it; 0: none."""

    def span_id(self, name: str, epoch: int = 0) -> int:
        """Of one of its spans; `epoch` is that of the attempt, 0 for what belongs to none."""
        # With the request: a caller may send many requests in one trace.
        return _digest(8, self.trace_id, self.run_id, self.request_id, epoch, name)

    def context(self, name: str, epoch: int = 0) -> TraceContext:
        """The same, as others are told of it."""
        return TraceContext(self.trace_id, self.span_id(name, epoch))

    def span(
        self,
        name: str,
        *,
        epoch: int = 0,
        began_s: float,
        ended_s: float,
        within: str = "",
        attributes: Mapping[str, Attribute] | None = None,
        links: tuple[TraceContext, ...] = (),
        failure: str = "",
    ) -> TraceSpan:
        """One of its spans, within another one of the same epoch (an attempt within the request). What two clocks tell may end before it
        begins; it is then as long as nothing."""
        above = self.span_id(within, 0 if within == REQUEST else epoch) if within else self.above_id
        return TraceSpan(
            name=name,
            context=self.context(name, epoch),
            parent_id=above,
            began_s=began_s,
            ended_s=max(began_s, ended_s),
            attributes=attributes or {},
            links=links,
            failure=failure,
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which requests have a trace: a share of all, by the number that their trace would have; the same ones in every process."""

    ratio: float
    """Share of requests, from 0 to 1."""

    def takes(self, trace_id: int) -> bool:
        """Whether this trace is kept. By its low 64 bits, as `traceidratio` of the SDKs has it, so that collectors can agree."""
        return (trace_id & 0xFFFF_FFFF_FFFF_FFFF) < round(self.ratio * 2**64)

    def of_request(self, run_id: int, zero_s: float, request_id: int) -> RequestTrace | None:
        """The trace of a request that begins with it; None: it is not sampled. `zero_s`: the Unix time of the run's zero, by which runs of
        different installations differ."""
        # As `_digest`, at a third of its cost: it is made of each request, sampled or not.
        told = f"{_micros(zero_s)}\0{run_id}\0{request_id}".encode()
        trace_id = int.from_bytes(blake2b(told, digest_size=16).digest(), "big") or 1
        return RequestTrace(run_id, request_id, trace_id) if self.takes(trace_id) else None


def continued(run_id: int, request_id: int, traceparent: str) -> RequestTrace | None:
    """The trace of a request whose caller says in which one it is; None: he does not sample it, or says nothing that can be read."""
    above = TraceContext.parsed(traceparent)
    if above is None or not above.is_sampled:
        return None
    return RequestTrace(run_id, request_id, above.trace_id, above.span_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedMessage:
    """A message to workers. Who sends it and who takes it make the spans of one trace, which is no request's."""

    queue: str
    run_id: int
    zero_s: float
    request_ids: Sequence[int]
    epochs: Sequence[int] = ()
    """Those that it names."""

    def span(
        self, name: str, *, began_s: float, ended_s: float, links: tuple[TraceContext, ...], given: Iterable[int] = ()
    ) -> TraceSpan:
        """`send` or `process` of it, after OpenTelemetry's conventions for messaging. `given`: the epochs that were given out as it was
        taken, so that a request which is sent again has another span."""
        is_sent = name == SEND
        trace_id = _digest(16, self.queue, _micros(self.zero_s), self.run_id, *sorted(self.request_ids), *sorted(self.epochs))
        sent_id = _digest(8, trace_id, SEND)
        return TraceSpan(
            name=f"{name} {self.queue}",
            kind=SpanKind.PRODUCER if is_sent else SpanKind.CONSUMER,
            context=TraceContext(trace_id, sent_id if is_sent else _digest(8, trace_id, name, *sorted(given))),
            parent_id=0 if is_sent else sent_id,
            began_s=began_s,
            ended_s=max(began_s, ended_s),
            attributes={
                "messaging.system": "celery",
                "messaging.operation.name": name,
                "messaging.operation.type": name,
                "messaging.destination.name": self.queue,
                "tango.run": self.run_id,
                "tango.requests": len(self.request_ids),
            },
            links=links,
        )


def cycle_context(name: str, *numbers: int) -> TraceContext:
    """The one span of a trace that belongs to a decision about many requests, by what it decided."""
    trace_id = _digest(16, name, *numbers)
    return TraceContext(trace_id, _digest(8, trace_id, name))


def request_attributes(key: RequestKey, service_class: str, service: str, entry_cluster: str) -> dict[str, Attribute]:
    """Of the span of a request."""
    return {
        "tango.request": str(key),
        "tango.class": service_class,
        "tango.service": service,
        "tango.entry_cluster": entry_cluster,
    }


def attempt_attributes(node: NodeKey, *, epoch: int, attempt: int, pod: str = "") -> dict[str, Attribute]:
    """Of the span of an attempt; names after OpenTelemetry's conventions for Kubernetes."""
    of_pod = {"k8s.pod.name": pod} if pod else {}
    return {
        "tango.attempt": attempt,
        "tango.epoch": epoch,
        "k8s.cluster.name": node.cluster,
        "k8s.node.name": node.name,
        **of_pod,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What a store knows of an LC request's present attempt, or of its last one, for its trace. Times are Unix seconds but `due_s`."""

    epoch: int
    attempt: int
    due_s: float
    """Wall seconds since the run began."""
    service: str
    waits_from_s: float | None
    dispatched_at_s: float | None
    node: NodeKey | None
    """None: none yet."""
    method: str = ""
    """Of its call; empty: it has none."""
    traceparent: str = ""
    """What its call has; empty: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTrack:
    """An attempt of a BE request that has ended. Times are wall seconds since the run began; None: unknown, or it did not come so far."""

    epoch: int
    node: NodeKey | None
    pod: str
    released_s: float | None
    """Since when it waited for a node."""
    dispatched_s: float | None
    started_s: float | None
    finished_s: float | None
    ended_s: float
    """When that was written down."""
    reason: str
    """Why it ended other than well; empty: it succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeTrack:
    """What the centre knows of a BE request, for its trace."""

    state: RequestState
    service: str
    entry_cluster: str
    due_s: float
    """Wall seconds since the run began."""
    reason: str
    traceparent: str
    """What its environment has, where it is a job that was sent with one; empty: nothing."""
    attempts: list[AttemptTrack]
    """In order of their epochs."""


def _micros(unix_s: float) -> int:
    """Whole microseconds: what PostgreSQL keeps, and floats of today tell apart."""
    return round(unix_s * 1e6)


def _digest(size: int, *of: object) -> int:
    return int.from_bytes(blake2b("\0".join(map(str, of)).encode(), digest_size=size).digest(), "big") or 1
