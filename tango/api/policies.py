"""Systems for experiments: by name, of other parts, or of policies that are functions of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.checkpoints import CheckpointFile
from tango.domain.requests import BePending, LcArrivals
from tango.errors import UsageError
from tango.experiments.cells import NO_POLICIES, Cell, OwnPolicies
from tango.experiments.tuning import merged, tuned_settings
from tango.settings.simulated import SimulationSettings
from tango.systems import SYSTEMS, BePolicy, LcPolicy, System, be_names, lc_names, read_checkpoint, usable_system
from tango.systems.policy_files import file_policy, not_called_as_a_policy
from tango.traces.workloads import Workload

Changes = Mapping[str, Mapping[str, Any]]
"""Changed settings by group (`lc`, `be`, `sharing`, `tenants`, `sim`) and name, such as {"sim": {"beta": 1.0}}: see docs/settings.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemChoice:
    """A system of an experiment, as `system` makes it."""

    called: str
    """What tables and results call it."""
    system: System
    """Its parts by their names; a function goes by `called`, or by its own name."""
    own: OwnPolicies = field(default=NO_POLICIES)
    """The functions among its policies."""
    checkpoint: CheckpointFile | None = None
    """Of its learned BE policy; None: the one that comes with Tango."""

    def settings_with(self, changes: Changes, *, tuned: bool) -> Changes:
        """The changes that it is simulated with: given ones over those that `tango tune` found for it, if `tuned`."""
        return merged(tuned_settings(self.system), changes) if tuned else changes

    def cell(self, workload: Workload, fleet: str, seed: int, changes: Changes, *, tuned: bool, bound: bool) -> Cell:
        """Its cell of a comparison; `fleet` as a cell has it."""
        return Cell(
            workload=workload,
            fleet=fleet,
            system=self.system,
            seed=seed,
            settings=self.settings_with(changes, tuned=tuned),
            bound=bound,
            checkpoint=self.checkpoint,
        )


def system(
    name: str = "tango",
    *,
    lc: str | LcPolicy | None = None,
    be: str | BePolicy | None = None,
    sharing: str | None = None,
    called: str = "",
    checkpoint: str | Path | None = None,
) -> SystemChoice:
    """A system by name (`tango`, `load-greedy` …, or a mix LC/BE/SHARING), with other parts where they are given.

    `lc` is a name, `FILE.py:FUNCTION`, or a function of (LcArrivals, FleetSnapshot, LcSettings) that gives an `LcPlan`; `be` likewise one
    of (BePending, FleetSnapshot, BeSettings) that gives a `BePlan`. A BE policy is asked once a tick, an LC policy once a window and
    cluster, for all requests that wait; what it is given it may change. `called` is the system's name in results. `checkpoint` is a file of
    the learned BE policy.
    Raises: UsageError for an unknown name, or a function that cannot be asked; ConfigError for a file's policy that cannot be loaded;
    CheckpointError for a checkpoint that cannot be read.
    """
    found = usable_system(
        name, SimulationSettings(), lc=lc if isinstance(lc, str) else None, be=be if isinstance(be, str) else None, sharing=sharing
    )
    own = OwnPolicies(lc=None if isinstance(lc, str) else lc, be=None if isinstance(be, str) else be)
    if own.lc is not None:
        found = replace(found, lc=_name_of("LC", own.lc, called, lc_names()))
    if own.be is not None:
        found = replace(found, be=_name_of("BE", own.be, called, be_names()))
    if own:
        found = replace(found, name=f"{found.lc}/{found.be}/{found.sharing}")
    if called in SYSTEMS and called != found.name:
        raise UsageError(f"a system that is not {called!r} is called so; give it a name of its own")
    return SystemChoice(
        called=called or found.name,
        system=found,
        own=own,
        checkpoint=None if checkpoint is None else _checkpoint(checkpoint, found),
    )


SystemLike = SystemChoice | str
"""A system, or the name of one."""


def as_system(given: SystemLike) -> SystemChoice:
    """The system that is meant. Raises: as `system`."""
    return given if isinstance(given, SystemChoice) else system(given)


def nowhere(requests: BePending | LcArrivals) -> NDArray[np.int32]:
    """(n,) -1 for each request: what a policy begins its plan with, since -1 leaves a request waiting."""
    return np.full(len(requests), -1, np.int32)


def _name_of(kind: str, function: Callable[..., Any], called: str, known: Sequence[str]) -> str:
    """What a function goes by where a policy's name stands. Raises: UsageError where that is another policy's, or it cannot be asked."""
    if not callable(function):
        raise UsageError(f"the {kind} policy is {function!r}, expected a name or a function")
    name = called or str(getattr(function, "__name__", type(function).__name__))
    if wrong := not_called_as_a_policy(function):
        raise UsageError(f"the {kind} policy {name!r} {wrong}")
    if name in known or "/" in name or file_policy(name) is not None:
        raise UsageError(f"a function is called {name!r}, which names a policy, file or mix; name it: system(..., called=NAME)")
    return name


def _checkpoint(path: str | Path, of: System) -> CheckpointFile:
    found = read_checkpoint(str(path))
    if found.policy != of.be:
        raise UsageError(f"the checkpoint {path} is of policy {found.policy!r}, by which {of.name} ({of.be}) does not place BE")
    return CheckpointFile(path=found.path, digest=found.digest, policy=found.policy)
