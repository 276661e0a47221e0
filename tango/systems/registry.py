"""Systems by name, and policies by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.smallest import smallest_arrivals, smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.errors import UsageError
from tango.scheduling.be_policies import place_kube, place_load_greedy, place_scoring
from tango.scheduling.lc_baselines import plan_ceres, plan_load_greedy, plan_round_robin, plan_scoring
from tango.scheduling.lc_flow import plan_dss_lc
from tango.settings import BeSettings, LcSettings, Settings

LcPolicy = Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan]
BePolicy = Callable[[BePending, FleetSnapshot, BeSettings], BePlan]


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Three names."""

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
        System(name="ceres", lc="ceres", be="k8s-native", sharing="hrm"),
        System(name="tango", lc="dss-lc", be="dcg-be", sharing="hrm"),
    )
}

_LC: dict[str, LcPolicy] = {
    "dss-lc": plan_dss_lc,
    "load-greedy": plan_load_greedy,
    "scoring": plan_scoring,
    "ceres": plan_ceres,
    "round-robin": plan_round_robin,
}
_BE: dict[str, BePolicy] = {"load-greedy": place_load_greedy, "scoring": place_scoring, "k8s-native": place_kube}


def system(name: str) -> System:
    """Raises: UsageError for an unknown name, which lists the known ones."""
    if name not in SYSTEMS:
        raise UsageError(f"there is no system {name!r}; known systems: {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def lc_policy(name: str) -> LcPolicy:
    """The LC policy of this name."""
    return _LC[name]


def be_policy(name: str, settings: Settings) -> BePolicy:
    """The BE policy of this name; `dcg-be` is loaded with its checkpoint and falls back by itself when it has none."""
    if name != "dcg-be":
        return _BE[name]
    # torch takes seconds and hundreds of MiB: only the process that places BE requests imports it, and only when it does.
    from tango.learning.policy import DcgBePolicy

    policy: BePolicy = DcgBePolicy(settings.checkpoint, fallback=_BE[settings.be.fallback_policy])
    return policy


def warm_up_lc(settings: LcSettings) -> None:
    """Compile every LC policy by one call on the smallest world."""
    for policy in _LC.values():
        policy(smallest_arrivals(), smallest_snapshot(), settings)


def describe_checkpoint(path: str) -> dict[str, Any]:
    """`name digest format_version feature_schema path trained` of the checkpoint in force. Raises: CheckpointError."""
    from tango.learning.checkpoint import FORMAT_VERSION, load_checkpoint, shipped_path
    from tango.learning.features import SCHEMA

    found = load_checkpoint(Path(path) if path else shipped_path())
    return {
        "name": found.name,
        "digest": found.digest,
        "format_version": FORMAT_VERSION,
        "feature_schema": SCHEMA,
        "path": found.path,
        "trained": found.trained,
    }
