"""The built-in systems: what each is made of, by names. What the names stand for knows `tango.systems`, which imports all policies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A named set of one LC policy, one BE policy and one sharing rule, by their names."""

    name: str
    lc: str
    be: str
    sharing: str


SYSTEMS: dict[str, System] = {
    s.name: s
    for s in (
        System(name="k8s-native", lc="round-robin", be="k8s-native", sharing="static"),
        System(name="load-greedy", lc="load-greedy", be="load-greedy", sharing="hrm"),
        System(name="scoring", lc="scoring", be="scoring", sharing="hrm"),
        System(name="ceres", lc="ceres", be="k8s-native", sharing="ceres"),
        System(name="dsaco", lc="dsaco", be="load-greedy", sharing="hrm"),
        System(name="gnn-sac", lc="load-greedy", be="gnn-sac", sharing="hrm"),
        System(name="tango", lc="dss-lc", be="dcg-be", sharing="burst"),
    )
}
