"""Jobs: best-effort requests of callers, each a pod of its service's template with a command, arguments and environment of its own.

    NewJob ─► row of the request, row of the job ─► Placement.job ─► pod ─► JobEnd ─► settled, retried or requeued

How a request's life goes is in `lifecycle`; here is what a job has beside it, and who pays for an attempt that ended badly. A job's own
failure costs one of its retries and is final where none is left. What the system does to it, an eviction or a lost node, costs none.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from tango.domain.identity import RequestKey
from tango.domain.lifecycle import TERMINAL, Event, Outcome
from tango.domain.literal_secrets import looks_secret
from tango.domain.refusals import RefusalState
from tango.domain.requests import RequestState
from tango.domain.tenants import DEFAULT_TENANT, is_tenant_name
from tango.domain.tracing import TRACEPARENT_VARIABLE
from tango.errors import KeyTaken, RequestRejected

MOST_BYTES = 64 * 1024
"""Bytes of a job's command, arguments and environment together, in UTF-8: as much as one message may have."""
MOST_RETRIES, MOST_PRIORITY, MOST_DEADLINE_S = 100, 100, 30 * 86_400.0
MOST_KEY = 200
"""Characters of an idempotency key."""
MESSAGE_BYTES = 4096
"""Of a termination message, as the kubelet cuts it."""
LOG_TAIL_BYTES = 64 * 1024
"""Bytes of the end of each container's log that are kept after its pod is gone."""

Env = tuple[tuple[str, str], ...]
"""(name, value) of environment variables."""
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that a caller asks for, before it has a row. Raises: RequestRejected, which names the field, for what cannot be."""

    service: str
    command: tuple[str, ...] | None = None
    """None: the image's, or the template's."""
    args: tuple[str, ...] | None = None
    env: Env = ()
    cluster: str = ""
    """Where it enters; empty: anywhere. It may run in another."""
    tenant: str = DEFAULT_TENANT
    key: str = ""
    """Idempotency key: one job for each tenant and key; empty: a new job in any case."""
    deadline_s: float | None = None
    """Seconds that one attempt may run."""
    retries: int = 0
    """Failures of its own after which it is tried again."""
    retry_on: tuple[int, ...] = ()
    """Exit codes that are tried again; empty: every one but 0."""
    priority: int = 0
    """Among jobs of its tenant, the higher first."""
    allow_literal: tuple[str, ...] = ()
    """Variables that may have literal values although they look like secrets."""
    by_local_user: bool = False
    """Whether whoever runs the stack asks for it, by its command line, and not a caller from outside."""

    def __post_init__(self) -> None:
        size = sum(
            len(text.encode()) for text in (*(self.command or ()), *(self.args or ()), *(part for of in self.env for part in of))
        )
        for field, is_good, found, expected in (
            ("service", bool(self.service), self.service, "the name of a BE service"),
            ("tenant", is_tenant_name(self.tenant), self.tenant, "at most 63 of a-z, 0-9 and `-`, with a letter or digit first and last"),
            ("command", self.command != (), self.command, "at least one word, or none for the image's own"),
            ("args", size <= MOST_BYTES, f"{size} bytes with command and env", f"at most {MOST_BYTES}: pass a reference, not the data"),
            ("key", len(self.key) <= MOST_KEY, f"{len(self.key)} characters", f"at most {MOST_KEY}"),
            ("deadline_s", self.deadline_s is None or 1 <= self.deadline_s <= MOST_DEADLINE_S, self.deadline_s,
             f"seconds from 1 to {MOST_DEADLINE_S:.0f}"),
            ("retries", 0 <= self.retries <= MOST_RETRIES, self.retries, f"a number from 0 to {MOST_RETRIES}"),
            ("retry_on", all(1 <= code <= 255 for code in self.retry_on), self.retry_on, "exit codes from 1 to 255"),
            ("retry_on", not self.retry_on or self.retries > 0, self.retry_on, "retries above 0 beside it"),
            ("priority", abs(self.priority) <= MOST_PRIORITY, self.priority, f"a number from -{MOST_PRIORITY} to {MOST_PRIORITY}"),
        ):  # fmt: skip
            if not is_good:
                raise RequestRejected(f"job: {field} is {found!r}, expected {expected}")
        self._refuse_env()
        if any("\0" in text for text in (*(self.command or ()), *(self.args or ()), self.key, *(v for _, v in self.env))):
            raise RequestRejected(
                "job: a text has the character NUL, which neither a process nor the database can take; leave it away"
            )

    def _refuse_env(self) -> None:
        names = [name for name, _ in self.env]
        for name, value in self.env:
            if not _VARIABLE.fullmatch(name):
                raise RequestRejected(f"job: env {name!r} is no name of a variable, expected letters, digits, '_', '-' or '.'")
            if name in OWN_VARIABLES:
                raise RequestRejected(f"job: env {name} is Tango's own; choose another name")
            if names.count(name) > 1:
                raise RequestRejected(f"job: env {name} is given twice; give it once")
            if value and name not in self.allow_literal and looks_secret(name):
                raise RequestRejected(
                    f"job: env {name} looks like a secret, and a literal value would be stored and shown. Let the service's template name "
                    f"it by secretKeyRef or envFrom; where it is none, say so: --allow-literal {name}"
                )


ATTEMPT, REQUEST, PROGRESS_FILE = "TANGO_ATTEMPT", "TANGO_REQUEST", "TANGO_PROGRESS_FILE"
OWN_VARIABLES = (ATTEMPT, REQUEST, PROGRESS_FILE)
"""What Tango tells a job: which attempt this is (from 1), which request (`RUN-REQUEST`), and where to write its progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPod:
    """What one attempt of a job has of its own in its pod."""

    attempt: int
    """From 1; every epoch is one, whoever paid for the last."""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: Env = ()
    deadline_s: float | None = None
    by_local_user: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedJob:
    """A job that has its row now."""

    key: RequestKey
    service: str
    cluster: str
    is_new: bool = True
    """False: its idempotency key was known, and `key` is the job that came first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerEnd:
    """How one container of a pod ended."""

    name: str
    exit_code: int | None
    reason: str = ""
    """Kubernetes' own, such as `OOMKilled`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLog:
    """The end of a container's log."""

    container: str
    tail: bytes
    is_whole: bool
    """False: the log was longer than what is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a job says of its own work, in seconds of work of this attempt; as it counts them itself."""

    done_s: float | None = None
    saved_s: float = 0.0
    """Of these, what a later attempt need not do again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnd:
    """How one attempt of a job ended."""

    outcome: Outcome
    is_own_fault: bool = False
    """The job failed by itself, so that only its retries let it be tried again; `outcome` is then to fail."""
    exit_code: int | None = None
    """Of the service's container; None: unknown, or it never ran."""
    message: str = ""
    """The termination message of that container."""
    containers: tuple[ContainerEnd, ...] = ()
    logs: tuple[ContainerLog, ...] = ()

    @property
    def key(self) -> RequestKey:
        """The request that the ended pod was of."""
        return RequestKey(self.outcome.run_id, self.outcome.request_id)

    def event(self, *, retries_left: int, retry_on: Sequence[int]) -> Event:
        """What happens to the request: a failure of its own is tried again where a retry is left for its exit code."""
        again = self.is_own_fault and retries_left > 0 and (not retry_on or self.exit_code in retry_on)
        return Event.REQUEUE if again else self.outcome.event


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A stored job, as it stands. Times are Unix seconds."""

    key: RequestKey
    service: str
    tenant: str
    idempotency_key: str
    state: RequestState
    reason: str
    entry_cluster: str
    cluster: str
    """Of its last attempt; empty: none yet."""
    node: str
    pod: str
    attempts: int
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    env: Env
    deadline_s: float | None
    retries: int
    retries_used: int
    retry_on: tuple[int, ...]
    priority: int
    exit_code: int | None
    message: str
    containers: tuple[ContainerEnd, ...]
    work_lost_s: float
    submitted_at_s: float
    started_at_s: float | None
    ended_at_s: float | None
    refusals: tuple[RefusalState, ...] = ()
    """What clusters refuse of its service just now, while it waits for a node."""
    pod_waits: str = ""
    """Why its pod has not started, in Kubernetes' words, while it has not."""

    @property
    def has_ended(self) -> bool:
        """Whether it will not change any more."""
        return self.state in TERMINAL


def as_refused(job: Job, refusals: Iterable[RefusalState]) -> Job:
    """The job with what of these refusals keeps it, while it waits for a node: of all services, or of its own."""
    if job.state is not RequestState.PENDING:
        return job
    return replace(job, refusals=tuple(state for state in refusals if state.service in ("", job.service)))


_DRAWN = "drawn-"


def drawn_key() -> str:
    """A new idempotency key, for a job whose caller gives none."""
    return f"{_DRAWN}{uuid.uuid4().hex}"


def is_drawn(key: str) -> bool:
    """Whether nobody gave this key."""
    return key.startswith(_DRAWN)


_CONTENT = ("service", "command", "args", "deadline_s", "retries", "retry_on", "priority")
"""What makes two submissions the same one, and `env` in any order. Where a job enters does not: each gateway names its own cluster."""


def most_jobs_refused(tenant: str, most: int) -> str:
    """What whoever submits one job more is told."""
    return (
        f"tenant {tenant} has {most} live jobs, which is the most that it may have at a time: submit it again when one has ended, cancel "
        "one, or raise `jobs` of the tenant (`tango tenant apply`)"
    )


def refuse_other_content(sent: NewJob, known: Job) -> None:
    """Raises: KeyTaken where `known`, which has the key of `sent`, asked for something else; the message names the members."""
    others = [name for name in _CONTENT if getattr(sent, name) != getattr(known, name)]
    if _told(sent.env) != _told(known.env):
        others.append("env")
    if others:
        raise KeyTaken(
            f"job: key {sent.key!r} is taken by job {known.key}, which has another {' and another '.join(others)}; "
            "send what was sent first, or take another key",
            first=str(known.key),
        )


def _told(env: Env) -> dict[str, str]:
    """Without the trace of who sends it, which is another one each time."""
    return {name: value for name, value in env if name != TRACEPARENT_VARIABLE}


def progress_of(message: str) -> Progress | None:
    """What a job wrote to its progress file, which is its termination message; None: it wrote something else, or nothing."""
    try:
        found = orjson.loads(message)  # which bounds the depth
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, Mapping) or "saved_s" not in found:
        return None
    saved_s, done_s = _seconds(found["saved_s"]), _seconds(found.get("done_s"))
    return None if saved_s is None else Progress(done_s=done_s, saved_s=saved_s)


def work_lost_s(progress: Progress | None, *, ran_s: float) -> float:
    """Seconds of work of an attempt that ended before its job did: all that it ran, less what it says it has saved."""
    if progress is None:
        return ran_s
    return max(0.0, (ran_s if progress.done_s is None else progress.done_s) - progress.saved_s)


def _seconds(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12 else None
