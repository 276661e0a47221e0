"""What decisions of a simulated run weighed, kept as the live path keeps it: of few requests a second, by the simulation's clock.

A placement is decided in Python anyway. LC is dispatched in compiled code, which keeps no prices: of now and then a window the dispatch is
left to the same rule in Python, which decides the same to the bit, and what that was given is weighed once more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson

from tango.control.candidates import DecidedLc, WeighingRate, be_candidates, lc_candidates
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.scheduling.lc.columns import ELSEWHERE
from tango.scheduling.lc.rule import LcRule
from tango.settings.explaining import ExplainSettings
from tango.sim.simulation_state import SimulationState
from tango.systems import LcPolicy
from tango.systems.weighing import AskedBe

Kept = list[dict[str, Any]]
"""Candidates of requests, as decisions keep them."""


ALIKE_IN_PYTHON = ("load-greedy", "dss-lc", "ceres", "round-robin", "least-request", "waterfall")
"""LC policies that decide the same in Python as in compiled code, to the bit. Others go by what the engine alone has, as answers, or by
figures that a snapshot rounds otherwise."""


class CandidateKeeper:
    """Keeps the candidates of one simulation's decisions, by the row of the LC cycle or BE tick."""

    def __init__(self, world: SimulationState, lc: LcPolicy, settings: ExplainSettings) -> None:
        self._world = world
        self._rule = lc if isinstance(lc, LcRule) and lc.name in ALIKE_IN_PYTHON and settings.weighed_per_s else None
        self._of_lc, self._of_be = (WeighingRate(settings, monotonic=lambda: world.now_s) for _ in range(2))
        self._begun = 0
        self._found = False
        self._lc: dict[int, Kept] = defaultdict(list)
        self._be: dict[int, Kept] = {}

    def begins_at(self, first: int, after: int) -> int:
        """From which of the windows `first` to before `after` on LC dispatch is to be asked for in Python, while `wants` says so.

        Each place in turn, but the first where the last look has found nothing; -1: from none.
        """
        if self._rule is None or not self.wants():
            return -1
        self._begun += self._found
        place = self._begun % (after - first) if self._found else 0
        self._found = False
        return first + place

    def wants(self) -> bool:
        """Whether candidates of one more LC request may be kept now."""
        may = self._of_lc.take(1)
        self._of_lc.give_back(may)
        return may > 0

    def asks(self, is_asked: bool) -> None:
        """Leave LC dispatch to Python, or to the compiled rule again."""
        engine = self._world.engine
        assert self._rule is not None
        policy = self._rule.traits._replace(place=ELSEWHERE) if is_asked else self._rule.traits
        self._world.engine = engine._replace(rules=engine.rules._replace(lc_policy=policy))

    def dispatched(self, decided: DecidedLc) -> None:
        """Note the dispatch of one cluster."""
        may = self._of_lc.take()
        text, used = lc_candidates(decided, most=may)
        self._of_lc.give_back(may - used)
        if text:
            self._found = True
            self._lc[int(self._world.engine.clock["cycles"][0])] += orjson.loads(text)

    def by_decision(self) -> dict[int, Kept]:
        """By the row of the run's decisions: LC cycles come first."""
        cycles = int(self._world.engine.clock["cycles"][0])
        return {**self._lc, **{cycles + tick: of_tick for tick, of_tick in self._be.items()}}

    def takes(self) -> int:
        """Of how many requests of the next placement candidates may be kept."""
        return self._of_be.take()

    def placed(self, tick: int, asked: Sequence[AskedBe], question: PlacementQuestion, plan: BePlan, *, may: int) -> None:
        """Note a placement, the `tick`-th of the run."""
        text, used = be_candidates(asked, question, plan, most=may)
        self._of_be.give_back(may - used)
        if text:
            self._be[tick] = orjson.loads(text)
