"""The scheduler: it admits and places BE requests, re-assures LC services and reconciles.

No other process of the live system loads a network or calls all clusters.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tango.bootstrap.stores import Stores
from tango.control.admission import Admission
from tango.control.be_deciders import BeDeciders, Registry
from tango.control.be_evictions import BeEvictions
from tango.control.be_tracing import BeTracing
from tango.control.cancel_run import CancelSweep
from tango.control.candidates import Forgetting, WeighingRate
from tango.control.figures_apart import Computing, FiguresApart
from tango.control.fleet_view import FleetView
from tango.control.jobs import Jobs
from tango.control.lease_holder import LeaseHolder
from tango.control.make_headroom import HeadroomForInstances
from tango.control.place_be import BePlacement
from tango.control.pressed_nodes import PressedNodes
from tango.control.prune_runs import Retention
from tango.control.reassure import Reassurance, ReassuranceRounds
from tango.control.reconcile import Reconciliation
from tango.control.repeating import Repeating
from tango.control.reserved_cpu import ReservedCpu
from tango.control.run_policies import BePolicies
from tango.control.tenant_shares import TenantShares
from tango.control.waiting_reasons import WaitingReasons
from tango.kube.api_client import Connect, KubeClient
from tango.kube.cluster_calls import KubernetesCalls
from tango.ports.figures import FiguresClaim
from tango.ports.messages import Publisher
from tango.ports.spans import NO_SPANS, Spans
from tango.scheduling import warm_up_be
from tango.systems import be_policy
from tango.systems.registry import at_home

ADMISSION_MAX_AGE_S = 1.0
"""Seconds that the fleet which admission looks at may be old: nodes come and go more slowly, and a batch would else cost a snapshot."""


class Scheduler:
    """The use cases of the scheduler, each built once. The event loop of the calls to clusters starts with the first of them."""

    def __init__(
        self,
        here: Stores,
        publisher: Publisher,
        compute_figures: Callable[[FiguresClaim], Computing],
        *,
        connect: Connect = KubeClient.from_kubeconfig,
        spans: Spans = NO_SPANS,
    ) -> None:
        """`compute_figures` starts a process that computes those of a claim; `connect` makes clients of clusters. `spans`: those of the
        process."""
        settings = here.settings
        self._clusters = clusters = cluster_calls_of(here, connect=connect)
        self._policies = policies = BePolicies(here.run_facts, here.checkpoints, settings)
        self.figures = figures = FiguresApart(store=here.figures, begin=compute_figures, clock=here.clock)
        self._computing = Repeating("figures", figures.next)
        reserved = ReservedCpu(time.monotonic)
        holder = LeaseHolder(leases=here.leases, owner=here.owner, settings=settings.lease)
        # Admission asks what a node could ever hold, which hardly changes.
        seen = FleetView(lambda: here.fleet.snapshot(at_s=here.clock.now_s()), max_age_s=ADMISSION_MAX_AGE_S)
        self.admission = Admission(requests=here.requests, fleet=seen.current)
        evictions = BeEvictions(fleet=here.fleet, events=here.events, requests=here.requests, clusters=clusters)

        def home_only(run: int) -> bool:
            return at_home(here.run_facts.info(run).system).be

        self.placement = BePlacement(
            deciders=BeDeciders(
                policy_of=policies.of,
                fallback=be_policy(settings.be.fallback_policy, settings),
                registry=Registry(roles=policies.roles, checkpoints=here.checkpoints),
            ),
            requests=here.requests,
            jobs=here.jobs,
            refusals=here.refusals,
            snapshot=lambda: here.fleet.snapshot(at_s=here.clock.now_s()),
            clusters=clusters,
            reserved=reserved.taken_off,
            holder=holder,
            settings=settings.be,
            pressed=PressedNodes(settings.node_agent),
            reasons=WaitingReasons(home_only),
            shares=TenantShares(
                tenants=here.tenants,
                settings=settings.tenants,
                fleet=here.fleet,
                evictions=evictions,
                home_only=home_only,
                monotonic=time.monotonic,
            ),
            sampling=WeighingRate(settings.explain),
            tracing=BeTracing(spans, here.requests, here.run_facts.info) if spans.is_on else None,
        )
        self.reassurance = ReassuranceRounds(
            reassurance=Reassurance(
                fleet=here.fleet,
                events=here.events,
                clusters=clusters,
                evictions=evictions,
                settings=settings.sharing,
                reserved=reserved,
                tenants=here.tenants,
            ),
            headroom=HeadroomForInstances(fleet=here.fleet, evictions=evictions),
            runs=here.runs,
            holder=holder,
            clock=here.clock,
        )
        self.reconciliation = Reconciliation(
            holder=holder,
            runs=here.runs,
            requests=here.requests,
            publisher=publisher,
            turn_live=here.live_runs.turn,
            end_overlong_readers=here.readers.end_overlong,
            forget_candidates=Forgetting(here.events, settings.explain).step,
            order_figures=figures.order,
        )
        self.jobs = Jobs(store=here.jobs, publisher=publisher, refusals=here.refusals)
        self.job_settings = settings.job
        self.cancel_sweep = CancelSweep(
            runs=here.runs,
            records=here.records,
            leases=here.leases,
            clusters=lambda: clusters,
            clock=here.clock,
            order_figures=figures.order,
            settings=settings.cancel,
        )
        self.retention = Retention(runs=here.runs, leases=here.leases, clock=here.clock, settings=settings.retention)

    def close(self) -> None:
        """End what `warm_up` began, and the calls to clusters; for whoever makes more than one in a process."""
        self._computing.stop()
        self._clusters.close()

    def warm_up(self) -> None:
        """Load torch and the network and compile what else decides, so that the first ticks do not wait for it; then begin to look for
        ordered figures."""
        warm_up_be()
        self._policies.warm_up()
        self._computing.start()


def cluster_calls_of(here: Stores, *, connect: Connect = KubeClient.from_kubeconfig) -> KubernetesCalls:
    """Calls to the API servers of all clusters of the store."""
    return KubernetesCalls(here.fleet.credentials, here.fleet.services, here.settings.kube, connect=connect)
