"""What a policy weighed for few of the requests that it has decided on, where it tells: Tango's own do, built in and learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tango.domain.candidates import Weighing
from tango.domain.checkpoints import LEARNED_BE
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_weighing import WEIGHED_BE, weigh_be
from tango.scheduling.lc.rule import LC_RULES, LEARNED_LC, LcRule
from tango.scheduling.lc.weighing import weigh_lc
from tango.settings.decisions import LcSettings
from tango.systems.registry import BePolicy, LcPolicy

TELLING_BE = frozenset((*WEIGHED_BE, *LEARNED_BE))
TELLING_LC = frozenset((*LC_RULES, *LEARNED_LC))
"""Policies that tell what they weigh, by the names that decisions have."""


@runtime_checkable
class TellsWeighing(Protocol):
    """A BE policy that tells by itself what it weighed."""

    name: str

    def weighing(
        self, pending: BePending, snapshot: FleetSnapshot, node: NDArray[np.int32], requests: Sequence[int]
    ) -> list[Weighing]:
        """For the requests of these rows, when it decided `node` (k,) on this snapshot a moment ago; none where it cannot tell."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedBe:
    """One call of a BE policy: what it was given, and what came of it."""

    policy: BePolicy
    pending: BePending
    snapshot: FleetSnapshot
    plan: BePlan


def weighed_be(asked: AskedBe, requests: Sequence[int]) -> list[Weighing]:
    """For the requests of these rows of what was asked; none where whoever decided does not tell."""
    plan = asked.plan
    policy: object = asked.policy  # what tells is more than a function
    if isinstance(policy, TellsWeighing) and policy.name == plan.policy:
        return policy.weighing(asked.pending, asked.snapshot, plan.node, requests)
    # A policy of others may give its plan any name: it is no policy of Tango's for that.
    is_own = getattr(policy, "__module__", "").startswith("tango.")
    if plan.policy not in WEIGHED_BE or not (is_own or plan.fallback_reason):
        return []
    return [weigh_be(plan.policy, asked.pending, asked.snapshot, plan.node, request) for request in requests]


def weighed_lc(
    policy: LcPolicy, plan: LcPlan, arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings, requests: Sequence[int]
) -> list[Weighing]:
    """For the arrivals of these rows, which were decided on this snapshot; none where whoever decided does not tell."""
    rule = policy if isinstance(policy, LcRule) and policy.name == plan.policy else None
    if rule is None and plan.fallback_reason:
        rule = LC_RULES.get(plan.policy)
    return [] if rule is None else [weigh_lc(rule, arrivals, snapshot, settings, row) for row in requests]
