"""The built-in LC policies: each is one file of this package and one line here.

Everything else that names them (the registry of systems, the compiled dispatch, benchmarks, warming up) goes by this list.
"""

from __future__ import annotations

from tango.scheduling.lc import (
    c3,
    ceres,
    dsaco,
    dss_lc,
    l3,
    least_request,
    load_greedy,
    locality,
    prequal,
    round_robin,
    scoring,
    waterfall,
)
from tango.scheduling.lc.columns import Traits
from tango.scheduling.lc.policy import CompiledPolicy

POLICIES: tuple[CompiledPolicy, ...] = (
    dss_lc.POLICY,
    load_greedy.POLICY,
    ceres.POLICY,
    round_robin.POLICY,
    scoring.POLICY,
    dsaco.POLICY,
    least_request.POLICY,
    locality.POLICY,
    waterfall.POLICY,
    l3.POLICY,
    prequal.POLICY,
    c3.POLICY,
)


def traits_of(policy: CompiledPolicy) -> Traits:
    """What the compiled steps have to know of a built-in policy."""
    return Traits(POLICIES.index(policy), policy.counts_crowding, policy.minds_links, policy.observes)
