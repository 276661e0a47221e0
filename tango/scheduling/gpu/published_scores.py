"""Scores of the policies that the fragmentation study compares FGD with, whole numbers from 0 to 100: the higher, the better the node.

Each has the arithmetic and the rounding of the study's simulator (hkust-adsl/kubernetes-scheduler-simulator, `pkg/simulator/plugin`, file
named at each), since nodes with the same score are taken in the order of the seed. On which device part of one is placed is the same for
all of them: the one with the least free that has enough (`allocateGpuIdBasedOnBestFit`). Source of the policies: Weng et al., USENIX ATC
'23, section 6 (baselines).
"""

from __future__ import annotations

from tango.compiled import in_place
from tango.domain.gpus import MOST_DEVICES
from tango.domain.resource_axis import THOUSANDTHS
from tango.scheduling.gpu.columns import AFFINITIES, DeviceColumns, KindColumns
from tango.scheduling.gpu.fitting import affinity

_LARGEST_CPU = 128_000.0
_LARGEST_GPU = float(MOST_DEVICES * THOUSANDTHS)
"""Millicores and thousandths of the largest node there is, by which resources are made comparable."""
_WEIGHT = 0.5
"""Of CPU and of GPU alike."""


@in_place
def best_fit_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int) -> int:
    """Best fit: 100 (1 - sum over CPU and GPU of what is left after the pod, over the largest node's, times 1/2). `best_fit_score.go`."""
    left = 0.0
    left += (float(nodes.cpu[n]) - float(kinds.cpu[k])) / _LARGEST_CPU * _WEIGHT
    left += (float(free_gpu(nodes, n)) - float(kinds.devices[k] * kinds.thousandths[k])) / _LARGEST_GPU * _WEIGHT
    return int((1.0 - left) * 100.0)


@in_place
def dot_product_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int) -> int:
    """Tetris: 100 (1 - free · asked / 2), CPU and GPU over the largest node's: a node whose free resources are least like the pod's.

    `dot_product_score.go` with GPUs merged (Grandl et al., SIGCOMM '14, align pods with nodes; the study subtracts from 1).
    """
    product = (nodes.cpu[n] / _LARGEST_CPU) * (kinds.cpu[k] / _LARGEST_CPU)
    product += (free_gpu(nodes, n) / _LARGEST_GPU) * ((kinds.devices[k] * kinds.thousandths[k]) / _LARGEST_GPU)
    return int(100.0 * (1.0 - product / 2.0))


@in_place
def clustering_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int) -> int:
    """Gandiva: pods that ask for as many devices together. `gpu_clustering_score.go`.

    75 on nodes where all are such, 50 where some are, 25 on a node without pods, 0 among others; up to 25 more the fuller the node. Pods
    without devices have 0 everywhere.
    """
    if kinds.devices[k] == 0:
        return 0
    fuller = 25 * (MOST_DEVICES * THOUSANDTHS - free_gpu(nodes, n)) // (MOST_DEVICES * THOUSANDTHS)
    groups = 0
    for a in range(AFFINITIES):
        if nodes.tenants[n, a] > 0:
            groups += 1
    if nodes.tenants[n, affinity(kinds, k)] > 0:
        return int(fuller + (75 if groups == 1 else 50))
    return int(fuller + (25 if groups == 0 else 0))


@in_place
def packing_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int) -> int:
    """Pack on devices that are shared already, then on empty devices of used nodes, then on empty nodes. `gpu_packing_score.go`.

    100 less a tenth of the per cent that is free on the shared device; 50 less the empty devices that are needed; 33 less the devices of
    the empty node, and never less than their number. Pods without devices have 0 everywhere. The tightest devices come first, so that an
    empty one is needed only where no shared one has enough.
    """
    if kinds.devices[k] == 0:
        return 0
    empty = 0
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] == THOUSANDTHS:
            empty += 1
    if empty == nodes.devices[n]:
        return max(33 - empty, empty)
    if kinds.thousandths[k] == THOUSANDTHS:
        return int(max(50 - kinds.devices[k], 33))
    tightest = THOUSANDTHS
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] >= kinds.thousandths[k]:
            tightest = min(tightest, nodes.free[n, d])
    if tightest == THOUSANDTHS:
        return 49
    return int(max(100 - tightest * 100 // THOUSANDTHS // 10, 50))


@in_place
def free_gpu(nodes: DeviceColumns, n: int) -> int:
    """Thousandths that are free on all devices of node n together."""
    total = 0
    for d in range(nodes.devices[n]):
        total += nodes.free[n, d]
    return total
