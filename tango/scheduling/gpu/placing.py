"""Pods that arrive one by one, each placed where a policy scores highest, or refused for good where it fits nowhere."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import compiled, in_place
from tango.domain.gpus import MOST_DEVICES, GpuNodes, GpuPods, Ints
from tango.scheduling.gpu.columns import DeviceColumns, KindColumns, TypicalPods, device_columns, kind_columns, typical_pods
from tango.scheduling.gpu.filling import FillingKinds, filling_kinds, filling_score, update_unusable
from tango.scheduling.gpu.fitting import NOWHERE, fits, is_part, take, tightest_device
from tango.scheduling.gpu.fragmentation import descent_score, update_fragmentation
from tango.scheduling.gpu.published_scores import best_fit_score, clustering_score, dot_product_score, packing_score


class GpuPolicy(IntEnum):
    """Who chooses the node and the device."""

    RANDOM = 0
    DOT_PRODUCT = 1
    CLUSTERING = 2
    PACKING = 3
    BEST_FIT = 4
    FGD = 5
    FILLING = 6
    """Tango's own."""


_RANDOM, _DOT_PRODUCT, _CLUSTERING, _PACKING, _BEST_FIT, _FGD, _FILLING = (int(policy) for policy in GpuPolicy)
_UNFIT = -1.0
"""Below every score: the pod does not fit on the node."""


class Wanted(NamedTuple):
    """What a policy knows of the pods to come: the list that they are drawn from."""

    typical: TypicalPods
    filling: FillingKinds


def place_pods(
    policy: GpuPolicy, nodes: GpuNodes, pods: GpuPods, arrivals: Ints, chance: np.random.Generator | None = None
) -> tuple[Ints, Ints]:
    """(node, devices) of each of the p pods that arrive, shapes (p,): a row of `nodes`, or -1 where it was refused; bits of its devices.

    `arrivals` are rows of `pods`. The fleet is empty at the beginning and nothing ends. Of nodes that score alike the first is taken.
    `chance` draws where `RANDOM` places; no other policy takes anything from it.
    """
    draws = (chance or np.random.default_rng(0)).random((len(arrivals), 2))
    wanted = Wanted(typical_pods(pods, nodes), filling_kinds(pods, nodes))
    placed: tuple[Ints, Ints] = _place_all(
        int(policy), device_columns(nodes), kind_columns(pods.kinds, nodes), wanted, pods.kind[arrivals], draws
    )
    return placed


@compiled
def _place_all(
    policy: int, nodes: DeviceColumns, kinds: KindColumns, wanted: Wanted, arriving: Ints, draws: NDArray[np.float64]
) -> tuple[Ints, Ints]:
    """Scores stand in a table by kind and node. A placement changes one node, so of a kind's row only the nodes are scored anew that got
    a pod since the kind came last: a hundredth of all.
    """
    n_nodes, n_kinds, n_pods = len(nodes.cpu), len(kinds.cpu), len(arriving)
    score = np.full((n_kinds, n_nodes), _UNFIT)
    scored_at = np.full(n_kinds, NOWHERE, np.int64)
    changed = np.empty(n_pods, np.int64)  # node that the i-th placement went to
    latest = np.full(n_nodes, NOWHERE, np.int64)
    placements = 0
    left = np.empty(MOST_DEVICES, np.int64)
    node, devices = np.full(n_pods, NOWHERE, np.int64), np.zeros(n_pods, np.int64)
    for n in range(n_nodes):
        _update(policy, nodes, n, wanted)
    for p in range(n_pods):
        k = arriving[p]
        if scored_at[k] == NOWHERE:
            for n in range(n_nodes):
                score[k, n] = _score(policy, nodes, n, kinds, k, wanted, left)
        else:
            for i in range(scored_at[k], placements):
                if latest[changed[i]] == i:
                    score[k, changed[i]] = _score(policy, nodes, changed[i], kinds, k, wanted, left)
        scored_at[k] = placements
        chosen = _any_of(score[k], draws[p, 0]) if policy == _RANDOM else _best_of(score[k])
        if chosen == NOWHERE:
            continue
        node[p] = chosen
        devices[p] = take(nodes, chosen, kinds, k, _device(policy, nodes, chosen, kinds, k, wanted, left, draws[p, 1]))
        _update(policy, nodes, chosen, wanted)
        changed[placements] = chosen
        latest[chosen] = placements
        placements += 1
    return node, devices


@in_place
def _update(policy: int, nodes: DeviceColumns, n: int, wanted: Wanted) -> None:
    if policy == _FGD:
        update_fragmentation(nodes, n, wanted.typical)
    elif policy == _FILLING:
        update_unusable(nodes, n, wanted.filling)


@in_place
def _score(policy: int, nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, wanted: Wanted, left: Ints) -> float:
    if not fits(nodes, n, kinds, k):
        return _UNFIT
    if policy == _FGD:
        return descent_score(nodes, n, kinds, k, wanted.typical, left)[0]
    if policy == _FILLING:
        return filling_score(nodes, n, kinds, k, wanted.filling, left)[0]
    if policy == _BEST_FIT:
        return float(best_fit_score(nodes, n, kinds, k))
    if policy == _PACKING:
        return float(packing_score(nodes, n, kinds, k))
    if policy == _CLUSTERING:
        return float(clustering_score(nodes, n, kinds, k))
    if policy == _DOT_PRODUCT:
        return float(dot_product_score(nodes, n, kinds, k))
    return 0.0


@in_place
def _device(policy: int, nodes: DeviceColumns, n: int, kinds: KindColumns, k: int, wanted: Wanted, left: Ints, draw: float) -> int:
    """The device for a pod that asks for part of one; whole ones are not chosen."""
    if not is_part(kinds, k):
        return NOWHERE
    if policy == _FGD:
        return descent_score(nodes, n, kinds, k, wanted.typical, left)[1]
    if policy == _FILLING:
        return filling_score(nodes, n, kinds, k, wanted.filling, left)[1]
    if policy == _RANDOM:
        return _any_device(nodes, n, kinds.thousandths[k], draw)
    return tightest_device(nodes.free[n], nodes.devices[n], kinds.thousandths[k])


@in_place
def _best_of(score: NDArray[np.float64]) -> int:
    best, found = _UNFIT, NOWHERE
    for n in range(len(score)):
        if score[n] > best:
            best, found = score[n], n
    return found


@in_place
def _any_of(score: NDArray[np.float64], draw: float) -> int:
    """A node that fits, each as likely."""
    fitting = 0
    for n in range(len(score)):
        if score[n] > _UNFIT:
            fitting += 1
    wanted = int(draw * fitting)
    for n in range(len(score)):
        if score[n] > _UNFIT:
            if wanted == 0:
                return n
            wanted -= 1
    return NOWHERE


@in_place
def _any_device(nodes: DeviceColumns, n: int, thousandths: int, draw: float) -> int:
    enough = 0
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] >= thousandths:
            enough += 1
    wanted = int(draw * enough)
    for d in range(nodes.devices[n]):
        if nodes.free[n, d] >= thousandths:
            if wanted == 0:
                return d
            wanted -= 1
    return NOWHERE
