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
        # What industry runs. Kubernetes resizes standing pods in place by what they use (VerticalPodAutoscaler, mode InPlaceOrRecreate),
        # which `hrm` is nearest to; `static` would decide the comparison by the sharing rule alone, as with `k8s-native`. The instances
        # that Prequal balances have no such limit: they may use what their machine has left, which is `burst`.
        System(name="envoy", lc="least-request", be="k8s-spread", sharing="hrm"),
        System(name="istio", lc="locality", be="k8s-spread", sharing="hrm"),
        System(name="waterfall", lc="waterfall", be="k8s-packed", sharing="hrm"),
        System(name="l3", lc="l3", be="k8s-spread", sharing="hrm"),
        System(name="prequal", lc="prequal", be="k8s-packed", sharing="burst"),
        System(name="c3", lc="c3", be="k8s-spread", sharing="hrm"),
        System(name="kueue", lc="locality", be="kueue", sharing="hrm"),
        System(name="tango", lc="dss-lc", be="dcg-be", sharing="burst"),
    )
}

REFERENCE_BE = ("packing",)
"""BE policies that are there to be compared with and belong to no system."""
