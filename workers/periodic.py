"""Periodic tasks in the process that runs them: ticks that have piled up behind a slow one are one tick.

A message's `expires` would be told by the clock of whoever reads it: a scheduler whose clock is a second ahead of beat's would drop each
tick of a placement that is to come every second. So nothing here goes by the clocks of two hosts: each process goes by its own, which no
step of the time moves, and beat sends no more than are taken (`ticks.MOST_WAITING`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Task

LEAST_SHARE = 0.5
"""Of a task's period: what comes sooner after the last begin has waited behind others. Beat's own rhythm is off by 0.2 s at the most,
of periods of 1 s and more; a tick that waited is done at half of its period at the soonest."""


class PeriodicTask(Task):  # type: ignore[misc,unused-ignore]
    """A task that beat sends. Called sooner than `LEAST_SHARE` of its period after its last begin in this process, it does nothing."""

    abstract = True
    # Most find nothing to do, and would be four of five lines of Flower's page. What they did is in `decision` and `scaling_event`, and
    # counted among the metrics.
    send_events = False
    monotonic: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._begin = threading.Lock()
        self._begun_at_s = -float("inf")

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the task, or nothing."""
        period_s = period_of(self)
        with self._begin:
            now_s = self.monotonic()
            if now_s - self._begun_at_s < LEAST_SHARE * period_s:
                return {}
            self._begun_at_s = now_s
        return super().__call__(*arguments, **named)


def period_of(task: Task) -> float:
    """Seconds between two ticks of a task while a run is open, as beat sends them; 0 for one that beat does not send."""
    return max(
        (float(entry["schedule"]) for entry in task.app.conf.beat_schedule.values() if entry["task"] == task.name), default=0.0
    )
