"""A fleet of two clusters with two nodes each, and BE requests that wait for it, put together by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tango.domain.explanation import Known, PendingFacts, RequestStanding
from tango.domain.identity import RequestKey
from tango.domain.placement_question import PlacementQuestion
from tango.domain.requests import BePending, RequestState
from tango.domain.resource_axis import CPU, MEMORY, PODS
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import (
    BeColumns,
    FleetRows,
    InFlightColumns,
    LcColumns,
    NodeColumns,
    Tails,
    assemble,
    pending_columns,
)
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings
from tango.systems.be_waits import planned

NODES = ("c1/n1", "c1/n2", "c2/n1", "c2/n2")
GPU = "example.com/gpu"
WEB = Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.02, memory_mib=32, target_ms=100.0, instance_memory_mib=128)
BATCH = Service(
    name="batch",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
)
DEVICES = Service(
    name="devices",
    service_class=ServiceClass.BE,
    cpu_work_s=5.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
    extended=((GPU, 1000),),
)
SERVICES = (WEB, BATCH, DEVICES)


def fleet(
    *,
    cpu: Sequence[float] = (4000, 4000, 4000, 4000),
    memory: Sequence[float] = (8192, 8192, 8192, 8192),
    pods: Sequence[float] = (110, 110, 110, 110),
    devices: Sequence[float] = (0, 0, 0, 0),
    held: Mapping[int, tuple[float, float, float]] | None = None,
    ready: Sequence[bool] = (True, True, True, True),
    barred: NDArray[np.bool_] | None = None,
    instances: Sequence[float] = (0, 0, 0, 0),
) -> FleetSnapshot:
    """Four nodes; `held` by the row of a node: millicores, MiB and pods of the BE that is there. `instances` of WEB by node."""
    rows = FleetRows(
        clusters=("c1", "c2"),
        nodes=("n1", "n2", "n1", "n2"),
        services=SERVICES,
        node_cluster=np.array([0, 0, 1, 1], np.int32),
        rtt_ms=np.full((2, 2), 2.0),
        bandwidth_mbit_per_s=np.full((2, 2), np.inf),
    )
    allocatable = np.array([cpu, memory, pods, devices], np.float64)
    of_be = np.zeros(allocatable.shape)
    for node, (millicores, mib, count) in (held or {}).items():
        of_be[CPU, node], of_be[MEMORY, node], of_be[PODS, node] = millicores, mib, count
    count = np.zeros((len(SERVICES), 4))
    count[0] = instances
    return assemble(
        rows,
        at_s=0.0,
        nodes=NodeColumns(
            ready=np.array(ready, np.bool_),
            allocatable=allocatable,
            lc_requests=np.zeros(allocatable.shape),
            lc_cpu_limit=np.zeros(4),
            cpu_used=np.zeros(4),
            memory_used=np.zeros(4),
            barred=barred,
        ),
        lc=LcColumns(instance_limit=count * 1000.0, instance_count=count, in_flight=InFlightColumns.nothing(rows)),
        be=BeColumns(requests=of_be, cpu_limit=of_be[CPU] * 2),
        tails=Tails.unmeasured(rows),
        pending_be=np.zeros(2),
    )


def waiting(*memory: float, service: Service = BATCH, waited_s: float = 1.0) -> BePending:
    """A request of `service` for each memory, numbered from 0, that entered at c1."""
    count = len(memory)
    return pending_columns(
        SERVICES,
        run_id=np.ones(count, np.int64),
        request_id=np.arange(count, dtype=np.int64),
        service=np.full(count, SERVICES.index(service), np.int32),
        entry_cluster=np.zeros(count, np.int32),
        waited_s=np.full(count, waited_s),
        cpu_work_s=np.full(count, 5.0),
        memory_mib=np.array(memory, np.float64),
        epoch=np.zeros(count, np.int32),
    )


def place(question: PlacementQuestion) -> NDArray[np.int32]:
    """What load-greedy decides, asked as the scheduler asks it."""
    settings = BeSettings()
    return planned(lambda pending, seen: place_load_greedy(pending, seen, settings), question).node


def known(question: PlacementQuestion, *, row: int = -1, home_only: bool = False) -> Known:
    """What is known of the request of a row of what is considered; by default of the last."""
    mine = question.pending.rows(np.array([row % len(question.pending)], np.intp))
    standing = RequestStanding(
        key=RequestKey(1, int(mine.request_id[0])),
        service_class=ServiceClass.BE,
        service=question.snapshot.services[int(mine.service[0])].name,
        state=RequestState.PENDING,
        entry_cluster="c1",
        due_s=0.0,
        now_s=1.0,
    )
    return Known(standing=standing, pending=PendingFacts(question=question, mine=mine, home_only=home_only))
