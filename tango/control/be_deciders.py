"""What decides where BE requests go: each run's policy, the fallback that steps in, and a candidate that decides beside them.

A policy that cannot be loaded, fails or gives an impossible plan must not stop the requests of other runs, so its part goes to the
fallback, and the decision row says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from tango.control.checkpoint_roles import RolesFollowed
from tango.control.shadow import shadow_decision
from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.errors import PolicyFailed, TangoError, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.ports.leases import Fence
from tango.settings import BeSettings
from tango.systems import BePolicy, decided_be, in_one_line
from tango.systems.weighing import AskedBe

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """The registry of checkpoints as a scheduler uses it."""

    roles: RolesFollowed
    """Which checkpoint is live and which is the candidate."""
    checkpoints: CheckpointStore
    """Where the candidate's decisions are recorded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeDeciders:
    """The policies of one scheduler. Each cycle follows the registry, plans, and once all is done lets the candidate decide."""

    policy_of: Callable[[int], BePolicy]
    """The policy of a run's system. Raises: PolicyFailed where it cannot be loaded."""
    fallback: BePolicy
    """The policy for runs whose own policy cannot be loaded, fails, or gives an invalid plan."""
    registry: Registry | None = None
    """None: no checkpoint is promoted or shadowed here."""

    @property
    def remark(self) -> str:
        """For the decision row: which promoted checkpoint cannot be used, and why. Empty where all is well."""
        return self.registry.roles.remark if self.registry else ""

    def follow(self) -> None:
        """Load checkpoints whose role is new. Called before anything is gathered, so that loading is no part of a decision."""
        if self.registry is not None:
            self.registry.roles.follow()

    def plan(
        self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings, *, noted: list[AskedBe] | None = None
    ) -> BePlan:
        """Let each run's policy place its requests, run after run; a later one sees the fleet with the placements of earlier ones.

        `noted`: where each call of a policy is noted, for whoever asks what it weighed; None: nobody does.
        """
        cycle = "the placement of BE"
        policies, refused = self._policies(np.unique(pending.run_id).tolist())
        distinct = list(dict.fromkeys(policies.values()))
        node = np.full(len(pending), -1, np.int32)
        plans = []
        for policy in distinct:
            rows = np.flatnonzero([policies[run] is policy for run in pending.run_id.tolist()])
            own = pending.rows(rows) if len(distinct) > 1 else pending
            plan = decided_be(policy, own, snapshot, settings, cycle=cycle, fallback=self.fallback)
            if noted is not None:
                noted.append(AskedBe(policy=policy, pending=own, snapshot=snapshot, plan=plan))
            if len(distinct) == 1 and not refused:
                return plan
            node[rows] = plan.node
            snapshot = snapshot.with_placed(own, plan.node)
            plans.append(plan)
        return BePlan(
            node=node,
            policy="+".join(p.policy for p in plans),
            checkpoint="".join(p.checkpoint for p in plans),
            fallback_reason="; ".join((*refused, *(p.fallback_reason for p in plans if p.fallback_reason))),
        )

    def decide_beside(
        self, done: BePlan, done_ms: float, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings, *, fence: Fence
    ) -> None:
        """Let the candidate, where there is one, decide what `done` decided, and record it. Nothing else comes of its decision.

        A store that fails here is logged and does not fail the cycle, which has been carried out.
        """
        if self.registry is None or (candidate := self.registry.roles.candidate) is None:
            return
        shadow = shadow_decision(candidate, pending, snapshot, done, done_ms, settings)
        try:
            self.registry.checkpoints.record_shadow(shadow, fence=fence)
        except TangoError as error:
            log.warning("shadow_not_recorded", reason=str(error))

    def _policies(self, runs: Sequence[int]) -> tuple[dict[int, BePolicy], list[str]]:
        """The policy of each run, and why the fallback replaces some: a policy that cannot be loaded must not stop the other runs."""
        found, refused = {}, []
        for run in runs:
            try:
                found[run] = self.policy_of(run)
            except (PolicyFailed, UsageError) as error:  # UsageError: the run is gone
                found[run] = self.fallback
                refused.append(in_one_line(error))
        return found, refused
