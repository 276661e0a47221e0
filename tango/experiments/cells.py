"""Cells of a comparison: one workload under one system with one seed, as a value that any process can run.

A cell is JSON all through. Its key is the SHA-256 of the cell and of what its result depends on, and of nothing else: fleet, trace files
and checkpoint by their content, decision costs, and the sources that this module and the system's policies import. So a result found
under a key is the result, and an edit of what no result depends on keeps all that was simulated.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tango.analysis.comparison import CellLabel, CellResult, cell_result
from tango.analysis.metrics import run_metrics
from tango.bound import bound_of
from tango.domain.checkpoints import CheckpointFile
from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.runs import NewRequests
from tango.domain.tenants import Tenant, tenant_as_dict, tenant_from
from tango.errors import CheckpointError, UsageError
from tango.fleets import load_fleet
from tango.fleets.catalog import parse_fleet
from tango.learning.shipped import shipped_path
from tango.settings.explaining import ExplainSettings
from tango.settings.simulated import SimulationSettings
from tango.sim.decision_costs import COSTS_FILE, recorded_costs
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, Progress, simulate
from tango.sources import ROOT, digest_of, import_closure
from tango.systems import BePolicy, LcPolicy, System, learned_policies, policy_source_digest
from tango.traces.files import expand
from tango.traces.workloads import Workload, draw_requests, is_pattern

TUNABLE = ("lc", "be", "sharing", "tenants", "sim")
"""Groups of settings that a cell may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulation to be made."""

    workload: Workload
    fleet: str
    """Name of a built-in fleet, or the text of a fleet file."""
    system: System
    seed: int
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes to `SimulationSettings`, by group of `TUNABLE` and field."""
    variation: str = ""
    """What the scenario is called beside its workload, such as `beta=1`."""
    bound: bool = True
    """Whether the offline bound is solved too."""
    checkpoint: CheckpointFile | None = None
    """Of the learned BE policy of its kind; None: the shipped one."""
    tenants: tuple[Tenant, ...] = ()
    """Declared tenants, each name once."""

    @property
    def scenario(self) -> str:
        """The workload with its variation: cells of one scenario are compared with each other."""
        return f"{self.workload.label} {self.variation}".strip()

    def as_dict(self) -> dict[str, Any]:
        """The cell as JSON."""
        return {
            "workload": self.workload.as_dict(),
            "fleet": self.fleet,
            "system": dataclasses.asdict(self.system),
            "seed": self.seed,
            "settings": {group: dict(values) for group, values in self.settings.items()},
            "variation": self.variation,
            "bound": self.bound,
            "checkpoint": dataclasses.asdict(self.checkpoint) if self.checkpoint else None,
            "tenants": [tenant_as_dict(tenant) for tenant in self.tenants],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Cell:
        """The cell that `as_dict` gave."""
        return cls(
            workload=Workload.from_dict(values["workload"]),
            fleet=values["fleet"],
            system=System(**values["system"]),
            seed=values["seed"],
            settings=values["settings"],
            variation=values["variation"],
            bound=values["bound"],
            checkpoint=CheckpointFile(**values["checkpoint"]) if values.get("checkpoint") else None,
            tenants=tuple(tenant_from(of) for of in values.get("tenants", ())),
        )

    def key(self) -> str:
        """SHA-256 of the cell and of what its result depends on."""
        files = [] if is_pattern(self.workload.lc) else list(expand(self.workload.lc))
        files += [] if is_pattern(self.workload.be) else list(expand(self.workload.be))
        depends = {
            # By its content, wherever the file lies on which host.
            "cell": self.as_dict() | {"checkpoint": self.checkpoint.digest if self.checkpoint else None},
            "fleet": fleet_of(self.fleet).source_hash,
            "files": [_file_digest(str(path), path.stat().st_mtime_ns) for path in files],
            "code": code_digest(self.system, self.checkpoint.policy if self.checkpoint else ""),
            "policies": policy_source_digest(self.system),
        }
        return hashlib.sha256(json.dumps(depends, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnPolicies:
    """Functions of the caller's that decide in place of the policies that a system names.

    They live in this process alone, and what they do is not told by a name: a cell with any has no key.
    """

    lc: LcPolicy | None = None
    be: BePolicy | None = None

    def __bool__(self) -> bool:
        return self.lc is not None or self.be is not None


NO_POLICIES = OwnPolicies()


def run_cell(
    cell: Cell, *, own: OwnPolicies = NO_POLICIES, progress: Progress | None = None, end_when_stuck: bool = True
) -> CellResult:
    """Simulate a cell and compute its figures. Equal cells give equal results, wherever they run.

    A run that ends in a deadlock is evaluated as it stands, with a note: what waits for ever is part of what its system is worth.

    Raises: what `draw_requests` and `simulate` raise.
    """
    run, requests = simulate_cell(cell, own=own, progress=progress, end_when_stuck=end_when_stuck)
    return evaluated(cell, run, requests, key="" if own else cell.key())


def simulate_cell(
    cell: Cell,
    *,
    own: OwnPolicies = NO_POLICIES,
    progress: Progress | None = None,
    end_when_stuck: bool = True,
    kept: ExplainSettings | None = None,
) -> tuple[SimulatedRun, NewRequests]:
    """The run of a cell, with its requests; with `kept` it has the candidates of some.

    Raises: CheckpointError where its checkpoint is not what it was; as `simulate`."""
    fleet = fleet_of(cell.fleet)
    requests = _requests(json.dumps(cell.workload.as_dict(), sort_keys=True), cell.fleet, cell.seed)
    run = simulate(
        fleet,
        requests,
        cell.system,
        settings_with(cell.settings, cell.checkpoint),
        seed=cell.seed,
        span_s=cell.workload.duration_s,
        progress=progress,
        end_when_stuck=end_when_stuck,
        given=dataclasses.replace(given_by(own, cell.tenants), kept=kept),
    )
    return run, requests


def given_by(own: OwnPolicies, tenants: Sequence[Tenant] = ()) -> Given:
    """What a simulation is given beside what its system names."""
    return Given(lc=own.lc, be=own.be, costs=recorded_costs(), tenants={tenant.name: tenant for tenant in tenants})


def label_of(system: System, scenario: str, seed: int, *, key: str = "") -> CellLabel:
    """What the result of a system on a scenario with a seed goes by."""
    return CellLabel(scenario=scenario, system=system.name, lc=system.lc, be=system.be, sharing=system.sharing, seed=seed, key=key)


def evaluated(cell: Cell, run: SimulatedRun, requests: NewRequests, *, key: str | None = None) -> CellResult:
    """The result of a cell's run; `key`: another one than the cell's."""
    label = label_of(cell.system, cell.scenario, cell.seed, key=cell.key() if key is None else key)
    return result_of(run, label, fleet_of(cell.fleet), requests if cell.bound else None)


def result_of(run: SimulatedRun, label: CellLabel, fleet: Fleet, requests: NewRequests | None = None) -> CellResult:
    """The figures of a run, what plots need and, where its requests are given, its bound."""
    metrics = run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)
    if requests is None:
        return cell_result(run, metrics, label)
    found = bound_of(fleet, requests, run.outcomes)
    reach = {"lc_qos_rate": found.lc_qos_rate, "be_cpu_seconds_per_s": found.be_cpu_seconds_per_s}
    return cell_result(run, metrics, label, bound=reach)


def settings_with(changes: Mapping[str, Mapping[str, Any]], checkpoint: CheckpointFile | None = None) -> SimulationSettings:
    """The default settings with changes, and with a checkpoint for the policy that it is of.

    Raises: UsageError for a group or field that there is not, or a value of another type; CheckpointError for a file that was changed.
    """
    settings = SimulationSettings()
    if checkpoint is not None:
        if wrong := checkpoint.changed():
            raise CheckpointError(wrong)
        settings = dataclasses.replace(settings, checkpoint=checkpoint.path, checkpoint_policy=checkpoint.policy)
    for group, values in changes.items():
        if group not in TUNABLE:
            raise UsageError(
                f"there are no settings {group!r} to change{near_name(group, TUNABLE)}, expected one of {', '.join(TUNABLE)}"
            )
        old = getattr(settings, group)
        known = {f.name for f in dataclasses.fields(old)}
        fresh: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                near = near_name(name, known)
                raise UsageError(f"there is no setting {group}.{name}{near}, expected one of {', '.join(sorted(known))}")
            fresh[name] = _like(getattr(old, name), value, f"{group}.{name}")
        settings = dataclasses.replace(settings, **{group: dataclasses.replace(old, **fresh)})
    return settings


def _like(old: object, value: Any, name: str) -> Any:
    """The value in the type of the default."""
    if isinstance(old, bool) or isinstance(value, bool):
        if isinstance(old, bool) and isinstance(value, bool):
            return value
    elif isinstance(old, tuple) and isinstance(value, list | tuple) and len(value) == len(old):
        if all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in value):
            return tuple(float(v) for v in value)
    elif isinstance(old, int) and isinstance(value, int):
        return value
    elif (old is None or isinstance(old, float)) and isinstance(value, int | float) and np.isfinite(value):
        return float(value)
    elif isinstance(old, str) and isinstance(value, str):
        return value
    raise UsageError(f"setting {name} is {value!r}, expected something like {old!r}")


@lru_cache(maxsize=8)
def fleet_of(name_or_text: str) -> Fleet:
    """The fleet of a cell."""
    if "\n" in name_or_text:
        return parse_fleet(name_or_text, "the cell's fleet")
    return load_fleet(name_or_text)


@lru_cache(maxsize=2)
def _requests(workload: str, fleet: str, seed: int) -> NewRequests:
    """The systems of one seed serve the same requests: draw them once."""
    return draw_requests(Workload.from_dict(json.loads(workload)), fleet_of(fleet), seed)


@cache
def _file_digest(path: str, _changed_ns: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def sources_of(system: System, *, own_checkpoint: str = "", root: Path = ROOT) -> tuple[Path, ...]:
    """Tango's own files that the results of a system depend on, beside the fleet and the traces that a cell names.

    `own_checkpoint` is the policy for which a cell brings a checkpoint, so that the shipped one does not count.
    """
    learned = learned_policies(system)
    code = import_closure((__name__, *learned.values()), root=root, with_packages=True)
    data = (COSTS_FILE, *(shipped_path(name) for name in learned if name != own_checkpoint))
    return (*code, *(root / path.relative_to(ROOT) for path in data))


@cache
def code_digest(system: System, own_checkpoint: str = "") -> str:
    """SHA-256 over the files and the libraries that make the results of a system."""
    needed = ("numpy", "numba", "highspy", *(("torch",) if learned_policies(system) else ()))
    libraries = ", ".join(f"{name} {version(name)}" for name in needed)
    made_by = f"{libraries}, Python {platform.python_version()}, {digest_of(sources_of(system, own_checkpoint=own_checkpoint))}"
    return hashlib.sha256(made_by.encode()).hexdigest()
