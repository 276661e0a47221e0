"""Arranges a fleet and its requests as the engine's arrays, and lets them grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.resource_axis import CPU, PODS, ResourceAxis
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.tenants import Tenant
from tango.errors import ConfigError
from tango.node_model.interference import traits_of
from tango.node_model.state import NONE, NodeStates, grown, new_states
from tango.scheduling.be_headroom import most_memory_mib
from tango.scheduling.guarantees import Guarantees, LcNodes, guarantees_of, refuse_beyond
from tango.scheduling.lc.columns import NO_NOISE, Choices, Traits, new_belief, new_terrain
from tango.scheduling.sharing import tuning_of
from tango.scheduling.sharing_step import Declared, declared_sizes
from tango.settings.simulated import SimulationSettings
from tango.sim import state
from tango.sim.codes import DOES_NOT_FIT
from tango.sim.heap import EVENT, USED
from tango.sim.lifecycle import REFUSED
from tango.sim.records import CLOCK, new_progress, new_sites


class SimulationState:
    """One simulation: its fleet, and the engine's arrays, which are replaced by longer ones between windows."""

    def __init__(
        self,
        fleet: Fleet,
        requests: NewRequests,
        settings: SimulationSettings,
        *,
        lc_policy: Traits,
        lc_weights: NDArray[np.float64],
        sharing: str,
        charge_s: NDArray[np.float64],
        waited_s: NDArray[np.float64] | float = 0.0,
        tenants: Mapping[str, Tenant] | None = None,
    ) -> None:
        """`tenants`: those that are declared. Raises: RequestRejected where they are guaranteed more than the fleet has."""
        nodes = [(k, node) for k, cluster in enumerate(fleet.clusters) for node in cluster.nodes]
        self.fleet = fleet
        self.node_names = tuple(node.name for _, node in nodes)
        self.node_cluster = np.array([k for k, _ in nodes], np.int32)

        services = fleet.services
        is_lc = np.array([service.service_class is ServiceClass.LC for service in services], np.bool_)
        self.resources = ResourceAxis.of(services)
        requested = self.resources.pod_requests(services)
        places = state.new_places(services)
        guarantees = self._guarantees(tenants or {}, settings)
        declared = declared_sizes(services, tenant=guarantees.of_service)
        holdings = state.new_holdings(
            allocatable=self.resources.columns([self.resources.of_node(node) for _, node in nodes]),
            lc=requested[:, places.row_service].sum(axis=1),
        )
        cpu_millicores = holdings.allocatable[CPU]
        pods = _most_pods(holdings.allocatable - holdings.lc, declared.request_millicores[~is_lc])
        every_node = np.ones(len(nodes))
        limit_cores = np.where(is_lc, places.per_node * declared.limit_millicores / 1e3, 0.0)[:, None] * every_node
        held = (places.per_node * places.concurrency).astype(np.float64)[:, None] * every_node
        shape = {"services": len(services), "nodes": len(nodes), "clusters": len(fleet.clusters)}
        self.engine = state.EngineState(
            rules=_rules(fleet, settings, lc_policy),
            clock=np.zeros(1, CLOCK),
            heap=np.zeros(1024, EVENT),
            heap_counts=np.zeros(2, np.int64),
            arrivals=state.new_arrivals(requests, services, waited_s),
            progress=new_progress(len(requests)),
            sites=new_sites(len(nodes), lc_limit_millicores=float(declared.limit_millicores[places.row_service].sum())),
            holdings=holdings,
            states=_new_nodes(fleet, settings, cpu_millicores, pods, declared, places),
            places=places,
            terrain=new_terrain(
                services,
                rtt_ms=fleet.rtt_ms(),
                bandwidth_mbit_per_s=fleet.bandwidth_mbit_per_s(),
                node_cluster=self.node_cluster,
                weights=lc_weights,
            ),
            belief=new_belief(
                limit_cores=limit_cores.copy(),
                places=held,
                in_flight=np.zeros(limit_cores.shape),
                cores=cpu_millicores / 1e3,
                clusters=len(fleet.clusters),
                observing=len(fleet.clusters) if lc_policy.observes else 0,
            ),
            truth=state.new_truth(limit_cores=limit_cores),
            published=state.new_published(**shape),
            links=state.new_links(len(fleet.clusters)),
            tails=state.new_tails(services=len(services), nodes=len(nodes)),
            lists=state.new_lists(
                be_requests=int(np.count_nonzero(requests.service_class == ServiceClass.BE)),
                services=len(services),
                clusters=len(fleet.clusters),
                charge_s=charge_s,
            ),
            sharing=state.new_sharing(
                tuning=tuning_of(settings.sharing, sharing),
                declared=declared,
                row_service=places.row_service,
                cpu_millicores=cpu_millicores,
                pods_per_node=pods,
                guaranteed_millicores=guarantees.kept_millicores,
            ),
            be=state.new_be_sizes(requests=requested, declared=declared, is_lc=is_lc),
            choices=_no_choices(len(requests)),
            explore=NO_NOISE,
        )
        self._refuse_what_fits_nowhere(requests)

    @property
    def now_s(self) -> float:
        """Seconds since the run's zero."""
        return float(self.engine.clock["window"][0]) * self.engine.rules.window_s

    def _guarantees(self, tenants: Mapping[str, Tenant], settings: SimulationSettings) -> Guarantees:
        """What tenants are guaranteed of each node."""
        nodes = LcNodes.of(
            self.fleet.services,
            clusters=tuple(cluster.name for cluster in self.fleet.clusters),
            node_cluster=self.node_cluster,
            cpu_allocatable=np.array([float(node.cpu_millicores) for cluster in self.fleet.clusters for node in cluster.nodes]),
            reserve_millicores=float(settings.sharing.reserve_millicores),
        )
        refuse_beyond(tenants, nodes)
        return guarantees_of(tenants, nodes)

    def grow(self, events: int = 0) -> None:
        """Let every array grow that the next window (and `events` more on the heap) may fill.

        The bounds are those of `engine.must_grow`, which decides when this is called: what one window can add at most. Arrays grow to
        twice what is asked for, so that growing costs constant time per row however long a run gets.
        """
        e = self.engine
        clock = e.clock[0]
        due = int(np.searchsorted(e.arrivals.due_s, self.now_s, side="right")) - int(clock["cursor"])
        coming = due + int(clock["retries"])
        used = int(e.heap_counts[USED])
        at_most = int(clock["in_nodes"]) + used + coming
        pods, instances = len(e.sharing.evictable), len(e.sharing.changed_s)
        lists = e.lists
        lists = lists._replace(
            retries=_longer(lists.retries, at_most),
            dispatching=_longer(lists.dispatching, coming),
            shed=_longer(lists.shed, coming),
            abroad_request=_longer(lists.abroad_request, at_most),
            abroad_s=_longer(lists.abroad_s, at_most),
            slots=_longer(lists.slots, at_most),
            settling_request=_longer(lists.settling_request, int(clock["settling"]) + at_most),
            settling_s=_longer(lists.settling_s, int(clock["settling"]) + at_most),
            losses=_longer(lists.losses, int(clock["losses"]) + at_most + pods),
            scalings=_longer(lists.scalings, int(clock["scalings"]) + pods + instances),
            cycles=_longer(lists.cycles, int(clock["cycles"]) + 1),
        )
        self.engine = e._replace(
            heap=_longer(e.heap, used + coming + instances + int(clock["in_nodes"]) + pods + events),
            states=grown(e.states, requests=2 * at_most) if at_most > len(e.states.requests) else e.states,
            lists=lists,
        )

    def _refuse_what_fits_nowhere(self, requests: NewRequests) -> None:
        """BE requests that no node of the fleet could ever hold fail at the door, as they do live."""
        e, holdings = self.engine, self.engine.holdings
        rows = np.flatnonzero(requests.service_class == ServiceClass.BE)
        most_mib = most_memory_mib(holdings.allocatable - holdings.lc, e.be.requests)
        refused = rows[requests.memory_mib[rows] > most_mib[requests.service[rows]]]
        e.progress["state"][refused] = REFUSED
        e.progress["reason"][refused] = DOES_NOT_FIT
        e.progress["finished_s"][refused] = requests.due_s[refused]
        e.clock["terminal"] += len(refused)


def _rules(fleet: Fleet, settings: SimulationSettings, lc_policy: Traits) -> state.Rules:
    sim = settings.sim
    staleness_s = fleet.staleness_s if sim.staleness_s is None else sim.staleness_s
    return state.Rules(
        window_s=sim.lc_window_s,
        lc_policy=lc_policy,
        publish_every=max(1, round(staleness_s / sim.lc_window_s)),
        share_every=_windows(settings.sharing.tick_s, sim.lc_window_s, "sharing.tick_s"),
        place_every=_windows(sim.be_tick_s, sim.lc_window_s, "be_tick_s"),
        actuation_s=fleet.actuation_delay_s,
        lost_after_s=sim.lost_after_s,
        settle_s=sim.settle_s,
        give_up_targets=settings.lc.timeout_targets,
        give_up_least_s=settings.lc.timeout_min_s,
        most_attempts=settings.lease.max_attempts,
        keep_late=settings.lc.keep_late,
        sheds_overdue=any(service.shed_after_targets > 0.0 for service in fleet.services),
        tail_window_s=settings.sharing.window_s,
        tail_quantile=settings.sharing.quantile,
        audit=sim.audit,
    )


def _no_choices(requests: int) -> Choices:
    return Choices(node=np.full(requests, -1, np.int32), expected_s=np.zeros(requests), late=np.zeros(requests, np.bool_))


def _windows(every_s: float, window_s: float, name: str) -> int:
    count = round(every_s / window_s)
    if count < 1 or abs(count * window_s - every_s) > 1e-9 * every_s:
        raise ConfigError(f"{name} is {every_s:g} s, expected a whole number of windows of {window_s:g} s")
    return count


Rows = TypeVar("Rows", bound=NDArray[Any])


def _longer(rows: Rows, least: int) -> Rows:
    if least <= len(rows):
        return rows
    longer = np.zeros(2 * least, rows.dtype)
    longer[: len(rows)] = rows
    return longer  # type: ignore[return-value]


def _most_pods(free: NDArray[np.float64], requests_millicores: NDArray[np.float64]) -> int:
    """BE pods that can run on one node at once, by the smallest request on the node with most CPU and by the pods that nodes admit;
    `free` (r, n) is what LC leaves."""
    if not len(requests_millicores):
        return 1
    return max(1, int(min(free[PODS].max(), free[CPU].max() // requests_millicores.min())))


def _new_nodes(
    fleet: Fleet,
    settings: SimulationSettings,
    cpu_millicores: NDArray[np.float64],
    pods: int,
    declared: Declared,
    places: state.InstanceRows,
) -> NodeStates:
    row_service = places.row_service
    states = new_states(
        cpu_millicores / 1e3,
        fleet.beta if settings.sim.beta is None else settings.sim.beta,
        traits=traits_of(fleet.services, fleet.interference),
        instances=max(1, len(row_service)),
        pods=pods,
        requests=64,
    )
    fresh = states.instances
    fresh["heap"] = fresh["queue_first"] = fresh["queue_last"] = NONE
    for row, service in enumerate(row_service.tolist()):
        fresh["used"][:, row] = 1
        fresh["service"][:, row] = service
        fresh["limit_cores"][:, row] = declared.limit_millicores[service] / 1e3
        fresh["memory_mib"][:, row] = places.instance_memory[service]
        fresh["concurrency"][:, row] = places.concurrency[service]
    return states
