"""Systems by name, and policies by name: built in, or offered by an installed package.

A system is three names, so that any mix can be run. docs/policies.md has the table; what each part is, where it comes from and what
it departs from stands with its code: LC in `tango.scheduling.lc`, BE in `tango.scheduling.be_policies` and `tango.learning`,
sharing in `tango.scheduling.sharing_step`.

A policy may also be a function in a file of the user's own, `FILE.py:FUNCTION` (`policy_files.py`). A package adds policies by entry
points of the group `tango.policies`: `lc.NAME` names a function of (arrivals, snapshot, settings) that gives an `LcPlan`, `be.NAME` one
of (pending, snapshot, settings) that gives a `BePlan` (docs/policies.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tango.domain.checkpoints import LEARNED_BE, NewCheckpoint
from tango.domain.near_names import near_name
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.domain.systems import SYSTEMS, System
from tango.errors import ConfigError, UsageError
from tango.learning.shipped import shipped_path
from tango.scheduling.be_kueue import place_kueue
from tango.scheduling.be_packing import place_packing, require_solver
from tango.scheduling.be_policies import place_kube, place_kube_packed, place_kube_spread, place_load_greedy, place_scoring
from tango.scheduling.lc.rule import LC_RULES, LEARNED_LC
from tango.scheduling.sharing_step import RULES
from tango.settings.decisions import BeSettings, LcSettings
from tango.settings.simulated import SimulationSettings
from tango.systems.policy_files import FILE_POLICY, file_policy, loaded_file_policy, stored_name

LcPolicy = Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan]
BePolicy = Callable[[BePending, FleetSnapshot, BeSettings], BePlan]

ENTRY_POINTS = "tango.policies"


_BE: dict[str, BePolicy] = {
    "load-greedy": place_load_greedy,
    "scoring": place_scoring,
    "k8s-native": place_kube,
    "k8s-spread": place_kube_spread,
    "k8s-packed": place_kube_packed,
    "kueue": place_kueue,
}
BE_REFERENCES: dict[str, BePolicy] = {"packing": place_packing}
"""Policies that are there to be compared with: they take seconds where others take milliseconds, and belong to no system."""
HOME_LC, HOME_BE = ("round-robin", "ceres", "least-request"), ("k8s-native",)
"""Policies that look at the entry cluster alone."""
LC_NETWORKS, BE_NETWORKS = "tango.learning.lc_layer", "tango.learning.policy"
"""Modules that ask learned policies. torch takes seconds and hundreds of MiB: only who needs a network imports them."""


_POLICY = rf"{FILE_POLICY}|[^/:]+"
_MIX = re.compile(rf"(?P<lc>{_POLICY})/(?P<be>{_POLICY})/(?P<sharing>[^/:]+)")


def system(name: str) -> System:
    """The system of this name, or the mix `LC/BE/SHARING`. A policy in a file is not looked at here, only when it is to decide.

    Raises: UsageError for an unknown name, which lists the known ones.
    """
    if name in SYSTEMS:
        return SYSTEMS[name]
    if found := _MIX.fullmatch(name):
        return mixed(SYSTEMS["tango"], lc=found["lc"], be=found["be"], sharing=found["sharing"])
    raise UsageError(
        f"there is no system {name!r}{near_name(name, SYSTEMS)}; known systems: {', '.join(SYSTEMS)}, or a mix as LC/BE/SHARING"
    )


def mixed(base: System, *, lc: str | None = None, be: str | None = None, sharing: str | None = None) -> System:
    """A system with other parts; its name says which. Raises: UsageError for a name that is not known."""
    for kind, name, known in (
        ("LC policy", lc, lc_names()),
        ("BE policy", be, be_names()),
        ("sharing rule", sharing, tuple(RULES)),
    ):
        if name is not None and name not in known and (kind == "sharing rule" or file_policy(name) is None):
            raise UsageError(f"there is no {kind} {name!r}{near_name(name, known)}; known: {', '.join(known)}")
    found = replace(base, lc=lc or base.lc, be=be or base.be, sharing=sharing or base.sharing)
    for known_system in SYSTEMS.values():
        if (known_system.lc, known_system.be, known_system.sharing) == (found.lc, found.be, found.sharing):
            return known_system
    return replace(found, name=f"{found.lc}/{found.be}/{found.sharing}")


def usable_system(
    name: str, settings: SimulationSettings, *, lc: str | None = None, be: str | None = None, sharing: str | None = None
) -> System:
    """A system, with other parts where they are named, whose policies of the user's can be loaded; files under the name that is kept.

    For whoever names a system to be used: what is wrong is told here, and not when requests wait. Tango's own policies are not loaded,
    since torch takes seconds. Raises: UsageError and ConfigError with what is wrong.
    """
    base = system(name)
    found = mixed(
        base,
        lc=stored_name(lc or base.lc),
        be=stored_name(be or base.be),
        sharing=sharing,
    )
    if found.lc not in LC_RULES and found.lc not in LEARNED_LC:
        lc_policy(found.lc, settings)
    if found.be not in _BE and found.be not in LEARNED_BE:  # a reference too: its solver may be missing
        be_policy(found.be, settings)
    return found


def sharing_rules(names: Iterable[str]) -> list[str]:
    """The sharing rule of each system. One that only another version of Tango knows has no say, as its policies have none."""
    return [found.sharing for name in names if (found := _known(name)) is not None]


def be_name(name: str) -> str:
    """The BE policy of a system, empty for one that only another version of Tango knows."""
    found = _known(name)
    return found.be if found is not None else ""


@dataclass(frozen=True, slots=True)
class AtHome:
    """Which policies of a system look at the entry cluster alone."""

    lc: bool = False
    be: bool = False


def at_home(name: str) -> AtHome:
    """Of a system by its name; of one that only another version of Tango knows, and of policies of others, neither is known to."""
    found = _known(name)
    return AtHome() if found is None else AtHome(found.lc in HOME_LC, found.be in HOME_BE)


def unlearned_be(name: str) -> tuple[BePolicy, bool]:
    """The BE policy of a system, where it is built in and has nothing to load; for any other `load-greedy`, since what fits is the same.
    And whether it stands for another."""
    found = _known(name)
    own = _BE.get(found.be if found is not None else "")
    return (place_load_greedy, True) if own is None else (own, False)


def _known(name: str) -> System | None:
    try:
        return system(name)
    except UsageError:
        return None


def lc_names() -> tuple[str, ...]:
    """LC policies, built in and installed."""
    return (*LC_RULES, *LEARNED_LC, *(name for kind, name in _installed() if kind == "lc"))


def lc_tunable(name: str) -> Mapping[str, tuple[float, float]]:
    """(low, high) of the settings that an LC policy can be tuned by; none for an installed one."""
    rule = LC_RULES.get(name)
    return rule.policy.tunable if rule else {}


def be_names() -> tuple[str, ...]:
    """BE policies, built in and installed."""
    return (*_BE, *LEARNED_BE, *BE_REFERENCES, *(name for kind, name in _installed() if kind == "be"))


def lc_policy(name: str, settings: SimulationSettings) -> LcPolicy:
    """The LC policy of this name. Raises: UsageError for an unknown one; CheckpointError when a learned one cannot be read."""
    if name in LC_RULES:
        return LC_RULES[name]
    if name in LEARNED_LC:
        from tango.learning.lc_layer import shipped_lc_policy

        learned: LcPolicy = shipped_lc_policy(name)
        return learned
    policy: LcPolicy = _load("lc", name)
    return policy


def be_policy(name: str, settings: SimulationSettings) -> BePolicy:
    """The BE policy of this name; a learned one is loaded with its checkpoint and falls back by itself when it has none.

    Raises: UsageError for an unknown name.
    """
    if name in _BE:
        return _BE[name]
    if name in BE_REFERENCES:
        require_solver()
        return BE_REFERENCES[name]
    if name in LEARNED_BE:
        from tango.learning.policy import NetworkBePolicy

        path = settings.checkpoint if name == settings.checkpoint_policy else ""
        learned: BePolicy = NetworkBePolicy(name, path, fallback=_BE[settings.be.fallback_policy])
        return learned
    policy: BePolicy = _load("be", name)
    return policy


def origin(kind: str, name: str) -> str:
    """Where a policy comes from (built in, a package, a file), in words; `kind` is lc, be or sharing."""
    point = _installed().get((kind, name))
    if point is not None:
        return f"{point.value} of {point.dist.name if point.dist else 'a package'}"
    return "learned, shipped" if name in LEARNED_LC or name in LEARNED_BE else "built in"


def stored_be_policy(name: str, content: bytes, where: str, settings: SimulationSettings) -> BePolicy:
    """A learned BE policy by the content of a checkpoint's file; `where` names it in messages.

    Raises: CheckpointError where it cannot decide by it.
    """
    from tango.learning.policy import NetworkBePolicy, tried_checkpoint

    checkpoint = tried_checkpoint(content, Path(where), name)
    learned: BePolicy = NetworkBePolicy(name, "", fallback=_BE[settings.be.fallback_policy], checkpoint=checkpoint)
    return learned


def read_checkpoint(path: str = "", *, name: str | None = None, note: str = "") -> NewCheckpoint:
    """A checkpoint's file of any learned policy, read, tried and described; empty: the shipped one of `dcg-be`.

    Raises: CheckpointError with what was found and expected.
    """
    from tango.learning.acceptance import accepted
    from tango.learning.checkpoint import read_bytes

    file = Path(path) if path else shipped_path()
    found = accepted(read_bytes(file), file)
    return replace(found, name=name or found.name, note=note)


@cache
def _installed() -> dict[tuple[str, str], EntryPoint]:
    found: dict[tuple[str, str], EntryPoint] = {}
    for point in entry_points(group=ENTRY_POINTS):
        kind, _, name = point.name.partition(".")
        taken = LC_RULES.keys() | LEARNED_LC.keys() if kind == "lc" else _BE.keys() | set(LEARNED_BE) | BE_REFERENCES.keys()
        if kind not in ("lc", "be") or not name or name in taken:
            raise ConfigError(
                f"the entry point {point.name!r} of {point.value!r} in group {ENTRY_POINTS}, "
                "expected lc.NAME or be.NAME with a name that Tango does not use"
            )
        found[kind, name] = point
    return found


def learned_policies(system: System) -> dict[str, str]:
    """The module that asks each of a system's learned policies, by the policy's name; imported only where it is asked."""
    found = {system.lc: LC_NETWORKS} if system.lc in LEARNED_LC else {}
    return found | ({system.be: BE_NETWORKS} if system.be in LEARNED_BE else {})


def policy_source_digest(system: System) -> str:
    """SHA-256 over the files and installed packages that a system's policies come from; empty for Tango's own alone."""
    found = hashlib.sha256()
    files = [name for name in (system.lc, system.be) if file_policy(name) is not None]
    for name in files:
        found.update(stored_name(name).encode())
    points = [p for key in (("lc", system.lc), ("be", system.be)) if (p := _installed().get(key)) is not None]
    for point in points:
        spec = find_spec(point.module.partition(".")[0])
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        sources = sorted(origin.parent.rglob("*.py")) if spec.submodule_search_locations else [origin]
        for file in sources:
            found.update(str(file).encode() + file.read_bytes())
    return found.hexdigest() if points or files else ""


def _load(kind: str, name: str) -> Any:
    in_file = file_policy(name)
    if in_file is not None:
        return loaded_file_policy(in_file)
    point = _installed().get((kind, name))
    if point is None:
        known = lc_names() if kind == "lc" else be_names()
        raise UsageError(f"there is no {kind.upper()} policy {name!r}{near_name(name, known)}; known: {', '.join(known)}")
    try:
        return point.load()
    except Exception as error:  # whatever the package's import raises
        raise ConfigError(f"the {kind.upper()} policy {name!r} ({point.value}) cannot be loaded: {error}") from error
