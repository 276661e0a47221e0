"""The arrays that compiled steps of GPU placement work on: nodes as they are filled, kinds of pods, and the pods that are typical."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.domain.gpus import MOST_DEVICES, GpuKinds, GpuNodes, GpuPods, Ints
from tango.domain.resource_axis import THOUSANDTHS

TYPICAL_SHARE = 0.95
"""Of a list's pods that the typical ones cover; kinds that are rarer are left out (the study's popularity threshold)."""
AFFINITIES = 1 + MOST_DEVICES
"""Kinds of tenants that clustering tells apart: part of a device (0), and as many whole devices as the row says."""


class DeviceColumns(NamedTuple):
    """Nodes, one row each, written to as pods are placed."""

    cpu: Ints
    """(n,) millicores that are free."""
    memory: Ints
    """(n,) MiB that are free."""
    free: Ints
    """(n, `MOST_DEVICES`) thousandths of each device that are free; 0 beyond the node's devices."""
    devices: Ints
    """(n,) devices that it has."""
    model: Ints
    """(n,) bit of their model."""
    tenants: Ints
    """(n, `AFFINITIES`) pods on it that share or have devices."""
    fragments: NDArray[np.float64]
    """(n,) fragmentation of the node as it is; kept by policies that price it."""


class KindColumns(NamedTuple):
    """Kinds of pods, one row each."""

    cpu: Ints
    memory: Ints
    devices: Ints
    thousandths: Ints
    """Of each device."""
    accepted: Ints
    """Bits of the models that it may run on."""


class TypicalPods(NamedTuple):
    """What the next pod probably asks for, the likeliest first: the target workload M of the paper."""

    cpu: Ints
    thousandths: Ints
    devices: Ints
    accepted: Ints
    share: NDArray[np.float64]
    """p_m: sums to 1."""


def device_columns(nodes: GpuNodes) -> DeviceColumns:
    """These nodes, empty."""
    whole = np.arange(MOST_DEVICES) < nodes.devices[:, None]
    n = len(nodes)
    return DeviceColumns(
        cpu=nodes.cpu_millicores.copy(),
        memory=nodes.memory_mib.copy(),
        free=np.where(whole, THOUSANDTHS, 0).astype(np.int64),
        devices=nodes.devices,
        model=nodes.model,
        tenants=np.zeros((n, AFFINITIES), np.int64),
        fragments=np.zeros(n),
    )


def kind_columns(kinds: GpuKinds, nodes: GpuNodes) -> KindColumns:
    """These kinds as the nodes' models tell them apart."""
    return KindColumns(kinds.cpu_millicores, kinds.memory_mib, kinds.devices, kinds.thousandths, kinds.accepted(nodes))


def typical_pods(pods: GpuPods, nodes: GpuNodes) -> TypicalPods:
    """The kinds of pods, memory apart, that are most frequent in this list and cover `TYPICAL_SHARE` of it; pods without devices count.

    Of kinds that are as frequent the one comes first that asks for more. Arithmetic and order are the study's, since a sum of floats that
    is added in another order differs in the last bit, and its scores are cut to whole numbers (`GetTypicalPods`,
    `SortTargetPodInDecreasingCount`).
    """
    kinds = pods.kinds
    count: dict[tuple[int, int, int, str], int] = {}
    columns = (kinds.cpu_millicores, kinds.thousandths, kinds.devices, np.bincount(pods.kind, minlength=len(kinds)))
    for (cpu, thousandths, devices, n), models in zip(np.stack(columns, axis=1).tolist(), kinds.models, strict=True):
        key = (cpu, thousandths, devices, models)
        count[key] = count.get(key, 0) + n
    ranked = sorted(((n, *key) for key, n in count.items()), reverse=True)
    total, covered, kept = float(len(pods)), 0.0, list[tuple[int, int, int, int, str]]()
    for row in ranked:
        if covered >= 100 * TYPICAL_SHARE * total / 100.0:
            break
        covered += row[0]
        kept.append(row)
    share = np.array([row[0] / total for row in kept])
    if len(kept) < len(ranked):
        share /= covered / total
    accepted = [nodes.accepting(row[4].split("|") if row[4] else ()) for row in kept]
    cpu, thousandths, devices = np.array([row[1:4] for row in kept], np.int64).reshape(-1, 3).T.copy()
    return TypicalPods(cpu, thousandths, devices, np.array(accepted, np.int64), share)
