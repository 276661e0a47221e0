"""`step.decided_lc` for the batches of a live dispatcher: a built-in policy is asked by the compiled step, and checked as any other is.

It stands apart from `step`, which simulations import too: nothing of it is part of what a simulation depends on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.seen_answers import SEEN
from tango.domain.smallest import smallest_arrivals, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.budget import within_budget
from tango.scheduling.lc.batch_plan import BatchPlanner
from tango.scheduling.lc.rule import LC_RULES, LcRule
from tango.scheduling.lc.seen_answers import note_answer, note_failure
from tango.scheduling.plan_checks import check_lc_plan, lc_nodes_are_possible
from tango.settings.decisions import LcSettings
from tango.systems.registry import LcPolicy
from tango.systems.step import LC_FALLBACK, asked_plan, decided_by, decided_lc


@dataclass(frozen=True, slots=True)
class BatchStep:
    """Decides the batches of one dispatching process, with the arrays that its planner keeps. Not thread-safe."""

    planner: BatchPlanner = field(default_factory=BatchPlanner)

    def decided(
        self,
        rule: LcRule,
        arrivals: LcArrivals,
        snapshot: FleetSnapshot,
        settings: LcSettings,
        *,
        cycle: str,
        now_s: float,
        margin_s: NDArray[np.float64],
    ) -> LcPlan:
        """A plan that can be carried out, of arrivals that entered one cluster, with what is left of their time counted in.

        `cycle` says in messages what was being decided, and when; `now_s` and `margin_s` are as `within_budget` takes them. Where the
        plan is impossible or the planner fails, `LC_FALLBACK` decides on arrays of its own, since those that are kept may be what is
        wrong, and `fallback_reason` has the policy's name and the rows. Raises: PolicyFailed and ImpossiblePlan where it fails as well.
        """

        def at_once(asked: LcPolicy) -> LcPlan:
            plan = asked_plan(
                LcPlan,
                rule,
                rule.name,
                cycle,
                lambda: self.planner.plan(rule, arrivals, snapshot, settings, now_s=now_s, margin_s=margin_s),
            )
            if not lc_nodes_are_possible(plan.node, arrivals.service, snapshot.node_ready, snapshot.instance_limit):
                check_lc_plan(plan, arrivals, snapshot, cycle=cycle)
            return plan

        def by_parts(asked: LcPolicy) -> LcPlan:
            plan = decided_lc(asked, arrivals, snapshot, settings, cycle=cycle)
            return within_budget(plan, arrivals, snapshot.services, now_s=now_s, margin_s=margin_s)

        policy: LcPolicy = rule
        return decided_by(at_once, policy, by_parts, LC_FALLBACK)


def warm_up_lc(settings: LcSettings) -> None:
    """Compile every LC policy by one call on the smallest world, and the step that plans a live dispatcher's batches."""
    for policy in LC_RULES.values():
        policy(smallest_arrivals(), smallest_snapshot(), settings)
    seen = smallest_snapshot()
    BatchStep().decided(
        LC_RULES["dss-lc"],
        smallest_arrivals(),
        seen,
        settings,
        cycle="the warm-up",
        now_s=0.0,
        margin_s=np.zeros(len(seen.services)),
    )
    answers = np.zeros(1, SEEN)
    note_answer(answers, 0, 0.0, 0.1, 0.1)
    note_failure(answers, 0, 0, 1, 0.0)
