"""How much of a node's free GPU the next pod cannot use, and the descent along it (FGD).

Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC '23,
section 3 (the measure) and section 4 (the descent). For a pod m, the fragmentation F_n(m) of a node n is

- all of its free GPU, where the node cannot run m: too little CPU, too few devices with enough, or devices of another model;
- else what is free on devices with less than m asks for of each.

F_n(M) is the mean over the target workload M: sum over m of p_m F_n(m). A pod goes where F_n(M) grows least.
"""

from __future__ import annotations

import math

from tango.compiled import in_place
from tango.domain.gpus import Ints
from tango.scheduling.gpu.columns import DeviceColumns, KindColumns, TypicalPods
from tango.scheduling.gpu.fitting import NOWHERE, is_part, without

_SLOPE = 1000.0
"""Thousandths of a device that the score's logistic curve has as its unit."""
_MOST_SCORE = 100.0
"""Scores are whole numbers from 0 to this, as those of a plug-in of kube-scheduler (`framework.MaxNodeScore`)."""


@in_place
def fragmentation(cpu: int, free: Ints, devices: int, model: int, typical: TypicalPods) -> float:
    """F_n(M) in thousandths of a device, of a node with so much CPU and so much of each device free.

    One sum for each cause, added up at the end: in another order the last bits differ, and a score that is 50 where nothing changes may
    be 49. For pods without devices all that is free counts, whatever the CPU, as in the study's simulator (`NodeGpuShareFragAmount`); it
    is the same for every node that a pod may go to, but for those last bits.
    """
    total = 0
    for d in range(devices):
        total += free[d]
    lacks_both = lacks_devices = lacks_cpu = no_devices_asked = no_devices_no_cpu = other_model = 0.0
    for m in range(len(typical.share)):
        share = typical.share[m]
        has_cpu = cpu >= typical.cpu[m]
        if typical.thousandths[m] == 0:
            if has_cpu:
                no_devices_asked += share * total
            else:
                no_devices_no_cpu += share * total
            continue
        if (typical.accepted[m] >> model) & 1 == 0:
            other_model += share * total
            continue
        enough = too_small = 0
        for d in range(devices):
            if free[d] >= typical.thousandths[m]:
                enough += 1
            else:
                too_small += free[d]
        if enough >= typical.devices[m]:
            if has_cpu:
                lacks_devices += share * too_small
            else:
                lacks_cpu += share * total
        elif has_cpu:
            lacks_devices += share * total
        else:
            lacks_both += share * total
    return lacks_both + lacks_devices + lacks_cpu + no_devices_asked + no_devices_no_cpu + other_model


@in_place
def update_fragmentation(nodes: DeviceColumns, n: int, typical: TypicalPods) -> None:
    """Note F_n(M) of node n as it is."""
    nodes.fragments[n] = fragmentation(nodes.cpu[n], nodes.free[n], nodes.devices[n], nodes.model[n], typical)


@in_place
def descent_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, typical: TypicalPods, left: Ints) -> tuple[float, int]:
    """(score, device) of the best way to place a pod of kind k on node n, where it fits; a whole number from 0 to 100, 50 for no change.

    100 / (1 + exp(-(F_n(M) - F_n'(M)) / 1000)), cut to a whole number, for each device that has enough; of equal ones the first. Whole
    devices are all alike, and there is no device to choose (`NOWHERE`). Source: section 4, Algorithm 1, with the simulator's rounding.
    """
    if not is_part(kinds, k):
        return _score_with(nodes, n, kinds, k, NOWHERE, typical, left), NOWHERE
    best, device = -1.0, NOWHERE
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] < kinds.thousandths[k] or (d > 0 and nodes.free[n, d] == nodes.free[n, d - 1]):
            continue  # a device like the one before it has the same score, and comes later
        score = _score_with(nodes, n, kinds, k, d, typical, left)
        if score > best:
            best, device = score, d
    return best, device


@in_place
def _score_with(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, device: int, typical: TypicalPods, left: Ints) -> float:
    without(nodes.free[n], nodes.devices[n], kinds, k, device, left)
    grown = fragmentation(nodes.cpu[n] - kinds.cpu[k], left, nodes.devices[n], nodes.model[n], typical)
    return float(int(1.0 / (1.0 + math.exp(-((nodes.fragments[n] - grown) / _SLOPE))) * _MOST_SCORE))
