"""Jobs as JSON: what callers may ask for, and what they are shown."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tango.domain.identity import NodeKey
from tango.domain.job_waiting import waiting_words
from tango.domain.jobs import Job, NewJob
from tango.domain.near_names import near_name
from tango.errors import RequestRejected

ORDER = ("service", "command", "args", "env", "cluster", "key", "deadline_s", "retries", "retry_on", "priority", "allow_literal")
"""Members of a submission as JSON; all but `service` may be left away. `env` is an object of texts."""


def new_job_of(order: object, *, tenant: str) -> NewJob:
    """The job that a JSON object asks for. Raises: RequestRejected, which names the member, what was found and what is expected."""
    if not isinstance(order, Mapping):
        raise RequestRejected(f"job: found {type(order).__name__}, expected an object with the member `service`")
    for name in order:
        if name not in ORDER:
            raise RequestRejected(f"job: {name!r} is no member{near_name(str(name), ORDER)}; there are: {', '.join(ORDER)}")
    env = _member(order, "env", Mapping, "an object of texts") or {}
    return NewJob(
        service=_member(order, "service", str, "the name of a BE service") or "",
        command=_words(order, "command"),
        args=_words(order, "args"),
        env=tuple((str(name), _text(value, f"env {name}")) for name, value in env.items()),
        cluster=_member(order, "cluster", str, "the name of a cluster") or "",
        tenant=tenant,
        key=_member(order, "key", str, "a text") or "",
        deadline_s=_member(order, "deadline_s", int | float, "seconds"),
        retries=_member(order, "retries", int, "a whole number") or 0,
        retry_on=tuple(_each(order, "retry_on", int, "a list of exit codes") or ()),
        priority=_member(order, "priority", int, "a whole number") or 0,
        allow_literal=tuple(_each(order, "allow_literal", str, "a list of names") or ()),
    )


def shown_job(job: Job) -> dict[str, Any]:
    """A job as JSON shows it: the keys that scripts depend on first."""
    return {
        "job": str(job.key),
        "state": str(job.state),
        "exit_code": job.exit_code,
        "attempts": job.attempts,
        "node": str(NodeKey(job.cluster, job.node)) if job.node else None,
        "reason": job.reason or None,
        "message": job.message or None,
        "service": job.service,
        "tenant": job.tenant,
        "key": job.idempotency_key,
        "cluster": job.entry_cluster,
        "command": None if job.command is None else list(job.command),
        "args": None if job.args is None else list(job.args),
        "env": dict(job.env),
        "deadline_s": job.deadline_s,
        "retries": job.retries,
        "retries_used": job.retries_used,
        "retry_on": list(job.retry_on),
        "priority": job.priority,
        "pod": job.pod or None,
        "containers": [dataclasses.asdict(container) for container in job.containers],
        "work_lost_s": job.work_lost_s,
        "submitted_at_s": job.submitted_at_s,
        "started_at_s": job.started_at_s,
        "ended_at_s": job.ended_at_s,
        "waiting": waiting_words(job) or None,
    }


def _member(order: Mapping[Any, Any], name: str, kind: Any, expected: str) -> Any:
    value = order.get(name)
    if value is None:
        return None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RequestRejected(f"job: {name} is {value!r}, expected {expected}")
    return value


def _each(order: Mapping[Any, Any], name: str, kind: type, expected: str) -> list[Any] | None:
    values: list[Any] | None = _member(order, name, list, expected)
    for value in values or ():
        if not isinstance(value, kind) or isinstance(value, bool):
            raise RequestRejected(f"job: {name} has {value!r} in it, expected {expected}")
    return values


def _words(order: Mapping[Any, Any], name: str) -> tuple[str, ...] | None:
    words = _each(order, name, str, "a list of texts")
    return None if words is None else tuple(words)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RequestRejected(f"job: {where} is {value!r}, expected a text; write numbers in quotes")
    return value
