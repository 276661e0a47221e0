"""Celery's own metrics, counted in each worker: tasks received, begun and ended, and how long they took.

The names and labels are those of celery-exporter, but that `hostname` is the worker's name without its host. Each signal costs a worker
one or two additions; events, which celery-exporter counts from outside, cost it a message.
"""

from __future__ import annotations

import time
from typing import Any

from celery import signals, states

from tango.telemetry import Metric, count, observe, put
from tango.telemetry import catalogue as of

_begun_s: dict[str, float] = {}
"""When each task under way began, by its id."""
_hostname = "worker"


def show() -> None:
    """Begin to count, in every worker that is told a folder."""
    signals.worker_init.connect(_worker_begins)
    signals.worker_ready.connect(_worker_is_ready)
    signals.worker_shutting_down.connect(_worker_ends)
    signals.task_received.connect(_received)
    signals.task_prerun.connect(_begins)
    signals.task_postrun.connect(_ends)
    signals.task_failure.connect(_failed)
    signals.task_retry.connect(_retried)
    signals.task_revoked.connect(_revoked)
    signals.task_rejected.connect(_rejected)


def _worker_begins(sender: object = None, **_: object) -> None:
    global _hostname
    _hostname = str(getattr(sender, "hostname", sender)).partition("@")[0] or "worker"


def _worker_is_ready(**_: object) -> None:
    put(of.WORKER_UP, _hostname, value=1.0)


def _worker_ends(**_: object) -> None:
    put(of.WORKER_UP, _hostname, value=0.0)


def _labels(request: Any) -> tuple[str, str, str]:
    told = getattr(request, "delivery_info", None) or {}
    return str(getattr(request, "name", None) or getattr(request, "task", "")), _hostname, str(told.get("routing_key", ""))


def _count(metric: Metric, request: Any, *further: str) -> None:
    count(metric, *_labels(request), *further)


def _received(request: Any = None, **_: object) -> None:
    _count(of.TASK_RECEIVED, request)


def _begins(task_id: str, task: Any, **_: object) -> None:
    _begun_s[task_id] = time.perf_counter()
    _count(of.TASK_STARTED, task.request)
    count(of.WORKER_ACTIVE, _hostname)


def _ends(task_id: str, task: Any, state: str | None = None, **_: object) -> None:
    if state == states.SUCCESS:
        _count(of.TASK_SUCCEEDED, task.request)
    if (begun_s := _begun_s.pop(task_id, None)) is not None:
        observe(of.TASK_RUNTIME, *_labels(task.request), values=(time.perf_counter() - begun_s,))
        count(of.WORKER_ACTIVE, _hostname, by=-1.0)


def _failed(sender: Any, exception: BaseException, **_: object) -> None:
    _count(of.TASK_FAILED, sender.request, type(exception).__name__)


def _retried(request: Any, **_: object) -> None:
    _count(of.TASK_RETRIED, request)


def _revoked(request: Any, **_: object) -> None:
    _count(of.TASK_REVOKED, request)


def _rejected(message: Any = None, **_: object) -> None:
    headers = getattr(message, "headers", None) or {}
    told = getattr(message, "delivery_info", None) or {}
    count(of.TASK_REJECTED, str(headers.get("task", "")), _hostname, str(told.get("routing_key", "")))
