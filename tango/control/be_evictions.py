"""BE pods that give way to LC: evicted, settled, and remembered while they leave. One object for all who evict, so that nobody evicts twice
for the same room."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from tango.domain.identity import NodeKey, PodKey
from tango.domain.lifecycle import Outcome, after_disruption
from tango.domain.plans import Eviction
from tango.domain.requests import Reason
from tango.domain.spared import with_spared
from tango.ports.clusters import ClusterCalls
from tango.ports.events import EventLog
from tango.ports.fleet import FleetStore
from tango.ports.requests import BeRequests


class BeEvictions:
    """The evictions of one scheduler process."""

    def __init__(self, *, fleet: FleetStore, events: EventLog, requests: BeRequests, clusters: ClusterCalls) -> None:
        self._fleet = fleet
        self._events = events
        self._requests = requests
        self._clusters = clusters
        self._leaving: dict[PodKey, NodeKey] = {}
        """Pods that were evicted with a grace and have not ended yet, with their nodes."""
        self._lock = threading.Lock()
        """Of what leaves: rounds that make room for LC and placements that make room for tenants are in threads of their own."""

    def staying(self, evictable: Mapping[NodeKey, Sequence[Eviction]]) -> dict[NodeKey, list[Eviction]]:
        """Those that are not leaving already. What is leaving counts as free: a second eviction for the same room would throw work away for
        nothing. `evictable`: all BE pods of these nodes; those of them that have left are forgotten."""
        there = {e.pod_key for of_node in evictable.values() for e in of_node}
        with self._lock:
            self._leaving = {pod: node for pod, node in self._leaving.items() if pod in there or node not in evictable}
            leaving = set(self._leaving)
        return {node: [e for e in of_node if e.pod_key not in leaving] for node, of_node in evictable.items()}

    def evict(self, evictions: Sequence[Eviction], evictable: Mapping[NodeKey, Sequence[Eviction]]) -> set[PodKey]:
        """Evict through the API, budgets included, and record the outcomes, each with who stayed beside it of `evictable`, as the store
        gave them; gives the pods that go.

        Only the request of a pod that goes is placed anew: one that stays still runs it, and a second pod would run it twice. A pod that
        has its grace runs its request for as long: its agent settles it when it has ended.
        """
        never = self._fleet.never_evicted_be({NodeKey(e.cluster, e.node) for e in evictions})
        with self._lock:
            leaving = dict(self._leaving)
        evictions = with_spared(evictions, evictable, never, leaving=leaving)
        records = self._clusters.evict(evictions)
        self._events.scaling(records)
        gone = {PodKey(record.cluster, record.pod) for record in records if record.outcome == "done"}
        with self._lock:
            self._leaving |= {e.pod_key: NodeKey(e.cluster, e.node) for e in evictions if e.has_grace and e.pod_key in gone}
        self._requests.settle(
            [
                Outcome(
                    run_id=e.run_id,
                    request_id=e.request_id,
                    epoch=e.epoch,
                    event=after_disruption(e.epoch),
                    reason=Reason.EVICTED,
                    work_lost_s=e.work_lost_s,
                )
                for e in evictions
                if e.pod_key in gone and not e.has_grace
            ]
        )
        return gone
