"""Whether a pod fits a node, and which devices it takes: compiled, the one rule of all GPU policies."""

from __future__ import annotations

from tango.compiled import in_place
from tango.domain.gpus import MOST_DEVICES, Ints
from tango.domain.resource_axis import THOUSANDTHS
from tango.scheduling.gpu.columns import DeviceColumns, KindColumns

NOWHERE = -1
"""No node, or no device."""


@in_place
def fits(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int) -> bool:
    """Whether node n has the CPU, the memory and, on devices of a model that the kind accepts, the thousandths that kind k asks for.

    A pod that asks for part of a device needs them on one; one that asks for whole devices needs so many empty ones.
    """
    if kinds.cpu[k] > nodes.cpu[n] or kinds.memory[k] > nodes.memory[n]:
        return False
    if kinds.devices[k] == 0:
        return True
    if (kinds.accepted[k] >> nodes.model[n]) & 1 == 0:
        return False
    enough = 0
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] >= kinds.thousandths[k]:
            enough += 1
    return bool(enough >= kinds.devices[k])


@in_place
def is_part(kinds: KindColumns, k: int) -> bool:
    """Whether kind k asks for part of one device."""
    return bool(kinds.devices[k] == 1 and kinds.thousandths[k] < THOUSANDTHS)


@in_place
def tightest_device(free: Ints, devices: int, thousandths: int) -> int:
    """The device with the least free of those that have enough, the first of equal ones; `NOWHERE`: there is none."""
    best = NOWHERE
    for d in range(devices):
        if free[d] >= thousandths and (best == NOWHERE or free[d] < free[best]):
            best = d
    return best


@in_place
def take(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, device: int) -> int:
    """Place a pod of kind k on node n, where it fits; returns the bits of its devices.

    Part of a device comes from `device`; whole devices are the first empty ones.
    """
    nodes.cpu[n] -= kinds.cpu[k]
    nodes.memory[n] -= kinds.memory[k]
    wanted = kinds.devices[k]
    if wanted == 0:
        return 0
    nodes.tenants[n, affinity(kinds, k)] += 1
    if is_part(kinds, k):
        nodes.free[n, device] -= kinds.thousandths[k]
        return 1 << device
    taken = 0
    for d in range(nodes.devices[n]):
        if wanted > 0 and nodes.free[n, d] == THOUSANDTHS:
            nodes.free[n, d] = 0
            taken |= 1 << d
            wanted -= 1
    return taken


@in_place
def affinity(kinds: KindColumns, k: int) -> int:
    """The row of `DeviceColumns.tenants` that pods of kind k count in: 0 for part of a device, else the number of devices."""
    return 0 if is_part(kinds, k) else kinds.devices[k]


@in_place
def without(free: Ints, devices: int, kinds: KindColumns, k: int, device: int, left: Ints) -> None:
    """Write to `left` what is free of each device once a pod of kind k is there; `free` stays as it is."""
    wanted = kinds.devices[k]
    part = is_part(kinds, k)
    for d in range(MOST_DEVICES):
        left[d] = free[d]
        if d >= devices or wanted == 0:
            continue
        if part:
            if d == device:
                left[d] -= kinds.thousandths[k]
        elif wanted > 0 and left[d] == THOUSANDTHS:
            left[d] = 0
            wanted -= 1
