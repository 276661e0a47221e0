"""What policies written in Python see of the simulated world: the same snapshots and columns as live."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.lifecycle import TERMINAL
from tango.domain.outcomes import STATE_CODE
from tango.domain.patience import WAITS_LONG_TARGETS
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import MEMORY
from tango.domain.shares import LcWait
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
from tango.sim.codes import LC
from tango.sim.simulation_state import SimulationState

HAS_ENDED = np.isin(np.arange(len(STATE_CODE)), [STATE_CODE[state] for state in TERMINAL])
"""By code, whether a request in this state has ended."""


class Views:
    """Snapshots of one world; what never changes is made once."""

    def __init__(self, world: SimulationState) -> None:
        fleet = world.fleet
        self._world = world
        self._rows = FleetRows(
            clusters=tuple(c.name for c in fleet.clusters),
            nodes=world.node_names,
            services=fleet.services,
            node_cluster=world.node_cluster.copy(),
            rtt_ms=fleet.rtt_ms(),
            bandwidth_mbit_per_s=fleet.bandwidth_mbit_per_s(),
        )
        self._first_live = 0
        """All requests before it have ended."""
        concurrency = np.array([float(s.concurrency) for s in fleet.services])[:, None]
        self._instances = world.engine.belief.places / np.maximum(1.0, concurrency)

    def centre(self) -> FleetSnapshot:
        """What the centre knows: its own books, and the state that was last published."""
        e = self._world.engine
        return self._snapshot(e.published.in_flight.copy(), e.published.limit * 1e3, e.sites["ready"] == 1)

    def dispatcher(self) -> FleetSnapshot:
        """What the cluster knows whose belief is in force: that a node of another is gone, only once it was published."""
        b = self._world.engine.belief
        return self._snapshot(b.in_flight.copy(), b.limit_cores * 1e3, np.asarray((b.limit_cores > 0).any(axis=0)))

    def _snapshot(self, in_flight: NDArray[np.float64], limit: NDArray[np.float64], ready: NDArray[np.bool_]) -> FleetSnapshot:
        e, rows = self._world.engine, self._rows
        sites, holdings, tails = e.sites, e.holdings, e.tails
        waiting = e.lists.pending[: int(e.clock["pending"][0])]
        by_service_and_node = in_flight.shape
        return assemble(
            rows,
            at_s=self._world.now_s,
            nodes=NodeColumns(
                ready=ready,
                allocatable=holdings.allocatable.copy(),
                lc_requests=holdings.lc.copy(),
                lc_cpu_limit=sites["lc_limit"].copy(),
                cpu_used=sites["used"],
                memory_used=holdings.lc[MEMORY] + holdings.running[MEMORY],
            ),
            lc=LcColumns(
                instance_limit=limit,
                instance_count=np.where(limit > 0, self._instances, 0.0),
                in_flight=InFlightColumns.of(rows.services, in_flight, in_flight),  # each at scale 1: a simulation is in trace time
            ),
            be=BeColumns(requests=holdings.placed.copy(), cpu_limit=sites["placed_limit"].copy()),
            tails=Tails(
                latency_ms=tails.tail_ms.reshape(by_service_and_node),
                samples=tails.samples.reshape(by_service_and_node),
                min_samples=e.sharing.tuning.min_samples,
            ),
            pending_be=np.bincount(e.arrivals.entry[waiting], minlength=len(rows.clusters)).astype(np.float64),
        )

    def lc_waits(self) -> dict[str, LcWait]:
        """By cluster, how much the LC waits that entered there, as `journal.lc_wait` counts it live: late is what its plan expected beyond
        its target, or what has waited for its dispatch for long."""
        e, end = self._world.engine, int(self._world.engine.clock["cursor"][0])
        states = e.progress["state"]
        while self._first_live < end and HAS_ENDED[states[self._first_live]]:
            self._first_live += 1
        rows = np.arange(self._first_live, end)
        rows = rows[(e.arrivals.service_class[rows] == LC) & ~HAS_ENDED[states[rows]]]
        waited_s = self._world.now_s - e.arrivals.due_s[rows]
        sent = e.progress["node"][rows] >= 0
        late = np.where(sent, e.choices.late[rows], waited_s > WAITS_LONG_TARGETS * e.arrivals.target_s[rows])
        clusters = len(self._rows.clusters)
        under_way = np.bincount(e.arrivals.entry[rows], minlength=clusters)
        late_ones = np.bincount(e.arrivals.entry[rows][late], minlength=clusters)
        return {name: LcWait(int(under_way[c]), int(late_ones[c])) for c, name in enumerate(self._rows.clusters)}

    def pending(self, rows: NDArray[np.int64]) -> BePending:
        """The columns of pending requests."""
        e = self._world.engine
        return pending_columns(
            self._rows.services,
            run_id=np.zeros(len(rows), np.int64),
            request_id=rows.copy(),
            service=e.arrivals.service[rows],
            entry_cluster=e.arrivals.entry[rows],
            waited_s=self._world.now_s - e.arrivals.due_s[rows],
            cpu_work_s=e.arrivals.work_s[rows],
            memory_mib=e.arrivals.memory_mib[rows],
            epoch=e.progress["attempts"][rows],
        )

    def asked(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """(r, k) what the pods of BE requests ask for, as `pending` has it."""
        e = self._world.engine
        found: NDArray[np.float64] = e.be.requests.take(e.arrivals.service[rows], axis=1)
        found[MEMORY] = e.arrivals.memory_mib[rows]
        return found

    def arrivals(self, rows: NDArray[np.int64]) -> LcArrivals:
        """The columns of LC requests that wait for dispatch."""
        e = self._world.engine
        return LcArrivals(
            request_id=rows.copy(),
            service=e.arrivals.service[rows],
            entry_cluster=e.arrivals.entry[rows],
            due_s=e.arrivals.due_s[rows],
            target_s=e.arrivals.target_s[rows],
            cpu_work_s=e.arrivals.work_s[rows],
            memory_mib=e.arrivals.memory_mib[rows],
            epoch=e.progress["attempts"][rows],
        )
