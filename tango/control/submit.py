"""Submit: map a trace on a fleet, check that this stack can run it, store the run, then ask a replayer to begin.

The store comes first and the message second: a run without a message is announced by the reconciler, but a message without its run would
be lost work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.runs import NewRequests, NewRun
from tango.domain.services import ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.domain.trace import Trace
from tango.errors import BrokerUnavailable, UsageError
from tango.ports.fleet import FleetStore
from tango.ports.messages import Publisher
from tango.ports.runs import RunStore
from tango.systems import system
from tango.traces.mapping import map_trace, speed_warning


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What is asked for: a trace, and what it shall run under."""

    trace: Trace
    fleet: Fleet
    """The trace is mapped on its clusters and services."""
    system: str
    name: str = ""
    """Empty: the trace's source."""
    seed: int = 0
    speed: float = 1.0
    reassure: bool = True
    tenant: str = DEFAULT_TENANT
    """Whose the requests are that name none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedRun:
    """A run that may be stored."""

    run: NewRun
    requests: NewRequests
    warning: str
    """What the user should know of its speed; empty where there is nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A run that was stored, and whether the replayer was told."""

    run_id: int
    announced: bool
    """False: the broker was unreachable; the reconciler announces the run later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The door through which runs come in."""

    runs: RunStore
    fleet: FleetStore
    cluster_names: Callable[[], Sequence[str]]
    """Clusters that joined this stack."""
    publisher: Publisher

    def prepare(self, order: RunOrder) -> PreparedRun:
        """Map the trace and check the run. Raises: UsageError for a system, cluster or service that does not exist here."""
        system(order.system)
        requests = map_trace(order.trace, order.fleet, seed=order.seed, speed=order.speed, tenant=order.tenant)
        self._require_known(requests)
        run = NewRun(
            name=order.name or order.trace.source,
            system=order.system,
            fleet=order.fleet.name,
            fleet_hash=order.fleet.source_hash,
            seed=order.seed,
            speed=order.speed,
            reassure=order.reassure,
            trace_source=order.trace.source,
            span_s=float(requests.due_s[-1]) * order.speed,
            # Where all requests are one tenant's, the run says so and none of its rows.
            tenant=requests.tenants[0] if requests.tenant is None else order.tenant,
        )
        return PreparedRun(run=run, requests=requests, warning=speed_warning(requests) or "")

    def submit(self, prepared: PreparedRun) -> Submitted:
        """Store the run in one transaction and publish its replay.

        Raises: StoreUnavailable, RequestRejected. A broker that is away costs nothing but time: the run is stored.
        """
        run_id = self.runs.create_run(prepared.run, prepared.requests)
        try:
            self.publisher.replay(run_id)
        except BrokerUnavailable:
            return Submitted(run_id=run_id, announced=False)
        return Submitted(run_id=run_id, announced=True)

    def _require_known(self, requests: NewRequests) -> None:
        declared = {s.name: s for s in self.fleet.services()}
        for kind, wanted, index, known in (
            ("cluster", requests.clusters, requests.cluster, set(self.cluster_names())),
            ("service", requests.services, requests.service, set(declared)),
        ):
            unknown = sorted({wanted[k] for k in np.unique(index)} - known)
            if unknown:
                raise UsageError(
                    f"this stack has no {kind} {', '.join(unknown)}{near_name(unknown, known)}; it has: {', '.join(sorted(known))}. "
                    "Start the fleet that the run is for with `tango up --fleet`, or leave --fleet away."
                )
        used = (declared[requests.services[k]] for k in np.unique(requests.service))
        if real := sorted(s.name for s in used if s.service_class is ServiceClass.LC and not s.is_synthetic):
            raise UsageError(
                f"service {', '.join(real)} answers requests of its own kind, and a trace has none: name services of the synthetic "
                "workload in the trace, or send requests through a gateway (`tango request`)"
            )
