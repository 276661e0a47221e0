"""A fleet as the centre publishes it to a journal: that of `tests.fakes.store_world`, all nodes ready, nothing in flight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.observations import InstanceState
from tango.domain.shares import PublishedFleet
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, InFlightColumns, LcColumns, NodeColumns, Tails, assemble
from tests.fakes.store_world import CHAT, FLEET, WEB, instance_of, node_states


def published(fleet: Fleet = FLEET) -> PublishedFleet:
    """Every node ready, with an instance of WEB and one of CHAT."""
    instances = tuple(
        (cluster.name, replace(instance_of(service, node.name), pod_ip=f"10.0.{k}.1"))
        for k, cluster in enumerate(fleet.clusters)
        for service in (WEB, CHAT)
        for node in cluster.nodes
    )
    return PublishedFleet(snapshot=empty_snapshot(fleet, instances), instances=instances)


def empty_snapshot(fleet: Fleet, instances: tuple[tuple[str, InstanceState], ...]) -> FleetSnapshot:
    """The fleet without a request."""
    services = tuple(sorted(fleet.services, key=lambda s: s.name))
    rows = FleetRows(
        clusters=tuple(c.name for c in fleet.clusters),
        nodes=tuple(n.name for c in fleet.clusters for n in c.nodes),
        services=services,
        node_cluster=np.array([k for k, c in enumerate(fleet.clusters) for _ in c.nodes], np.int32),
        rtt_ms=fleet.rtt_ms(),
        bandwidth_mbit_per_s=fleet.bandwidth_mbit_per_s(),
    )
    states = [state for cluster in fleet.clusters for state in node_states(cluster)]
    ready = [(i.service, cluster, i.node, float(i.cpu_limit_millicores), 1.0) for cluster, i in instances if i.ready]
    return assemble(
        rows,
        at_s=0.0,
        nodes=NodeColumns.of_states(rows, states),
        lc=LcColumns.of_instances(rows, ready, InFlightColumns.nothing(rows)),
        be=BeColumns.of_states(rows.resources, states),
        tails=Tails.unmeasured(rows),
        pending_be=np.zeros(len(rows.clusters)),
    )
