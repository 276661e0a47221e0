"""Periodic tasks where they run: ticks that have waited behind a slow one count as one."""

from __future__ import annotations

import itertools

from celery import Celery

from workers.app import app as tango
from workers.periodic import PeriodicTask, period_of

NUMBERS = itertools.count()


def scheduled(every_s: float) -> tuple[PeriodicTask, list[float], list[float]]:
    """A task that is sent so often, the clock of its process, and when it ran."""
    now_s, ran_at_s = [100.0], []
    app = Celery("test", broker="memory://")
    name = f"turn-{next(NUMBERS)}"
    app.conf.beat_schedule = {"turn": {"task": name, "schedule": every_s}}

    @app.task(base=PeriodicTask, name=name)
    def turn() -> dict[str, int]:
        ran_at_s.append(now_s[0])
        return {"done": 1}

    turn.monotonic = lambda: now_s[0]
    return turn, now_s, ran_at_s


def test_each_tick_in_its_time_runs() -> None:
    """A little early or late, as beat sends them."""
    turn, now_s, ran_at_s = scheduled(1.0)

    for now_s[0] in (100.0, 100.9, 102.1, 103.0):
        assert turn() == {"done": 1}

    assert ran_at_s == [100.0, 100.9, 102.1, 103.0]


def test_ticks_that_have_waited_are_one_tick() -> None:
    """Twenty at once run once, whatever any clock says about when they were sent."""
    turn, now_s, ran_at_s = scheduled(1.0)

    done = [turn() for _ in range(20)]
    now_s[0] += 0.6
    turn()

    assert done == [{"done": 1}, *[{}] * 19]
    assert ran_at_s == [100.0, 100.6]


def test_every_task_that_beat_sends_is_periodic() -> None:
    """And has the period at which it is sent."""
    tango.loader.import_default_modules()
    for entry in tango.conf.beat_schedule.values():
        task = tango.tasks[entry["task"]]
        assert isinstance(task, PeriodicTask), entry["task"]
        assert period_of(task) == entry["schedule"]


def test_ticks_tell_flower_nothing_and_other_tasks_do() -> None:
    """Ticks that found nothing to do were four of five lines of its page of tasks."""
    tango.loader.import_default_modules()
    periodic = {entry["task"] for entry in tango.conf.beat_schedule.values()}

    told = {name: task.send_events for name, task in tango.tasks.items() if name.startswith("tango.")}

    # Beat sends that one only where runs are to be deleted by themselves (`RetentionSettings`).
    assert {name for name, sends in told.items() if not sends} == periodic | {"tango.prune_runs"}
