"""The order in which pods of a list arrive, drawn as the fragmentation study draws it, number for number.

The study's simulator (hkust-adsl/kubernetes-scheduler-simulator, `pkg/simulator`: `Simulate`, `SortClusterPods`, `tuneUpPods`,
`tuneDownPods`, `syncClusterResourceList`) seeds Go's generator once and takes from it, in this order:

1. one number that it only logs;
2. a shuffle of the pods, which are in order of their names;
3. pods until `tune` times the fleet's devices have arrived: pods of the whole list, drawn with replacement, are put behind the shuffled
   ones, or pods are taken out at random;
4. a permutation of the nodes, which are in order of their names. Of nodes with the best score the first in this order is taken.

Between 3 and 4 the ten informers of the kube-scheduler that it is built on each draw how long their watch lasts (client-go,
`tools/cache/reflector.go`). That ten is the number is not written anywhere: it was found by trying 0 to 23 on one experiment, of which ten
alone gives all 131 published figures.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tango.domain.gpus import GpuNodes, GpuPods, Ints
from tango.errors import UsageError
from tango.traces.go_random import GoRandom

TUNE = 1.3
"""Times the fleet's devices that arrive in the study."""
_LOGGED = 1
_INFORMERS = 10
"""Numbers that the study's simulator takes before and after it draws pods (1 and 3 above)."""


class GpuArrivals(NamedTuple):
    """What one seed draws."""

    pods: Ints
    """(p,) rows of the pods, in order of arrival; a pod of the list may come several times, or not at all."""
    nodes: Ints
    """(n,) rows of the nodes, in the order in which ties are settled."""


def gpu_arrivals(pods: GpuPods, nodes: GpuNodes, *, seed: int, tune: float = TUNE) -> GpuArrivals:
    """Draw the order of pods and nodes that this seed names in the study. Raises: UsageError if no pod asks for a device."""
    if not pods.size.any():
        raise UsageError("no pod of this list asks for a GPU: no number of them fills the fleet's")
    chance = GoRandom(seed)
    for _ in range(_LOGGED):
        chance.word()
    order = list(range(len(pods)))
    chance.shuffle(order)
    most = tune * float(nodes.thousandths)
    if pods.size.sum() > most:
        _take_out(order, pods, most, chance)
    elif pods.size.sum() < most:
        _put_behind(order, pods, most, chance)
    for _ in range(_INFORMERS):
        chance.word()
    # The permutation numbers the nodes; the numbers, put before their names, are their order.
    return GpuArrivals(np.array(order, np.int64), np.argsort(chance.permutation(len(nodes))))


def _take_out(order: list[int], pods: GpuPods, most: float, chance: GoRandom) -> None:
    arriving = int(pods.size.sum())
    while arriving > most:
        arriving -= int(pods.size[order.pop(chance.below(len(order)))])


def _put_behind(order: list[int], pods: GpuPods, most: float, chance: GoRandom) -> None:
    """Whether the next pod is one too many is asked of what it wants of one device, not of all of its devices, as the study does."""
    arriving = int(pods.size.sum())
    of_one_device = pods.kinds.thousandths[pods.kind]
    while True:
        pod = chance.below(len(pods))
        if arriving + of_one_device[pod] > most:
            return
        arriving += int(pods.size[pod])
        order.append(pod)
