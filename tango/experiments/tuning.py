"""Searches the parameters of systems: the same command, the same number of evaluations and the same seeds for each.

Candidates are the defaults and points of a scrambled low-discrepancy sequence over the box of a system's parameters (additive recurrence
with the generalised golden ratio; Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018), so that a search of n
evaluations is the beginning of a search of more. The score of a candidate is the mean over fleets, workloads and training seeds of

    LC QoS rate + BE CPU-seconds done / BE bound

which weighs a point of LC against a point of the BE work that any schedule could have done. What is found is kept in a file beside the
code, with the command that made it; `simulate` and `compare` use it unless told otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.analysis.comparison import CellResult
from tango.domain.seeds import TRAINING
from tango.errors import ConfigError, FileRefused
from tango.experiments.cells import Cell
from tango.systems import SYSTEMS, System, lc_tunable
from tango.traces.workloads import Workload

TRAINING_SEEDS = TRAINING[1:]
"""Tuning takes the first of these; no comparison uses them."""

SEARCHED_FOR = {"hrm": "tango", "burst": "tango", "ceres": "ceres"}
"""By sharing rule, the system whose thresholds a mix with it has: one for `hrm` and `burst`, so that these two differ by the rule alone.
The other rules have no thresholds."""

Box = Mapping[tuple[str, str], tuple[float, float]]
"""(low, high) by (group, field) of settings; `NAME.k` is the k-th value of a field that has several. Of two whole numbers only
whole ones are tried."""

_SHARING: Box = {
    ("sharing", "grow_below"): (0.05, 0.5),
    ("sharing", "shrink_above"): (0.55, 0.95),
    ("sharing", "grow_factor"): (1.2, 2.5),
    ("sharing", "shrink_factor"): (0.5, 0.95),
    ("sharing", "hold_s"): (1.0, 6.0),
    ("sharing", "shrink_hold_s"): (4.0, 20.0),
}

Settings = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One evaluated choice of parameters."""

    settings: Settings
    score: float
    lc_qos_rate: float
    be_share_of_bound: float


def box_of(system: System) -> Box:
    """What a system has to tune: nothing, the sharing rule's thresholds, weights of its scores."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    if system.sharing != "static":
        found.update(_SHARING)
    found.update({("lc", field): bounds for field, bounds in lc_tunable(system.lc).items()})
    return found


def candidates(system: System, evaluations: int) -> list[Settings]:
    """The defaults, and `evaluations - 1` points of the box; the defaults alone where there is nothing to tune."""
    box = box_of(system)
    if not box:
        return [{}]
    points = _sequence(evaluations - 1, len(box))
    return [{}, *(_settings(box, point) for point in points)]


def cells_for(
    system: System, choices: Sequence[Settings], workloads: Sequence[Workload], fleets: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """The cells that evaluate the choices, choice by choice."""
    return [
        Cell(workload=workload, fleet=fleet, system=system, seed=seed, settings=choice)
        for choice in choices
        for fleet in fleets
        for workload in workloads
        for seed in seeds
    ]


def ranking(choices: Sequence[Settings], results: Sequence[CellResult]) -> list[Candidate]:
    """The choices with their scores, the best first; of equal ones the earlier."""
    each = len(results) // len(choices)
    found = []
    for k, choice in enumerate(choices):
        mine = results[k * each : (k + 1) * each]
        qos = float(np.mean([float(r.figures["lc_qos_rate"] or 0.0) for r in mine]))
        be = float(np.mean([_share(r) for r in mine]))
        found.append(Candidate(settings=choice, score=qos + be, lc_qos_rate=qos, be_share_of_bound=be))
    return sorted(found, key=lambda c: -c.score)


def tuned_settings(system: System) -> Settings:
    """What the search found for a system.

    A mix has the thresholds of a searched system (`SEARCHED_FOR`), and what was found for its LC policy: an ablation changes one
    part alone.
    """
    kept = _kept()
    found = kept.get(system.name)
    if found is None:
        alike = SEARCHED_FOR.get(system.sharing, "")
        found = {"sharing": kept.get(alike, {}).get("sharing", {})}
        if lc_tunable(system.lc):
            searched = next((name for name in kept if name in SYSTEMS and SYSTEMS[name].lc == system.lc), "")
            found = {**found, "lc": kept.get(searched, {}).get("lc", {})}
    return {group: dict(values) for group, values in found.items() if values}


def merged(*layers: Mapping[str, Mapping[str, Any]]) -> Settings:
    """Settings over settings, the later ones above."""
    found: Settings = {}
    for layer in layers:
        for group, values in layer.items():
            found.setdefault(group, {}).update(values)
    return found


def dump_tuned(found: Mapping[str, Candidate], *, command: str) -> str:
    """The file of what was found."""
    systems = {
        name: {"settings": c.settings, "score": c.score, "lc_qos_rate": c.lc_qos_rate, "be_share_of_bound": c.be_share_of_bound}
        for name, c in found.items()
    }
    return json.dumps({"command": command, "systems": systems}, indent=1) + "\n"


def read_tuned(path: Path) -> dict[str, Any]:
    """A file of `dump_tuned`. Raises: ConfigError where there is none, FileRefused for any other."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["systems"]
        return {name: dict(values["settings"]) for name, values in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        kind = ConfigError if isinstance(error, OSError) else FileRefused
        raise kind(f"{path}: no result of tango tune ({error}); make one: tango tune --out {path}") from error


@cache
def _kept() -> dict[str, Any]:
    return read_tuned(Path(str(resources.files("tango.experiments") / "data" / "tuned.json")))


def _share(result: CellResult) -> float:
    bound = result.bound["be_cpu_seconds_per_s"]
    reached = float(result.figures["be_cpu_seconds_per_s"] or 0.0)
    return reached / bound if bound else 1.0


def _sequence(count: int, dimensions: int) -> NDArray[np.float64]:
    """(count, dimensions) points in the unit box."""
    phi = 2.0
    for _ in range(64):  # the root of x^(d + 1) = x + 1
        phi = (1.0 + phi) ** (1.0 / (dimensions + 1))
    steps = phi ** -np.arange(1.0, dimensions + 1)
    return np.asarray((0.5 + np.arange(1, count + 1)[:, None] * steps[None, :]) % 1.0)


def _settings(box: Box, point: NDArray[np.float64]) -> Settings:
    found: Settings = {}
    for ((group, field), (low, high)), share in zip(box.items(), point.tolist(), strict=True):
        value: float = round(low + share * (high - low), 3)
        if isinstance(low, int) and isinstance(high, int):
            value = min(high, int(low + share * (high - low + 1)))
        name, _, is_part = field.partition(".")
        values = found.setdefault(group, {})
        values[name] = [*values.get(name, []), value] if is_part else value
    return found
