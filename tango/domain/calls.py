"""Requests that callers send: what a caller sent, how its request stands, and the answer.

A caller is outside of Tango and speaks HTTP to a gateway, or Celery to the queue `submit.<cluster>`. From its row on, what it sent is a
request like any other; beside the row the journal keeps the call, for the instance, and the answer, for the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from tango.domain.identity import RequestKey
from tango.domain.lifecycle import TERMINAL
from tango.domain.requests import RequestState
from tango.domain.services import Service
from tango.errors import KeyTaken

Headers = tuple[tuple[str, str], ...]
"""(name, value) of HTTP headers in order; a name may come more than once."""

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that speak of one connection (RFC 9110, section 7.6.1), in lower case, and those for proxies."""
SET_ANEW = HOP_BY_HOP | {"host", "content-length", "expect"}
"""What does not go on to the instance: it speaks of the connection to the gateway, or is set anew on the one to the instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request as the instance is to get it: without what only concerned the hop to the gateway."""

    method: str
    path: str
    """Path and query, as in the first line of a request; begins with `/`."""
    headers: Headers = ()
    """Those that may be kept beside its row until it has ended."""
    body: bytes = b""
    is_repeatable: bool = False
    """Whether it may be sent to another instance although the first one may have begun with it."""
    has_held: bool = False
    """Whether the gateway whose caller waits holds further headers of it, which are written down nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTo:
    """Where the answer of a request is to go while its caller waits: a gateway's listener for workers of its cluster."""

    address: str
    """`unix:/path` or `http://host:port`."""
    key: str
    """What the gateway knows its own requests by: drawn anew at each start, and sent back as `Authorization: Bearer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerRequest:
    """A request that a caller has just sent, before it has a row. It is due at once."""

    service: str
    tenant: str
    target_s: float
    """Seconds from now within which it is to be answered."""
    patience_s: float
    """Seconds from now after which nobody waits for the answer any more, so that it is shed instead of served; infinite: never."""
    cpu_work_s: float
    """CPU-seconds that it is expected to take."""
    memory_mib: float
    call: Call
    answer_to: AnswerTo | None = None
    """None: nobody waits; the answer is kept to be fetched."""
    key: str = ""
    """Idempotency key: of several requests of a tenant with the same one within `CallSettings.keep_s`, only the first has a row;
    empty: none."""

    @property
    def digest(self) -> bytes:
        """What this asks for, 32 bytes: two requests with one idempotency key and different digests are not the same one.

        Service, method, path with query, and body. Headers are not in it: programs that send again change some of them by themselves,
        as the identifiers of traces.
        """
        named = "\0".join((self.service, self.call.method, self.call.path)).encode()
        return hashlib.sha256(len(named).to_bytes(8, "big") + named + self.call.body).digest()


def asked_of(
    service: Service,
    call: Call,
    *,
    tenant: str,
    target_s: float | None,
    timeout_s: float | None,
    else_targets: float,
    answer_to: AnswerTo | None,
    key: str,
) -> CallerRequest:
    """A caller's request of an LC service, in which what the caller does not say is as the service has it.

    It is given up after `timeout_s`, else after as many targets as the service says, else after `else_targets`, which may be infinite.
    """
    target_s = target_s or (service.target_ms or 0.0) / 1e3
    return CallerRequest(
        service=service.name,
        tenant=tenant,
        target_s=target_s,
        patience_s=(service.shed_after_targets or else_targets) * target_s if timeout_s is None else timeout_s,
        cpu_work_s=service.cpu_work_s,
        memory_mib=service.memory_mib,
        call=call,
        answer_to=answer_to,
        key=key,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A caller's request that has its row now."""

    key: RequestKey
    is_new: bool = True
    """False: its idempotency key was known, and `key` is the request that came first."""
    is_taken: bool = False
    """Whether that one asks for something else, so that this one is refused; `is_new` is False then."""


def key_taken(sent: CallerRequest, first: RequestKey) -> KeyTaken:
    """The error of a request whose idempotency key another one of its tenant has, with other content."""
    return KeyTaken(
        f"key {sent.key!r} is taken by request {first}, which has another service, method, path or body; send what was sent first, or "
        "take another key",
        first=str(first),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStanding:
    """How a caller's request stands."""

    state: RequestState
    service: str
    tenant: str
    reason: str = ""
    attempt: int = 0
    node: str = ""
    """`cluster/node` of the last attempt; empty: none yet."""
    due_at_s: float = 0.0
    """Unix time at which it was accepted."""
    latency_s: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in TERMINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an instance answered, as it is kept to be fetched."""

    status: int
    headers: Headers
    body: bytes
    is_whole: bool
    """False: the body was longer than what is kept (`CallSettings.kept_answer_kib`), and this is its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledWork:
    """What the executor needs of a caller's request beside its `LcWork`."""

    call: Call
    answer_to: AnswerTo | None


Calls = Mapping[RequestKey, CalledWork]
