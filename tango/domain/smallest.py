"""The smallest world: one cluster, one node, one LC service, one request of each class. Compiled code is called on it once before a
process says that it is ready, so that the first real request does not wait for a compiler."""

from __future__ import annotations

import numpy as np

from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import ResourceAxis
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import BeColumns, FleetRows, InFlightColumns, LcColumns, NodeColumns, Tails, assemble

_ID, _INDEX, _ONE, _NOTHING = np.zeros(1, np.int64), np.zeros(1, np.int32), np.ones(1), np.zeros(1)


def smallest_snapshot() -> FleetSnapshot:
    """An idle node of one core and 1 GiB with one LC instance."""
    service = Service(
        name="s",
        service_class=ServiceClass.LC,
        cpu_work_s=0.01,
        memory_mib=1,
        target_ms=100.0,
        instance_memory_mib=8,
    )
    rows = FleetRows(
        clusters=("c",),
        nodes=("n",),
        services=(service,),
        node_cluster=_INDEX,
        rtt_ms=np.full((1, 1), 0.2),
        bandwidth_mbit_per_s=np.full((1, 1), np.inf),
    )
    return assemble(
        rows,
        at_s=0.0,
        nodes=NodeColumns(
            ready=np.ones(1, np.bool_),
            allocatable=rows.resources.columns([[1e3, 1024, 110]]),
            lc_requests=rows.resources.columns([[100, 8, 1]]),
            lc_cpu_limit=500 * _ONE,
            cpu_used=_NOTHING,
            memory_used=_NOTHING,
        ),
        lc=LcColumns(
            instance_limit=np.full((1, 1), 500.0), instance_count=np.ones((1, 1)), in_flight=InFlightColumns.nothing(rows)
        ),
        be=BeColumns.of_pods(rows, np.zeros((1, 1)), _NOTHING),
        tails=Tails.unmeasured(rows),
        pending_be=_ONE,
    )


def smallest_arrivals() -> LcArrivals:
    """One LC request."""
    return LcArrivals(
        request_id=_ID,
        service=_INDEX,
        entry_cluster=_INDEX,
        due_s=_NOTHING,
        target_s=0.1 * _ONE,
        cpu_work_s=0.01 * _ONE,
        memory_mib=_ONE,
        epoch=_INDEX,
    )


def smallest_pending() -> BePending:
    """One BE request."""
    return BePending(
        run_id=_ID,
        request_id=_ID,
        service=_INDEX,
        entry_cluster=_INDEX,
        waited_s=_NOTHING,
        cpu_work_s=_ONE,
        requests=ResourceAxis().columns([[100, 1, 1]]),
        cpu_limit_millicores=200 * _ONE,
        epoch=_INDEX,
    )
