"""Beat's schedule: periodic tasks at their own rhythm while a run is open, and rarely while none is.

A tick costs beat, broker, scheduler and Flower some 15 ms of CPU together on a small machine, eight times a second, and while no run is
open it finds nothing to do. So beat looks several times a second whether somebody has said that a run is open (`open_runs`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.beat import ScheduleEntry, Scheduler

from tango import progress
from workers.open_runs import read_word, tolerant
from workers.queues import CONTROL

LOOK_EVERY_S = 0.2
"""Seconds between two looks: the first run after a pause gets its periodic tasks this much later."""
MOST_WAITING = 20
"""Messages that may wait in the queue of the scheduler workers before no tick is added: some five seconds of all periodic tasks."""
OPEN_FOR_S = 10.0
"""Seconds that runs count as open after it was last said. The reconciler says it every second or two while there are some."""


class PeriodicTick(ScheduleEntry):  # type: ignore[misc,unused-ignore]
    """One periodic task; `idle` is its period in seconds while no run is open."""

    def __init__(self, *arguments: Any, idle: float = 0.0, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.every_s = float(self.schedule.run_every.total_seconds())
        self.idle_s = max(self.every_s, idle)


class Ticks(Scheduler):  # type: ignore[misc,unused-ignore]
    """The schedule, kept in memory: each task may run once more after a restart of beat.

    Celery's default would keep it in a pickle file, and Tango reads no pickles.
    """

    Entry = PeriodicTick
    now_s: Callable[[], float] = staticmethod(time.monotonic)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._sent_at_s: dict[str, float] = {}
        self._word: object = None
        # From the start on, for runs may be open then; nobody has to say it first.
        self._open_until_s = self.now_s() + OPEN_FOR_S
        super().__init__(*arguments, **named)

    def install_default_entries(self, data: Any) -> None:
        """Add no entry: Celery's own would delete old results, and Tango keeps none."""

    def tick(self, **_: Any) -> float:
        """Send every task that is due; gives the seconds until the next call."""
        progress.turned("tick")
        now_s = self.now_s()
        is_open = self._is_open(now_s)
        due = []
        for entry in self.schedule.values():
            due_at_s = self._sent_at_s.get(entry.name, -float("inf")) + (entry.every_s if is_open else entry.idle_s)
            if due_at_s <= now_s:
                # Counted from when it was due, so that the period holds on average; ticks that were missed are not made up for.
                self._sent_at_s[entry.name] = max(due_at_s, now_s - LOOK_EVERY_S)
                due.append(entry)
        if due and not self._nobody_takes():
            for entry in due:
                self.apply_entry(entry, producer=self.producer)
        wait_s = LOOK_EVERY_S
        if is_open:
            wait_s = min(self._sent_at_s[entry.name] + entry.every_s for entry in self.schedule.values()) - self.now_s()
        return min(max(wait_s, 0.0), LOOK_EVERY_S)

    def _nobody_takes(self) -> bool:
        """Whether so many ticks wait already that one more would only wait behind them, as while no scheduler worker runs."""
        waiting = 0
        with tolerant(self.connection):
            waiting = int(self.producer.channel.client.llen(CONTROL))
        return waiting >= MOST_WAITING

    def _is_open(self, now_s: float) -> bool:
        """Whether a run is open, or was within the last `OPEN_FOR_S`. A broker that cannot tell leaves it as it was."""
        with tolerant(self.connection):
            word = read_word(self.producer.channel)
            if word != self._word:
                self._word, self._open_until_s = word, now_s + OPEN_FOR_S
        return now_s < self._open_until_s
