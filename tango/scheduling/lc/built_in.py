"""The built-in LC policies: each is one file of this package and one line here.

Everything else that names them (the registry of systems, the compiled dispatch, benchmarks, warming up) goes by this list.
"""

from __future__ import annotations

from tango.scheduling.lc import ceres, dsaco, dss_lc, load_greedy, round_robin, scoring
from tango.scheduling.lc.columns import Traits
from tango.scheduling.lc.policy import CompiledPolicy

POLICIES: tuple[CompiledPolicy, ...] = (
    dss_lc.POLICY,
    load_greedy.POLICY,
    ceres.POLICY,
    round_robin.POLICY,
    scoring.POLICY,
    dsaco.POLICY,
)


def traits_of(policy: CompiledPolicy) -> Traits:
    """What the compiled steps have to know of a built-in policy."""
    return Traits(POLICIES.index(policy), policy.counts_crowding, policy.minds_links)
