"""Room for LC instances that are to be made: BE gives way on nodes where they do not fit because of it.

    agent: an instance is missing, and only BE is in its way ─► node.lc_awaited ─┬─► snapshot: that room is LC's, BE gets none of it
                                                                                 └─► here: BE pods are evicted until it is free
    agent: the room is there ─► creates the instance

The agent makes no instance before its kubelet would take it, so nothing is refused again and again; the centre alone evicts, since it
knows what each BE pod has done and whose it is. This is no matter of slack or of a sharing rule: an instance that is not there answers
nobody, so BE gives way to it under every system. In a simulation instances stand from the beginning and nothing of this happens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import structlog
from numpy.typing import NDArray

from tango.control.be_evictions import BeEvictions
from tango.domain.backoff import Backoff
from tango.domain.identity import NodeKey
from tango.domain.observations import AwaitedInstances
from tango.domain.plans import Eviction
from tango.domain.resource_axis import MEMORY, lacks
from tango.domain.snapshot import FleetSnapshot
from tango.ports.fleet import FleetStore

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 30.0
"""Longest pause, in seconds, of a node whose BE pods did not go, as by a PodDisruptionBudget, before they are asked again; the agent's
longest between two tries to make an instance."""


class HeadroomForInstances:
    """The rounds of one scheduler process."""

    def __init__(self, *, fleet: FleetStore, evictions: BeEvictions) -> None:
        self._fleet = fleet
        self._evictions = evictions
        self._paused = Backoff(longest_s=LONGEST_PAUSE_S)
        """By node, when it may be asked again for pods that did not go."""

    def round(self, *, now_s: float) -> int:
        """Evict what has to go for the instances that agents wait for; gives how many pods were asked to.

        A process that dies meanwhile loses nothing: the next one reads the same instances as awaited, and the pods that are left.
        """
        # 1. Gather.
        awaited = defaultdict[NodeKey, list[AwaitedInstances]](list)
        for one in self._fleet.awaited():
            node = NodeKey(one.cluster, one.node)
            if self._paused.is_open(str(node), now_s):
                awaited[node].append(one)
        if not awaited:
            return 0
        snapshot = self._fleet.snapshot(at_s=now_s)
        evictable = self._fleet.evictable_be(list(awaited))
        staying = self._evictions.staying(evictable)
        # 2. Decide.
        size_of = requests_of(snapshot)
        wanted = list[Eviction]()
        for row, node in enumerate(snapshot.node_keys):
            if node not in awaited:
                continue
            stay = staying.get(node, [])
            leaving = [e for e in evictable.get(node, []) if e not in stay]
            free = snapshot.free[:, row] + sum((size_of(e) for e in leaving), np.zeros(len(snapshot.resources)))
            wanted += make_headroom(awaited[node], free, stay, snapshot, size_of)
        # 3. Apply. What is free then is the instances' already: the snapshot counts them as if they stood there.
        if not wanted:
            return 0
        gone = self._evictions.evict(wanted, evictable)
        for node in {NodeKey(e.cluster, e.node) for e in wanted}:
            if all(e.pod_key in gone for e in wanted if NodeKey(e.cluster, e.node) == node):
                self._paused.went_well(str(node))
            else:
                self._paused.failed(str(node), now_s)
        log.info("headroom_made", evictions=len(wanted), gone=len(gone), nodes=len({(e.cluster, e.node) for e in wanted}))
        return len(wanted)


def make_headroom(
    awaited: Sequence[AwaitedInstances],
    free: NDArray[np.float64],
    staying: Sequence[Eviction],
    snapshot: FleetSnapshot,
    size_of: Callable[[Eviction], NDArray[np.float64]],
) -> list[Eviction]:
    """Which of a node's BE pods go for these instances, the one with least work lost first, each with for whom it goes.

    `free`: (r,) what is free there with all these instances counted in, so negative where they do not fit. For an instance that would not
    fit even if all of `staying` went nobody goes; a pod that holds nothing of what is short stays.
    """
    services = {service.name: row for row, service in enumerate(snapshot.services)}
    sizes = snapshot.resources.pod_requests(snapshot.services)
    asked = [(one.service, sizes[:, services[one.service]]) for one in awaited for _ in range(one.count) if one.service in services]
    headroom = free + sum((size for _, size in asked), np.zeros(len(free)))
    left, gone = list(staying), list[Eviction]()
    for service, size in asked:
        going, freed = list[Eviction](), headroom.copy()
        for eviction in left:
            short = lacks(size, freed)
            if not short.any():
                break
            given = size_of(eviction)
            if (given[short] > 0).any():
                freed += given
                going.append(replace(eviction, why=f"room for an instance of {service}"))
        if lacks(size, freed).any():
            continue
        headroom = freed - size
        gone += going
        pods = {e.pod_key for e in going}
        left = [e for e in left if e.pod_key not in pods]
    return gone


def requests_of(snapshot: FleetSnapshot) -> Callable[[Eviction], NDArray[np.float64]]:
    """What a pod requests, (r,): the size of its service, with the memory of its request."""
    services = {service.name: row for row, service in enumerate(snapshot.services)}
    sizes = snapshot.resources.pod_requests(snapshot.services)

    def of(eviction: Eviction) -> NDArray[np.float64]:
        row = services.get(eviction.service)
        found: NDArray[np.float64] = np.zeros(len(snapshot.resources)) if row is None else sizes[:, row].copy()
        found[MEMORY] = eviction.memory_mib
        return found

    return of
