"""Arranges a fleet and its requests as the engine's arrays, and lets them grow."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.errors import ConfigError
from tango.node_model.state import FINISHED, NONE, NodeStates, grown, new_states
from tango.scheduling.lc.columns import NO_NOISE, Choices, Traits, new_belief, new_terrain
from tango.scheduling.sharing import tuning_of
from tango.scheduling.sharing_step import Declared, declared_sizes, new_capacities, new_instances, new_shares
from tango.settings import Settings
from tango.sim import state
from tango.sim.codes import ACCEPTED, DOES_NOT_FIT, FAILED, NOT_SENT
from tango.sim.heap import EVENT, USED

MOST_PODS = 110
"""Kubernetes' own limit of pods on a node."""
RING = 64
"""Answers that a (service, node) remembers; a tail over more than these in its window is one over the last of them."""


class World:
    """The engine's arrays, with the few figures that stay outside of it."""

    def __init__(
        self,
        fleet: Fleet,
        requests: NewRequests,
        settings: Settings,
        *,
        lc_policy: Traits,
        lc_weights: NDArray[np.float64],
        sharing: str,
        charge_s: NDArray[np.float64],
    ) -> None:
        self.fleet = fleet
        sim = settings.sim
        clusters = [c.name for c in fleet.clusters]
        declared_nodes = [(k, node) for k, cluster in enumerate(fleet.clusters) for node in cluster.nodes]
        self.node_names = tuple(node.name for _, node in declared_nodes)
        self.node_cluster = np.array([k for k, _ in declared_nodes], np.int32)
        cpu = np.array([float(node.cpu_millicores) for _, node in declared_nodes])
        memory = np.array([float(node.memory_mib) for _, node in declared_nodes])
        services = fleet.services
        s, n, c = len(services), len(declared_nodes), len(clusters)
        is_lc = np.array([service.service_class is ServiceClass.LC for service in services], np.bool_)
        counts = np.array([service.instances_per_node if lc else 0 for service, lc in zip(services, is_lc, strict=True)], np.int64)
        row_service = np.repeat(np.arange(s), counts)
        rows = len(row_service)
        beta = fleet.beta if sim.beta is None else sim.beta
        staleness_s = fleet.staleness_s if sim.staleness_s is None else sim.staleness_s
        self.be_every = _windows(sim.be_tick_s, sim.lc_window_s, "be_tick_s")
        share_every = _windows(settings.sharing.tick_s, sim.lc_window_s, "sharing.tick_s")
        publish_every = max(1, round(staleness_s / sim.lc_window_s))

        declared = declared_sizes(services)
        sites = np.zeros(n, state.SITE)
        sites["up"] = sites["ready"] = 1
        sites["cpu"], sites["memory"], sites["slack"] = cpu, memory, 1.0
        sites["lc_request"] = declared.request_millicores[row_service].sum()
        sites["lc_limit"] = declared.limit_millicores[row_service].sum()
        instance_memory = np.array([float(service.instance_memory_mib) for service in services])
        sites["lc_memory"] = instance_memory[row_service].sum()
        concurrency = np.array([service.concurrency if lc else 0 for service, lc in zip(services, is_lc, strict=True)], np.int64)

        be_request, be_limit = np.where(is_lc, np.inf, declared.request_millicores), np.where(is_lc, 0.0, declared.limit_millicores)
        least = float(be_request.min(initial=np.inf))
        pods = int(min(MOST_PODS, (cpu - sites["lc_request"]).max() // least)) if np.isfinite(least) else 1
        states = _new_nodes(cpu / 1e3, beta, max(1, pods), row_service, declared, instance_memory, concurrency)

        terrain = new_terrain(
            services,
            rtt_ms=fleet.rtt_ms(),
            bandwidth_mbit_per_s=fleet.bandwidth_mbit_per_s(),
            node_cluster=self.node_cluster,
            weights=lc_weights,
        )
        limit_cores = np.where(is_lc, counts * declared.limit_millicores / 1e3, 0.0)[:, None] * np.ones(n)
        places = (counts * concurrency).astype(np.float64)[:, None] * np.ones(n)
        m = len(requests)
        window = state.Rules(
            window_s=sim.lc_window_s,
            lc_policy=lc_policy,
            publish_every=publish_every,
            share_every=share_every,
            actuation_s=fleet.actuation_delay_s,
            lost_after_s=sim.lost_after_s,
            give_up_targets=settings.lc.timeout_targets,
            give_up_least_s=settings.lc.timeout_min_s,
            most_attempts=settings.lease.max_attempts,
            keep_late=settings.lc.keep_late,
            tail_window_s=settings.sharing.window_s,
            tail_quantile=settings.sharing.quantile,
            audit=sim.audit,
        )
        progress = np.zeros(m, state.PROGRESS)
        progress["node"], progress["sent_before"] = -1, NOT_SENT
        progress["started_s"] = progress["finished_s"] = np.nan
        progress["state"] = ACCEPTED
        clock = np.zeros(1, state.CLOCK)
        self._refuse_what_fits_nowhere(
            requests, cpu - sites["lc_request"], memory - sites["lc_memory"], be_request, progress, clock
        )
        be_count = int(np.count_nonzero(requests.service_class == ServiceClass.BE))
        self.engine = state.Engine(
            rules=window,
            clock=clock,
            heap=np.zeros(1024, EVENT),
            heap_counts=np.zeros(2, np.int64),
            arrivals=state.Arrivals(
                _column(requests.due_s, np.float64),
                _column(requests.target_s, np.float64),
                _column(requests.service_class, np.int8),
                _column(requests.service, np.int32),
                _column(requests.cluster, np.int32),
                _column(requests.cpu_work_s, np.float64),
                _column(requests.memory_mib, np.float64),
                np.arange(m, dtype=np.int64),
            ),
            progress=progress,
            sites=sites,
            states=states,
            places=state.Places(row_service, np.concatenate(([0], np.cumsum(counts))), instance_memory, concurrency),
            terrain=terrain,
            belief=new_belief(
                limit_cores=limit_cores.copy(), places=places, in_flight=np.zeros((s, n)), cores=sites["cpu"] / 1e3, clusters=c
            ),
            truth=state.Truth(np.zeros((s, n)), limit_cores),
            published=state.Published(
                np.zeros((s, n)), np.zeros((s, n)), np.zeros(n), np.zeros((s, n)), np.zeros((s, c), np.int32), np.zeros((s, c))
            ),
            links=state.Links(np.zeros(c), np.zeros(c)),
            tails=state.Tails(
                np.full((s * n, RING), -np.inf),
                np.zeros((s * n, RING)),
                np.zeros(s * n, np.int64),
                np.zeros(RING),
                np.full(s * n, np.nan),
                np.zeros(s * n, np.int64),
            ),
            lists=state.Lists(
                pending=np.zeros(be_count + 1, np.int64),
                retries=np.zeros(64, np.int64),
                batch=np.zeros(64, np.int64),
                shed=np.zeros(64, np.bool_),
                entry_first=np.zeros(c + 1, np.int64),
                sent_last=np.full(c, -1, np.int64),
                sent=np.zeros((s, c)),
                abroad_request=np.zeros(64, np.int64),
                abroad_s=np.zeros(64),
                slots=np.zeros(64, np.int64),
                charge_s=charge_s,
                losses=np.zeros(64, state.LOSS),
                scalings=np.zeros(64, state.SCALING),
                cycles=np.zeros(64, state.CYCLE),
                out=np.zeros(64, FINISHED),
            ),
            sharing=state.Sharing(
                tuning=tuning_of(settings.sharing, sharing),
                instances=new_instances(node=np.repeat(np.arange(n), rows), service=np.tile(row_service, n), declared=declared),
                changed_s=np.full(n * rows, -1e9),
                capacities=new_capacities(allocatable_millicores=cpu, evictable=n * pods),
                declared=declared,
                shares=new_shares(instances=n * rows, evictable=n * pods, be_share=np.ones(n)),
                evictable=np.zeros(n * pods, np.int64),
                evictable_done_s=np.zeros(n * pods),
            ),
            be=state.BeSizes(np.where(is_lc, 0.0, be_request), be_limit),
            choices=Choices(np.full(m, -1, np.int32), np.zeros(m), np.zeros(m, np.bool_)),
            explore=NO_NOISE,
        )

    @property
    def now_s(self) -> float:
        """Where the run stands."""
        return float(self.engine.clock["window"][0]) * self.engine.rules.window_s

    def make_room(self, events: int = 0) -> None:
        """Let every array grow that the next window (and `events` more on the heap) may fill."""
        e = self.engine
        clock = e.clock[0]
        now_s = self.now_s
        due = int(np.searchsorted(e.arrivals.due_s, now_s, side="right")) - int(clock["cursor"])
        coming = due + int(clock["retries"])
        used = int(e.heap_counts[USED])
        at_most = int(clock["in_nodes"]) + used + coming
        pods, instances = len(e.sharing.evictable), len(e.sharing.changed_s)
        lists = e.lists
        lists = lists._replace(
            retries=_longer(lists.retries, at_most),
            batch=_longer(lists.batch, coming),
            shed=_longer(lists.shed, coming),
            abroad_request=_longer(lists.abroad_request, at_most),
            abroad_s=_longer(lists.abroad_s, at_most),
            slots=_longer(lists.slots, at_most),
            losses=_longer(lists.losses, int(clock["losses"]) + at_most + pods),
            scalings=_longer(lists.scalings, int(clock["scalings"]) + pods + instances),
            cycles=_longer(lists.cycles, int(clock["cycles"]) + 1),
        )
        self.engine = e._replace(
            heap=_longer(e.heap, used + coming + instances + int(clock["in_nodes"]) + pods + events),
            states=grown(e.states, requests=2 * at_most) if at_most > len(e.states.requests) else e.states,
            lists=lists,
        )

    def _refuse_what_fits_nowhere(
        self,
        requests: NewRequests,
        cpu: NDArray[np.float64],
        memory: NDArray[np.float64],
        be_request: NDArray[np.float64],
        progress: NDArray[np.void],
        clock: NDArray[np.void],
    ) -> None:
        """BE requests that no node of the fleet could ever hold fail at the door, as live."""
        rows = np.flatnonzero(requests.service_class == ServiceClass.BE)
        fits = np.zeros(len(rows), np.bool_)
        for k in _corner_nodes(cpu, memory):
            fits |= (be_request[requests.service[rows]] <= cpu[k]) & (requests.memory_mib[rows] <= memory[k])
        refused = rows[~fits]
        progress["state"][refused] = FAILED
        progress["reason"][refused] = DOES_NOT_FIT
        progress["finished_s"][refused] = requests.due_s[refused]
        clock["terminal"] += len(refused)


def _windows(every_s: float, window_s: float, name: str) -> int:
    count = round(every_s / window_s)
    if count < 1 or abs(count * window_s - every_s) > 1e-9 * every_s:
        raise ConfigError(f"{name} is {every_s:g} s, expected a whole number of windows of {window_s:g} s")
    return count


def _column(values: NDArray[Any], kind: type[np.generic]) -> NDArray[Any]:
    """The values as the engine was compiled for: another layout, or an array that cannot be written to, would compile it anew."""
    return np.require(values, kind, ["C", "W"])


Rows = TypeVar("Rows", bound=NDArray[Any])


def _longer(rows: Rows, least: int) -> Rows:
    if least <= len(rows):
        return rows
    longer = np.zeros(2 * least, rows.dtype)
    longer[: len(rows)] = rows
    return longer  # type: ignore[return-value]


def _corner_nodes(cpu: NDArray[np.float64], memory: NDArray[np.float64]) -> list[int]:
    """Nodes that no other node exceeds in both CPU and memory: what fits none of them fits nowhere."""
    kept: list[int] = []
    most = -np.inf
    for k in np.lexsort((-memory, -cpu)).tolist():
        if memory[k] > most:
            kept.append(k)
            most = float(memory[k])
    return kept


def _new_nodes(
    cpu_cores: NDArray[np.float64],
    beta: float,
    pods: int,
    row_service: NDArray[np.int64],
    declared: Declared,
    instance_memory: NDArray[np.float64],
    concurrency: NDArray[np.int64],
) -> NodeStates:
    states = new_states(cpu_cores, beta, instances=max(1, len(row_service)), pods=pods, requests=64)
    fresh = states.instances
    fresh["heap"] = fresh["queue_first"] = fresh["queue_last"] = NONE
    for row, s in enumerate(row_service.tolist()):
        fresh["used"][:, row] = 1
        fresh["limit_cores"][:, row] = declared.limit_millicores[s] / 1e3
        fresh["memory_mib"][:, row] = instance_memory[s]
        fresh["concurrency"][:, row] = concurrency[s]
    return states
