"""The load beside which faults strike: a run of LC and BE in all clusters, from its submission to its end."""

from __future__ import annotations

import contextlib
import math
import time

from tango.bench.chaos.stack import ChaosStack
from tango.bench.waiting import wait_until
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.errors import StoreUnavailable
from tango.fleets import load_fleet
from tango.traces.generators import Recipe, generate
from workers.app import create_app
from workers.publisher import CeleryPublisher

LC_PER_S, BE_PER_S = 15.0, 1.5
"""Requests a second over all clusters: a third of what the fleet serves, so that it can make up for what a fault has held up."""
BE_WORK_S = 2.0
ENDS_WITHIN_S = 120.0
"""Seconds after the last arrival, the longest lease included, within which a run has to be completed."""


def until(at_s: float) -> None:
    """Sleep until that Unix time."""
    time.sleep(max(0.0, at_s - time.time()))


def submit_load(stack: ChaosStack, seconds: float, *, name: str, seed: int) -> tuple[int, float]:
    """A run of LC and BE in all clusters; gives its id, and the Unix time of its zero."""
    declared = load_fleet(stack.fleet)
    recipe = Recipe(
        pattern="p3",
        rate_per_s=LC_PER_S + BE_PER_S,
        duration_s=seconds,
        clusters=len(declared.clusters),
        lc_share=LC_PER_S / (LC_PER_S + BE_PER_S),
        be_work_s=BE_WORK_S,
        fleet=declared,
        seed=seed,
    )
    with stack.stores() as here:
        submission = submission_of(here, CeleryPublisher(create_app(here.settings)))
        order = RunOrder(trace=generate(recipe), fleet=declared, system="tango", name=f"chaos: {name}", seed=seed)
        run_id = submission.submit(submission.prepare(order)).run_id
        wait_until(
            lambda: here.runs.run(run_id).started_at_s is not None,
            timeout_s=60.0,
            every_s=0.1,
            failure=f"run {run_id} does not begin",
        )
        return run_id, float(here.runs.run(run_id).started_at_s or 0.0)


def await_end(stack: ChaosStack, run_id: int, last_s: float) -> tuple[float, list[str]]:
    """Seconds from the last arrival to the end of the run, and what was wrong: a run that does not end is cancelled."""
    deadline_s = max(time.time(), last_s) + ENDS_WITHIN_S
    while time.time() < deadline_s:
        with contextlib.suppress(StoreUnavailable), stack.stores() as here:
            if all(run.run_id != run_id for run in here.runs.active_runs()):
                return time.time() - last_s, []
        time.sleep(0.5)
    with stack.stores() as here:
        live = here.database.rows(
            "SELECT class, state::text, reason, count(*) FROM request WHERE run_id = %s AND finished_s IS NULL GROUP BY 1, 2, 3",
            (run_id,),
        )
        here.runs.cancel(run_id)
        wait_until(
            lambda: not here.runs.cancelling_runs(), timeout_s=60.0, every_s=0.5, failure=f"run {run_id} cannot be cancelled"
        )
    return math.inf, [f"not over {ENDS_WITHIN_S:g} s after the last arrival; live are {live}"]
