"""Built-in LC policies as functions of arrivals and a snapshot, as a plug-in's are: columns are arranged, the compiled step is called."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.near_names import near_name
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.errors import UsageError
from tango.scheduling.lc.built_in import POLICIES, traits_of
from tango.scheduling.lc.columns import NO_NOISE, Asks, Traits, be_cores, belief_of, new_choices, new_terrain
from tango.scheduling.lc.dispatch import dispatch, see_home, set_prices
from tango.scheduling.lc.policy import CompiledPolicy
from tango.scheduling.work_scale import work_at_scale_s
from tango.settings.decisions import LcSettings


@dataclass(frozen=True, slots=True)
class LcRule:
    """A built-in LC policy: called, it plans; the simulator's engine takes its traits and numbers instead."""

    policy: CompiledPolicy
    learned_weights: NDArray[np.float64] | None = None
    """A learned policy's own numbers; the others follow the settings."""

    @property
    def name(self) -> str:
        """The policy's name."""
        return self.policy.name

    @property
    def traits(self) -> Traits:
        """What the compiled steps have to know of it."""
        return traits_of(self.policy)

    def weights(self, settings: LcSettings) -> NDArray[np.float64]:
        """What the policy's formulas weigh their terms by, of the settings or of a checkpoint."""
        return self.policy.weights(settings) if self.learned_weights is None else self.learned_weights

    def __call__(self, arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        """A node for each arrival; -1 only where the policy finds no ready instance."""
        m = len(arrivals)
        to = new_choices(m)
        if m:
            entries = np.unique(arrivals.entry_cluster)
            terrain = new_terrain(
                snapshot.services,
                rtt_ms=snapshot.rtt_ms,
                bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
                node_cluster=snapshot.node_cluster,
                weights=self.weights(settings),
                work_s=work_at_scale_s(arrivals, snapshot.services),
                entries=entries,
            )
            belief, traits = belief_of(snapshot, observes=self.policy.observes), self.traits
            set_prices(traits, terrain, belief)
            nowhere = np.full(len(snapshot.nodes), np.inf)
            for entry in entries.tolist():
                see_home(traits, terrain, belief, entry, be_cores(snapshot))
                rows = np.flatnonzero(arrivals.entry_cluster == entry)
                dispatch(
                    traits,
                    entry,
                    rows,
                    Asks(arrivals.service, arrivals.target_s, arrivals.request_id + arrivals.epoch),
                    terrain,
                    belief,
                    np.zeros((len(snapshot.services), len(snapshot.clusters))),
                    to,
                    NO_NOISE,
                )
                see_home(traits, terrain, belief, entry, nowhere)
        shed = to.late & (not settings.keep_late)
        node = np.where(shed, -1, to.node).astype(np.int32)
        return LcPlan(node=node, late=to.late & ~shed, shed=shed, expected_s=to.expected_s, policy=self.name)


LC_RULES: dict[str, LcRule] = {policy.name: LcRule(policy) for policy in POLICIES if not policy.learned}
"""Those that need nothing but the settings, by name."""
LEARNED_LC: dict[str, CompiledPolicy] = {policy.name: policy for policy in POLICIES if policy.learned}
"""Those that need a checkpoint, by name."""


def lc_rule(name: str) -> LcRule:
    """The built-in policy of a name that needs no checkpoint. Raises: UsageError for another."""
    if name not in LC_RULES:
        raise UsageError(
            f"there is no LC policy {name!r} without a checkpoint{near_name(name, LC_RULES)}; known: {', '.join(LC_RULES)}"
        )
    return LC_RULES[name]
