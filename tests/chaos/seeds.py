"""One seed: a world, its faults, and what came of them."""

from __future__ import annotations

import gc
import random
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from tests.chaos import faults
from tests.chaos.checks import QUIET_AFTER_S
from tests.chaos.host import standing_in
from tests.chaos.knobs import drawn_constants, drawn_settings
from tests.chaos.timeline import Stuck, Timeline
from tests.chaos.world import CHECK_EVERY_S, HEALED_AT_S, LASTS_S, MOST_S, Load, World


@dataclass(slots=True)
class Result:
    """What one seed has shown."""

    seed: int
    failure: str = ""
    """What did not hold; empty: everything did."""
    trace: str = ""
    digest: str = ""
    events: int = 0
    steps: int = 0
    faults: list[str] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    """Faults that struck, by kind."""
    met: set[str] = field(default_factory=set)
    """Troubles that calls have met."""
    transitions: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    overlaps: list[str] = field(default_factory=list)
    ended: Counter[str] = field(default_factory=Counter)
    """Requests by their final state."""
    callers: Counter[str] = field(default_factory=Counter)
    """Callers by what they were told in the end."""
    defects: list[str] = field(default_factory=list)
    """Errors that production code has logged as defects."""


class Log:
    """Takes what is logged as an error: a defect that production code has survived."""

    def __init__(self) -> None:
        self.defects: list[str] = []
        self.lines: list[str] | None = None

    def __call__(self, logger: Any, method: str, event: dict[str, Any]) -> Any:
        error = sys.exc_info()[1]
        if method in ("exception", "critical") and error is not None:
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.defects.append(f"{event.get('event')}: {error!r} in {last.name}, {last.filename.rpartition('/')[2]}:{last.lineno}")
        raise structlog.DropEvent


LOG = Log()


def run_seed(seed: int, *, load: Load | None = None, verbose: bool = False, kinds: Sequence[str] = ()) -> Result:
    """Run one world to its end, or to what fails first. Faults of these kinds alone are drawn; none named: of all."""
    structlog.configure(processors=[LOG], wrapper_class=structlog.make_filtering_bound_logger(40), cache_logger_on_first_use=False)
    LOG.defects = []
    result = Result(seed)
    dice = random.Random(f"faults {seed}")
    timeline = Timeline(seed)
    # Collected at its end and not in between: what a collection closes of one world must not happen within another.
    gc.disable()
    if not gc.get_freeze_count():
        gc.freeze()  # what is there before the first world is not looked through after each
    with drawn_constants(random.Random(f"constants {seed}")), standing_in(timeline, seed):
        world = World(seed, drawn_settings(random.Random(f"knobs {seed}")), timeline, load or Load())
        try:
            _drive(world, dice, result, verbose, kinds)
        except (Exception, Stuck) as error:
            result.failure = f"{type(error).__name__}: {error}"
            result.trace = traceback.format_exc()
        finally:
            timeline.failure = None
            world.close()
    result.digest, result.events, result.steps = timeline.digest(), timeline.events, timeline.steps
    result.met, result.transitions = world.network.seen, world.checks.transitions
    result.restarts, result.overlaps = world.restarts, world.checks.overlaps
    result.ended = Counter(str(row.state) for run in world.centre.state.runs.values() for row in run.rows)
    result.callers = world.callers.outcomes
    result.defects = LOG.defects
    LOG.defects = []
    del world, timeline
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None  # what dead processes had begun ends here, by whatever error
    gc.collect()
    gc.collect()  # what the first has ended holds the world until then
    sys.unraisablehook = hook
    gc.enable()
    return result


def _drive(world: World, dice: random.Random, result: Result, verbose: bool, kinds: Sequence[str]) -> None:
    timeline = world.timeline
    planned = faults.drawn(world, dice, kinds)
    if dice.random() < 0.125:
        at_s = dice.uniform(60.0, HEALED_AT_S - 100.0)
        planned.append(faults.Fault(at_s, "run cancelled", "the run is cancelled", world.cancel))

    if dice.random() < 0.35:
        # Just after some caller came: what he sent is still on its way to the centre.
        came_s = [c.at_s for c in world.callers.everyone if 60.0 < c.at_s < HEALED_AT_S - 20.0]
        at_s = dice.choice(came_s) + dice.uniform(0.0, 1.0) if came_s else HEALED_AT_S / 2
        planned.append(faults.Fault(at_s, "live run turned", "callers' requests go into another run", world.turn_live))

    def struck(fault: faults.Fault) -> None:
        result.kinds[fault.kind] += 1
        words = f"{timeline.now_s - world.began_s:.1f} s: {fault.words}"
        result.faults.append(words)
        if verbose:
            print(words)
        fault.strike()

    for fault in planned:
        timeline.at(world.began_s + fault.at_s, lambda fault=fault: struck(fault))  # type: ignore[misc]
    timeline.at(world.began_s + HEALED_AT_S, world.heal)
    for k in range(1, int(LASTS_S / CHECK_EVERY_S)):
        timeline.run(world.began_s + k * CHECK_EVERY_S)
        world.checks.conserved()
        world.checks.allocation()
        if timeline.failure is not None:
            raise timeline.failure
    timeline.run(world.began_s + LASTS_S)
    while world.is_live() and timeline.now_s < world.began_s + MOST_S:
        timeline.run(timeline.now_s + CHECK_EVERY_S)
    if timeline.now_s > world.began_s + LASTS_S:
        timeline.run(timeline.now_s + 3 * CHECK_EVERY_S)  # what has just ended is cleared away
    world.checks.conserved()
    world.checks.healed()
    world.jobs.check()
    world.callers.check(HEALED_AT_S + QUIET_AFTER_S + world.began_s)
    if timeline.failure is not None:
        raise timeline.failure
