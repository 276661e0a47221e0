"""By which Celery's processes show that they get on (`tango.progress`): tasks under way, the broker reached, beat's loop.

What a role's own threads do, such as the keeper of a journal, they say themselves.
"""

from __future__ import annotations

import math

from celery import signals

from tango import progress

BROKER_WITHIN_S = 60.0
"""Seconds for which a heartbeat that was sent shows that the broker takes messages: six heartbeats."""
LASTING = "tango.simulate"
"""The task that may take as long as it does: it simulates a whole run."""


def show() -> None:
    """Begin to, in every process of Celery that is told a folder."""
    signals.worker_ready.connect(_worker_is_ready)
    signals.beat_init.connect(_beat_begins)
    signals.heartbeat_sent.connect(_broker_took_it)
    signals.task_prerun.connect(_task_begins)
    signals.task_postrun.connect(_task_ends)


def _worker_is_ready(sender: object, **_: object) -> None:
    progress.reached("ready", within_s=math.inf)
    progress.tell(str(getattr(sender, "hostname", "worker")).partition("@")[0])


def _beat_begins(**_: object) -> None:
    progress.reached("ready", within_s=math.inf)
    progress.tell("beat")


def _broker_took_it(**_: object) -> None:
    progress.reached("broker", within_s=BROKER_WITHIN_S)


def _task_begins(task_id: str, task: object, **_: object) -> None:
    if (name := str(getattr(task, "name", ""))) != LASTING:
        progress.begun(f"{name} {task_id}")


def _task_ends(task_id: str, task: object, **_: object) -> None:
    progress.ended(f"{getattr(task, 'name', '')} {task_id}")
