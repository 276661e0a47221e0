"""Callers of jobs in a chaos world: they submit by the code that all doors of jobs use, send again until they are told, and cancel some."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tango.control.jobs import Jobs
from tango.domain.identity import RequestKey
from tango.domain.jobs import NewJob
from tango.domain.requests import Reason, RequestState
from tango.errors import NotOpen, StoreUnavailable
from tests.chaos.broker import publisher_of
from tests.chaos.network import CENTRE

if TYPE_CHECKING:
    from tests.chaos.world import World

PAUSE_S = 3.0
"""Seconds after which a job that was not taken is sent again."""
LAST_AFTER_S = 20.0
"""Seconds after its acceptance within which a job is cancelled, if it is."""


@dataclass(slots=True)
class Wanted:
    """One job, and what its caller knows."""

    at_s: float
    job: NewJob
    cancel_after_s: float | None
    told: list[RequestKey] = field(default_factory=list)
    is_cancelled: bool = False
    """Whether he was told that it is."""


@dataclass(slots=True)
class JobCallers:
    """All callers of jobs. The process by which they submit may die and stand still like any other; what they want is theirs."""

    world: World
    everyone: list[Wanted] = field(default_factory=list)

    def draw(self, number: int, until_s: float, dice: random.Random) -> None:
        """So many, who come until then."""
        for k in range(number):
            job = NewJob(
                service=dice.choice(("batch", "batch", "long")),
                key=f"job {k}",
                cluster=dice.choice(("", *(c.name for c in self.world.fleet.clusters))),
                retries=dice.choice((0, 1, 3)),
                priority=dice.choice((0, 0, 5)),
            )
            cancel_after_s = dice.uniform(0.0, LAST_AFTER_S) if dice.random() < 0.15 else None
            self.everyone.append(Wanted(dice.uniform(15.0, until_s), job, cancel_after_s))
        self.everyone.sort(key=lambda wanted: wanted.at_s)

    def life(self, here: Callable[[], Any]) -> Callable[[], None]:
        """What their process does: `here` gives the stores of a new one."""

        def begin() -> None:
            timeline, stores = self.world.timeline, here()
            jobs = Jobs(store=stores.jobs, publisher=publisher_of(self.world.brokers[CENTRE]), refusals=stores.refusals)
            while True:
                now_s = timeline.now_s - self.world.began_s
                due = [w for w in self.everyone if w.at_s <= now_s and not self._is_done(w, now_s)]
                for wanted in due:
                    try:
                        self._step(jobs, wanted, now_s)
                    except (StoreUnavailable, NotOpen):
                        timeline.sleep(PAUSE_S)
                timeline.sleep(1.0)

        return begin

    def _is_done(self, wanted: Wanted, now_s: float) -> bool:
        if not wanted.told:
            return False
        cancels = wanted.cancel_after_s is not None and not wanted.is_cancelled
        return not cancels or now_s < wanted.at_s + (wanted.cancel_after_s or 0.0)

    def _step(self, jobs: Jobs, wanted: Wanted, now_s: float) -> None:
        if not wanted.told:
            wanted.told.append(jobs.submit(wanted.job).key)
            if self.world.dice.random() < 0.2:  # he did not hear of it, and sends it again
                wanted.told.append(jobs.submit(wanted.job).key)
        else:
            jobs.cancel(wanted.told[0])
            wanted.is_cancelled = True

    # ---- what must hold ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """At the end."""
        checks, centre = self.world.checks, self.world.centre.state
        for wanted in self.everyone:
            name = wanted.job.key
            if not wanted.told:
                checks.fail(f"{name} (at {wanted.at_s:.0f} s) was never taken")
                continue
            if len(set(wanted.told)) > 1:
                checks.fail(f"{name} has the numbers {wanted.told}")
            key = wanted.told[0]
            rows = list(centre.requests(key.run_id, [key.request_id]))
            if not rows or rows[0].job is None or rows[0].job.asked != wanted.job:
                checks.fail(f"{name} was taken as {key}, and is not there")
                continue
            row = rows[0]
            assert row.job is not None
            ends = [a for a in centre.attempts if (a.run_id, a.request_id) == key]
            own_faults = sum(a.reason == Reason.EXIT_CODE for a in ends)
            if own_faults > wanted.job.retries + 1 or row.job.retries_used > wanted.job.retries:
                checks.fail(f"{name} ({key}) has failed {own_faults} times by itself, with {wanted.job.retries} retries")
            if row.state is RequestState.CANCELLED and wanted.cancel_after_s is None:
                checks.fail(f"{name} ({key}) was cancelled by nobody")
            if row.state is RequestState.FAILED and own_faults <= wanted.job.retries and "exhausted" not in row.reason:
                checks.fail(
                    f"{name} ({key}) has failed ({row.reason}) after {own_faults} of {wanted.job.retries + 1} failures of its own"
                )
