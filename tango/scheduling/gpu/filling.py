"""Placement by what a node can still be filled with: Tango's own, made from the descent of the fragmentation study.

FGD asks what the *next* pod could not use. A node with four free devices and CPU for one more pod looks whole to it, and a device with
190 thousandths left looks as good as one with 160 where the next pod is rarely that small. Here a node is asked, for each kind of pods,
how much of its free GPU would remain if pods of that kind came until none fits any more: CPU, memory and each device's thousandths bound
their number. Three departures from FGD:

- the measure is a mix of both questions, over kinds with devices only, and memory counts;
- kinds weigh by (how many pods)^0.4 (thousandths of each device)^-1.2 in place of their share: small pods ask for much CPU for little
  GPU, so free GPU that they can use is seldom lost to anybody;
- GPU of a model that is asked for by name has a price: what is asked for by name, over what the fleet has of the model.

Steps of a tenth of a device are ties, as FGD's are of some 40 thousandths; the first node is taken then, so that others stay empty. The
constants were found on seven workloads of the study and seeds that its table has not (docs/fgd.md says which, and what came of it on the
others).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.domain.gpus import GpuNodes, GpuPods, Ints
from tango.domain.resource_axis import THOUSANDTHS
from tango.scheduling.gpu.columns import DeviceColumns, KindColumns
from tango.scheduling.gpu.fitting import NOWHERE, is_part, without

_FILLED = 0.4
"""Weight of what filling leaves; the rest is that of what the next pod cannot use."""
_COUNT_POWER, _SIZE_POWER = 0.4, -1.2
"""How a kind's number of pods and the thousandths that one asks for of each device make its weight. Not of all its devices together: pods
of eight would weigh next to nothing, and find no empty node where many ask for so many."""
_COVERED = 0.95
"""Of all weight, by the kinds that weigh most; the others are left out."""
_PRICE = 0.4
"""Devices that one device costs of a model of which as much is asked for by name as there is."""
_STEP = 0.1
"""Devices below which a difference is none."""
_LEVEL = 1000.0
"""Score of a placement that changes nothing and costs nothing; a node has at most eight devices to lose, so no score is negative."""


class FillingKinds(NamedTuple):
    """Kinds of pods with devices that a node may be filled with, those that weigh most first; and what models cost."""

    cpu: Ints
    memory: Ints
    devices: Ints
    thousandths: Ints
    accepted: Ints
    weight: NDArray[np.float64]
    """Sums to 1."""
    price: NDArray[np.float64]
    """(models,) from 0 to 1, of the fleet's models."""


def filling_kinds(pods: GpuPods, nodes: GpuNodes) -> FillingKinds:
    """The kinds of this list with their weights, and the prices that it makes on these nodes."""
    kinds = pods.kinds
    count = np.bincount(pods.kind, minlength=len(kinds)).astype(np.float64)
    part = np.maximum(kinds.thousandths, 1) / THOUSANDTHS
    weight = np.where(kinds.size > 0, count**_COUNT_POWER * part**_SIZE_POWER, 0.0)
    heaviest = np.argsort(-weight, kind="stable")[: np.count_nonzero(weight)]
    covered = np.cumsum(weight[heaviest]) / max(weight.sum(), np.finfo(np.float64).tiny)
    kept = heaviest[: np.searchsorted(covered, _COVERED) + 1]
    return FillingKinds(
        cpu=kinds.cpu_millicores[kept],
        memory=kinds.memory_mib[kept],
        devices=kinds.devices[kept],
        thousandths=kinds.thousandths[kept],
        accepted=kinds.accepted(nodes)[kept],
        weight=weight[kept] / weight[kept].sum() if len(kept) else weight[kept],
        price=model_prices(pods, nodes),
    )


def model_prices(pods: GpuPods, nodes: GpuNodes) -> NDArray[np.float64]:
    """(models,) how much of each model is asked for by name when pods have asked for as much as the fleet has, over what it has; at most 1.

    What several models would do for is shared out among them as they have devices. Pods that accept any model ask for none by name.
    """
    kinds = pods.kinds
    has = np.bincount(nodes.model, weights=nodes.devices, minlength=len(nodes.models)) * float(THOUSANDTHS)
    asked = np.bincount(pods.kind, minlength=len(kinds)) * kinds.size.astype(np.float64)
    named = np.zeros(len(nodes.models))
    every = (1 << len(nodes.models)) - 1
    for k, accepted in enumerate(kinds.accepted(nodes).tolist()):
        models = [bit for bit in range(len(nodes.models)) if accepted >> bit & 1]
        if accepted != every and asked[k] and has[models].sum():
            named[models] += asked[k] * has[models] / has[models].sum()
    scale = has.sum() / max(asked.sum(), 1.0)
    price: NDArray[np.float64] = np.minimum(named * scale / np.maximum(has, 1.0), 1.0)
    return price


@in_place
def unusable(cpu: int, memory: int, free: Ints, devices: int, model: int, filling: FillingKinds) -> float:
    """Thousandths of a node's free GPU that pods of the kinds of `filling` leave, the mean by their weights.

    For each kind a mix: what one pod of it cannot use (all, where none fits; else what is free on devices too small for it), and what
    remains when so many come as fit.
    """
    total = 0
    for d in range(devices):
        total += free[d]
    if total == 0:
        return 0.0
    next_one = filled = 0.0
    for m in range(len(filling.weight)):
        weight = filling.weight[m]
        if (filling.accepted[m] >> model) & 1 == 0:
            continue  # that others cannot use a model is what its price says
        part = filling.thousandths[m]
        enough = too_small = fitting = 0
        for d in range(devices):
            if free[d] >= part:
                enough += 1
                fitting += free[d] // part
            else:
                too_small += free[d]
        if filling.devices[m] > 1:
            fitting = enough // filling.devices[m]
        if filling.cpu[m] > 0:
            fitting = min(fitting, cpu // filling.cpu[m])
        if filling.memory[m] > 0:
            fitting = min(fitting, memory // filling.memory[m])
        next_one += weight * (too_small if fitting > 0 else total)
        filled += weight * (total - fitting * filling.devices[m] * part)
    return (1.0 - _FILLED) * next_one + _FILLED * filled


@in_place
def update_unusable(nodes: DeviceColumns, n: int, filling: FillingKinds) -> None:
    """Note how much of node n's free GPU is unusable as it is."""
    nodes.fragments[n] = unusable(nodes.cpu[n], nodes.memory[n], nodes.free[n], nodes.devices[n], nodes.model[n], filling)


@in_place
def filling_score(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, filling: FillingKinds, left: Ints) -> tuple[float, int]:
    """(score, device) of the best way to place a pod of kind k on node n, where it fits: a whole number of steps, `_LEVEL` for no change.

    `fragments` of the node less those after the pod, in devices, less the price of what the pod takes. Of devices the best, by the
    difference itself; of equal ones the first.
    """
    if is_part(kinds, k):
        best, device = -math.inf, NOWHERE
        for d in range(nodes.devices[n]):
            if nodes.free[n, d] < kinds.thousandths[k] or (d > 0 and nodes.free[n, d] == nodes.free[n, d - 1]):
                continue
            gain = _gain_with(nodes, n, kinds, k, d, filling, left)
            if gain > best:
                best, device = gain, d
    else:
        best, device = _gain_with(nodes, n, kinds, k, NOWHERE, filling, left), NOWHERE
    cost = 0.0
    if kinds.devices[k] > 0:
        cost = _PRICE * filling.price[nodes.model[n]] * kinds.devices[k] * kinds.thousandths[k] / THOUSANDTHS
    return _LEVEL + math.floor((best - cost) / _STEP), device


@in_place
def _gain_with(nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, device: int, filling: FillingKinds, left: Ints) -> float:
    without(nodes.free[n], nodes.devices[n], kinds, k, device, left)
    cpu, memory = nodes.cpu[n] - kinds.cpu[k], nodes.memory[n] - kinds.memory[k]
    return float(nodes.fragments[n] - unusable(cpu, memory, left, nodes.devices[n], nodes.model[n], filling)) / THOUSANDTHS
