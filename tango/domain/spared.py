"""Why each BE pod that stayed on a node was spared when another one was evicted there, for whoever asks later."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from tango.domain.identity import NodeKey, PodKey
from tango.domain.plans import Eviction, Spared

MOST_TOLD = 20
"""Pods that are told of one eviction; a node has rarely more BE pods, and each costs some 150 bytes a row."""


def with_spared(
    evictions: Sequence[Eviction],
    evictable: Mapping[NodeKey, Sequence[Eviction]],
    never: Mapping[NodeKey, Sequence[tuple[str, str]]],
    *,
    leaving: Collection[PodKey],
) -> list[Eviction]:
    """The evictions of one decision, each with the BE pods that stayed beside it, the nearest to going first.

    `evictable` are all pods of these nodes that might have gone, least work lost first, as they were gone through; `never` (pod, service)
    of those that never go; `leaving` pods that were evicted before and have not ended.
    """
    going = {e.pod_key for e in evictions}
    by_node = {
        node: tuple(_spared(evictable.get(node, ()), never.get(node, ()), going, leaving))[:MOST_TOLD]
        for node in {NodeKey(e.cluster, e.node) for e in evictions}
    }
    return [replace(e, spared=by_node[NodeKey(e.cluster, e.node)]) for e in evictions]


def _spared(
    evictable: Sequence[Eviction], never: Sequence[tuple[str, str]], going: Collection[PodKey], leaving: Collection[PodKey]
) -> list[Spared]:
    last = max((place for place, e in enumerate(evictable) if e.pod_key in going), default=-1)
    found = list[Spared]()
    for place, e in enumerate(evictable):
        if e.pod_key in going:
            continue
        if e.pod_key in leaving:
            why = "it is leaving already, as its room is counted"
        elif place < last:
            why = "it holds nothing of what was short"
        else:
            why = "those that went were enough, and lose no more than it would"
        found.append(Spared(e.pod, e.service, e.work_lost_s, why))
    return [*found, *(Spared(pod, service, 0.0, "pods of its service are never evicted") for pod, service in never)]
