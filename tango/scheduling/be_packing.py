"""`packing`: as much of the whole queue as a solver gets into what is free, an upper reference for other placements.

An integer programme: how many requests of each size go to each node, so that the CPU that is requested is the most, and of equal fillings
the one on emptier nodes; HiGHS solves it, with a limit of time and of the gap. It knows nothing of what LC will need next, nor of
interference: it is a reference for filling, and no bound on what a run can do. For many requests of few sizes on a thousand nodes it
takes a second, which no live tick has: it decides in simulations and benchmarks, and is no part of a system.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.resource_axis import CPU, MEMORY
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ConfigError
from tango.scheduling.be_policies import place_kube_packed
from tango.settings.decisions import BeSettings

TIME_LIMIT_S = 2.0
"""Seconds after which the best filling that was found counts; one tick of the simulated world is a second."""
GAP = 1e-3
"""Share of the CPU that a filling may be from the best: a thousandth is less than what one pod of a run asks for."""
MOST_SIZES = 64
"""Different sizes of requests up to which each is told apart; of more, memory is rounded up to whole `MEMORY_STEP_MIB`."""
MEMORY_STEP_MIB = 64.0
EMPTIER = 0.05
"""What a request on an empty node counts for more than one on a full one: less than any difference in what is filled."""


def require_solver() -> None:
    """Raises: ConfigError where HiGHS is not installed, with what to install."""
    _highs()


def place_packing(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
    """The fullest filling found; where none was in time, what `k8s-packed` does. Raises: ConfigError without HiGHS."""
    if not len(pending):
        return BePlan(node=np.full(0, -1, np.int32), policy="packing")
    requests = pending.requests
    sizes, size = np.unique(requests, axis=1, return_inverse=True)
    if sizes.shape[1] > MOST_SIZES:
        requests = requests.copy()
        requests[MEMORY] = np.ceil(requests[MEMORY] / MEMORY_STEP_MIB) * MEMORY_STEP_MIB
        sizes, size = np.unique(requests, axis=1, return_inverse=True)
    size = size.reshape(-1)
    free = np.where(snapshot.node_ready, np.maximum(0.0, snapshot.free), 0.0)
    filled = filling(sizes, np.bincount(size), free, np.maximum(1.0, snapshot.cpu_allocatable))
    if filled is None:
        return place_kube_packed(pending, snapshot, settings)
    node = np.full(len(pending), -1, np.int32)
    for k, counts in enumerate(filled):
        mine = np.flatnonzero(size == k)  # the oldest first
        places = np.repeat(np.arange(len(counts)), counts)
        node[mine[: len(places)]] = places[: len(mine)]
    return BePlan(node=node, policy="packing")


def filling(
    sizes: NDArray[np.float64], wanted: NDArray[np.int64], free: NDArray[np.float64], cpu_allocatable: NDArray[np.float64]
) -> NDArray[np.int64] | None:
    """(u, n) how many requests of each of u sizes go to each node; None where no filling was found in time.

    `sizes` (r, u), `wanted` (u,) requests of each, `free` (r, n), `cpu_allocatable` (n,).
    """
    kinds, nodes = sizes.shape[1], free.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(sizes[:, :, None] > 0, free[:, None, :] / sizes[:, :, None], np.inf).min(axis=0)
    upper = np.minimum(np.floor(each + 1e-9), wanted[:, None]).astype(np.float64)
    kind, node = np.nonzero(upper > 0)
    if not len(kind):
        return np.zeros((kinds, nodes), np.int64)
    gain = sizes[CPU, kind] * (1.0 + EMPTIER * free[CPU, node] / cpu_allocatable[node])
    # Rows: for each kind how many are wanted, then for each resource and node what is free. Columns are (kind, node) pairs.
    asked = sizes[:, kind] > 0
    resource, pair = np.nonzero(asked)
    column = np.concatenate((np.arange(len(kind)), pair))
    row = np.concatenate((kind, kinds + resource * nodes + node[pair]))
    value = np.concatenate((np.ones(len(kind)), sizes[resource, kind[pair]]))
    most = np.concatenate((wanted.astype(np.float64), free.reshape(-1)))
    found = _solved(gain, upper[kind, node], most, column, row, value)
    if found is None:
        return None
    filled = np.zeros((kinds, nodes), np.int64)
    filled[kind, node] = found
    return filled


def _solved(
    gain: NDArray[np.float64],
    upper: NDArray[np.float64],
    most: NDArray[np.float64],
    column: NDArray[np.int64],
    row: NDArray[np.int64],
    value: NDArray[np.float64],
) -> NDArray[np.int64] | None:
    """Whole numbers x of the most `gain` · x with 0 <= x <= `upper` and A x <= `most`; A is given as (row, column, value)."""
    highspy, solver = _highs()
    for option, setting in (
        ("output_flag", False),
        ("time_limit", TIME_LIMIT_S),
        ("mip_rel_gap", GAP),
        ("threads", 1),
        ("random_seed", 0),
    ):
        solver.setOptionValue(option, setting)
    order = np.lexsort((row, column))
    columns, rows = len(gain), len(most)
    starts = np.searchsorted(column[order], np.arange(columns + 1))
    solver.passModel(
        columns,
        rows,
        len(order),
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMaximize),
        0.0,
        gain,
        np.zeros(columns),
        upper,
        np.full(rows, -highspy.kHighsInf),
        most,
        starts.astype(np.int32),
        row[order].astype(np.int32),
        value[order],
        np.ones(columns, np.int32),
    )
    solver.run()
    found = np.asarray(solver.getSolution().col_value, np.float64)
    if len(found) != columns or not np.isfinite(found).all() or not solver.getSolution().value_valid:
        return None
    return np.rint(found).astype(np.int64)


def _highs() -> tuple[Any, Any]:
    """The library, and a solver."""
    try:
        import highspy

        from tango.scheduling.highs import Solver
    except ImportError as error:
        raise ConfigError(
            f"the BE policy 'packing' needs the solver HiGHS, and {error}; install it: pip install 'highspy>=1.12', or make install"
        ) from error
    return highspy, Solver()
