"""The fragmentation study of GPU placement, repeated: ten workloads, seeds 42 to 51, allocation against what has arrived, beside the
published table.

Source: Weng et al., "Beware of Fragmentation", USENIX ATC '23; data and table of hkust-adsl/kubernetes-scheduler-simulator. Pods of a
workload arrive in the order of a seed until 1.3 times the fleet's devices have; each is placed or refused for good; how much of the
fleet's GPU is allocated is told when 0, 1 ... 130 % of it have arrived. One seed of one workload is drawn once for all policies.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.analysis.intervals import paired_difference
from tango.domain.gpus import GpuNodes, GpuPods, Ints
from tango.domain.near_names import near_name
from tango.domain.resource_axis import THOUSANDTHS
from tango.errors import UsageError
from tango.experiments.processes import process_pool, uninterrupted
from tango.scheduling.gpu.placing import GpuPolicy, place_pods
from tango.traces.csv_columns import read_csv
from tango.traces.files import read_content
from tango.traces.gpu_arrivals import gpu_arrivals
from tango.traces.gpu_lists import read_gpu_nodes, read_gpu_pods
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

SEEDS = tuple(range(42, 52))
"""Of the published table."""
ARRIVED = 100
"""Per cent of the fleet's devices that have arrived where policies are compared."""
_UNTIL = 130
NAMES = {
    GpuPolicy.RANDOM: "Random",
    GpuPolicy.DOT_PRODUCT: "DotProd",
    GpuPolicy.CLUSTERING: "GpuClustering",
    GpuPolicy.PACKING: "GpuPacking",
    GpuPolicy.BEST_FIT: "BestFit",
    GpuPolicy.FGD: "FGD",
    GpuPolicy.FILLING: "Filling",
}
"""As the published table has them, and the command takes them; the last is not in the table."""
MADE_ON = ("default", "gpushare40", "gpushare100", "gpuspec10", "gpuspec33", "multigpu20", "multigpu50")
"""Workloads that the constants of `tango.scheduling.gpu.filling` were found on; the others judge it."""
_SAME = 0.005
"""Points by which two figures of two decimals differ when they are the same."""
_NODES, _PODS, _TABLE = "openb_node_list_gpu_node", "openb_pod_list_", "expected_allocation"
_ENDINGS = (".csv.gz", ".csv")

TABLE = Schema(
    "allocation table",
    (
        Field("workload", Kind.TEXT, required=True),
        Field("sc_policy", Kind.TEXT, required=True),
        Field("tune", Kind.FLOAT, required=True),
        Field("seed", Kind.INT, required=True),
        Field("total_gpus", Kind.INT, required=True),
        *(Field(str(percent), Kind.FLOAT, low=0.0, high=100.0) for percent in range(_UNTIL + 1)),
    ),
    header=True,
)

Curve = NDArray[np.float64]
"""(131,) per cent of the fleet's GPU that is allocated when 0, 1 ... 130 % have arrived; NaN where nothing is told."""
Published = Mapping[tuple[str, str, int], Curve]
"""Curves by workload, name of the policy and seed."""


class _Cell(NamedTuple):
    """One seed of one workload under these policies."""

    folder: Path
    workload: str
    seed: int
    policies: tuple[GpuPolicy, ...]


class _Curves(NamedTuple):
    """What came of it, by policy, and how long each took."""

    cell: _Cell
    curves: dict[GpuPolicy, Curve]
    seconds: dict[GpuPolicy, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One policy on one workload, or on the mean of several."""

    workload: str
    """Its name, or what the several have in common: `all`, `made on` (Tango's own policy), `held out` (from its making)."""
    policy: str
    seeds: int
    allocated: float
    """Per cent of the fleet's GPU at `ARRIVED`, the mean over seeds."""
    published: float | None
    """The same of the published table; None where it does not have all of the seeds."""
    difference: float | None
    """allocated - published, in points."""
    alike: int | None
    """Seeds of which every one of the 131 published figures is met."""
    over_fgd: float | None
    """Points over FGD on the same seeds, with the bounds of the 95 % interval; None where FGD was not asked, or for FGD itself."""
    low: float | None
    high: float | None
    seconds: float
    """CPU time of one experiment, drawing and reading left out; the mean over seeds."""


def workloads_in(folder: Path) -> tuple[str, ...]:
    """Names of the workloads whose pod lists lie in a folder, in order. Raises: UsageError where there is none."""
    found = {path.name.removeprefix(_PODS).split(".")[0] for ending in _ENDINGS for path in folder.glob(f"{_PODS}*{ending}")}
    if not found:
        raise UsageError(f"no pod list {_PODS}NAME.csv(.gz) lies in {folder}; see docs/fgd.md for where the data comes from")
    return tuple(sorted(found, key=lambda name: (name != "default", name)))


def policy_named(name: str) -> GpuPolicy:
    """The policy of this name, whatever its case. Raises: UsageError, with the nearest name."""
    known = {label.lower(): policy for policy, label in NAMES.items()}
    if name.lower() not in known:
        raise UsageError(f"no GPU policy {name!r}{near_name(name, NAMES.values())}; there are {', '.join(NAMES.values())}")
    return known[name.lower()]


def repeat_study(
    folder: Path,
    *,
    workloads: Sequence[str] = (),
    policies: Sequence[GpuPolicy] = (),
    seeds: Sequence[int] = SEEDS,
    processes: int = 1,
) -> Iterator[list[StudyRow]]:
    """Rows of each workload as soon as all of its seeds are there, then those of their means; empty sequences mean all that there are.

    Raises: UsageError for a file or a workload that the folder does not have, BadRows for rows that no list may have.
    """
    there = workloads_in(folder)
    for name in workloads:
        if name not in there:
            raise UsageError(f"no workload {name!r} in {folder}{near_name(name, there)}; there are {', '.join(there)}")
    chosen = tuple(policies) or tuple(NAMES)
    published = read_published(folder)
    wanted = tuple(workloads) or there
    for workload in wanted:  # what is wrong with a list is said at once, and here: a process that reads it cannot hand its error on
        _pods(folder, workload)
    _nodes(folder)
    cells = [_Cell(folder, workload, seed, chosen) for workload in wanted for seed in seeds]
    waiting = {workload: list[_Curves]() for workload in wanted}
    for made in _made(cells, processes):
        curves = waiting[made.cell.workload]
        curves.append(made)
        if len(curves) == len(seeds):
            yield _rows(curves, published)
    for label, group in (("all", wanted), ("made on", MADE_ON), ("held out", tuple(set(there) - set(MADE_ON)))):
        together = [waiting[workload] for workload in wanted if workload in group]
        if len(together) > 1:
            yield _rows(_means(label, together), _published_means(label, together, published))


def read_published(folder: Path) -> Published:
    """The published curves; none where the folder has no table. Raises: BadRows."""
    path = _file(folder, _TABLE)
    if path is None:
        return {}
    refusals = Refusals()
    rows = read_csv(read_content(path), TABLE, refusals)
    refusals.raise_if_any(remedy="mend the table")
    (workload, workloads), (policy, policies) = rows.texts("workload"), rows.texts("sc_policy")
    curves = np.stack([rows.floats(str(percent)) for percent in range(_UNTIL + 1)], axis=1)
    keys = zip(workload, policy, rows.ints("seed").tolist(), strict=True)
    return {
        (workloads[w].removeprefix(_PODS), policies[p].split("-", 1)[-1], seed): curve
        for (w, p, seed), curve in zip(keys, curves, strict=True)
    }


def allocation_curve(placed: Ints, size: Ints, total: int) -> Curve:
    """Allocated per cent by arrived per cent, with the study's rounding (`merge_alloc_discrete.py`).

    `placed` are the thousandths that each pod got, `size` those that it asked for, shapes (p,); `total` are the fleet's. After each pod
    the arrived per cent are rounded to whole ones, the allocated to two decimals; at each whole per cent the mean over its pods counts,
    or, where no pod arrived there, that of the neighbours.
    """
    devices = total // THOUSANDTHS
    arrived = np.array([round(x / devices / 10) for x in np.cumsum(size).tolist()])
    allocated = np.array([round(x / devices / 10, 2) for x in np.cumsum(placed).tolist()])
    curve = np.full(_UNTIL + 1, np.nan)
    for percent in range(_UNTIL + 1):
        at = arrived == percent
        if not at.any():
            at = np.abs(arrived - percent) <= 1
        if at.any():
            curve[percent] = np.round(allocated[at].mean(), 2)  # Python's own rounding differs in the last digit now and then
    return curve


def _made(cells: Sequence[_Cell], processes: int) -> Iterator[_Curves]:
    if processes <= 1 or len(cells) <= 1:
        yield from map(_curves, cells)
        return
    _warm_up(cells[0])  # else every process would compile for itself
    with process_pool(min(processes, len(cells)), __name__) as pool:
        with uninterrupted():
            under_way = [pool.submit(_curves, cell) for cell in cells]
        for ended in as_completed(under_way):
            yield ended.result()


def _warm_up(cell: _Cell) -> None:
    nodes, pods = _nodes(cell.folder), _pods(cell.folder, cell.workload)
    place_pods(cell.policies[0], nodes.taken(np.arange(1)), pods, np.arange(1))


def _curves(cell: _Cell) -> _Curves:
    nodes, pods = _nodes(cell.folder), _pods(cell.folder, cell.workload)
    drawn = gpu_arrivals(pods, nodes, seed=cell.seed)
    ordered, size = nodes.taken(drawn.nodes), pods.size[drawn.pods]
    curves, seconds = dict[GpuPolicy, Curve](), dict[GpuPolicy, float]()
    for policy in cell.policies:
        begun_s = time.process_time()
        node, _ = place_pods(policy, ordered, pods, drawn.pods, np.random.default_rng(cell.seed))
        seconds[policy] = time.process_time() - begun_s
        curves[policy] = allocation_curve(np.where(node >= 0, size, 0), size, nodes.thousandths)
    return _Curves(cell, curves, seconds)


def _means(label: str, workloads: Sequence[Sequence[_Curves]]) -> list[_Curves]:
    """The curves of each seed, their means over workloads: what differs between seeds, all workloads together, makes the interval."""
    found = []
    for same_seed in zip(*(sorted(curves, key=lambda one: one.cell.seed) for curves in workloads), strict=True):
        cell = same_seed[0].cell._replace(workload=label)
        mean = {policy: np.mean([one.curves[policy] for one in same_seed], axis=0) for policy in cell.policies}
        seconds = {policy: float(np.mean([one.seconds[policy] for one in same_seed])) for policy in cell.policies}
        found.append(_Curves(cell, mean, seconds))
    return found


def _published_means(label: str, workloads: Sequence[Sequence[_Curves]], published: Published) -> Published:
    """Published curves of the same seeds, their means over the same workloads, where all of them are there."""
    found = dict[tuple[str, str, int], Curve]()
    for one in workloads[0]:
        for policy in one.cell.policies:
            keys = [(curves[0].cell.workload, NAMES[policy], one.cell.seed) for curves in workloads]
            if all(key in published for key in keys):
                found[label, NAMES[policy], one.cell.seed] = np.mean([published[key] for key in keys], axis=0)
    return found


def _rows(made: Sequence[_Curves], published: Published) -> list[StudyRow]:
    """The rows of one workload, one a policy."""
    by_seed = {one.cell.seed: one for one in sorted(made, key=lambda one: one.cell.seed)}
    fgd = {seed: float(one.curves[GpuPolicy.FGD][ARRIVED]) for seed, one in by_seed.items() if GpuPolicy.FGD in one.curves}
    return [_row(policy, by_seed, published, fgd) for policy in made[0].cell.policies]


def _row(policy: GpuPolicy, by_seed: Mapping[int, _Curves], published: Published, fgd: Mapping[int, float]) -> StudyRow:
    workload = next(iter(by_seed.values())).cell.workload
    curves = {seed: one.curves[policy] for seed, one in by_seed.items()}
    allocated = {seed: float(curve[ARRIVED]) for seed, curve in curves.items()}
    mean = float(np.mean(list(allocated.values())))
    theirs = {seed: published.get((workload, NAMES[policy], seed)) for seed in curves}
    known = {seed: curve for seed, curve in theirs.items() if curve is not None}
    complete = len(known) == len(curves)
    expected = float(np.mean([curve[ARRIVED] for curve in known.values()])) if complete else None
    alike = sum(bool(np.all(np.abs(curves[seed] - curve) < _SAME)) for seed, curve in known.items()) if complete else None
    over = paired_difference(allocated, fgd) if fgd and policy is not GpuPolicy.FGD else None
    return StudyRow(
        workload=workload,
        policy=NAMES[policy],
        seeds=len(curves),
        allocated=mean,
        published=expected,
        difference=None if expected is None else mean - expected,
        alike=alike,
        over_fgd=over.mean if over else None,
        low=over.low if over else None,
        high=over.high if over else None,
        seconds=float(np.mean([one.seconds[policy] for one in by_seed.values()])),
    )


@lru_cache(maxsize=1)
def _nodes(folder: Path) -> GpuNodes:
    return read_gpu_nodes(_needed(folder, _NODES))


@lru_cache(maxsize=2)
def _pods(folder: Path, workload: str) -> GpuPods:
    return read_gpu_pods(_needed(folder, f"{_PODS}{workload}"))


def _needed(folder: Path, stem: str) -> Path:
    path = _file(folder, stem)
    if path is None:
        raise UsageError(f"{folder} has no {stem}.csv(.gz); see docs/fgd.md for where the data comes from")
    return path


def _file(folder: Path, stem: str) -> Path | None:
    return next((path for ending in _ENDINGS if (path := folder / f"{stem}{ending}").is_file()), None)
