"""LC policies as functions of arrivals and a snapshot: each arranges the columns and calls the compiled step of `lc_dispatch`.

`dss-lc`. Source: Tango (Feng et al., ICPP 2023), the LC dispatcher as a minimum-cost flow over edge clusters. Departures: the cost of
an arc is the expected completion of one more request, which rises with the number sent, instead of a fixed distance, and counts that
all LC services of a node share its CPU (`lc_dispatch.crowding`); the capacity of a node is what still meets the target, so that it
follows from the cost; what fits nowhere is spread by expected completion and marked late. From one entry the graph is a tree: node arcs
inside cluster links inside the source. Unit costs of a service on a node rise with each request, and the links are nested capacities,
so filling the cheapest free unit first is optimal (a greedy over a laminar matroid; Edmonds 1971). `tango/bench/lc_flow_solver.py`
states the same flow for OR-tools, and a test holds the one to the other. A batch of several services is filled service by service as
its requests come, which is no optimum over all of them: on a crowded node what one service sends raises the price of the others.

`load-greedy` fills by the expected completion that its service's own instances give; it knows neither crowding nor the links. `ceres`
takes the least loaded instance of the entry cluster (Yu et al., "CERES: Container-based elastic resource management system for mixed
workloads", ICPP 2021, which manages single clusters).
`round-robin` is kube-proxy's turn over the ready endpoints of a Service in the entry cluster; the turn follows the request's id and
its epoch, so that it needs no state and a retry goes to the next endpoint. `scoring` weighs free CPU, free memory, nearness and a short
queue; the weights are settings, found by `tango tune`. `dsaco` scores the offers of the nearest clusters by a learned layer
(`tango/learning`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling import lc_dispatch as kernel
from tango.scheduling.work_scale import work_scale
from tango.settings import LcSettings

NO_NOISE = kernel.Exploration(
    np.zeros((0, kernel.CANDIDATES), np.float32),
    np.zeros((0, kernel.CANDIDATES, kernel.LEARNED_FEATURES), np.float32),
    np.zeros(0, np.int32),
)


@dataclass(frozen=True, slots=True)
class ScoredLayer:
    """The learned scores of `dsaco`: one hidden layer."""

    layer: NDArray[np.float64]
    """(h, LEARNED_FEATURES + 1), bias last."""
    head: NDArray[np.float64]
    """(h,)"""

    @classmethod
    def none(cls) -> ScoredLayer:
        """For the policies that have none."""
        return cls(np.zeros((0, kernel.LEARNED_FEATURES + 1)), np.zeros(0))


@dataclass(frozen=True, slots=True)
class LcRule:
    """An LC policy of the compiled step: called, it plans; its code and layer are what the simulator's engine takes."""

    name: str
    code: int
    learned: ScoredLayer

    def __call__(self, arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        """A node for each arrival; -1 only where the policy finds no ready instance."""
        m = len(arrivals)
        to = kernel.Choices(np.full(m, -1, np.int32), np.full(m, np.inf), np.zeros(m, np.bool_))
        if m:
            entries = np.unique(arrivals.entry_cluster)
            budget_s = arrivals.deadline_s - arrivals.due_s
            work_s = np.array([s.cpu_work_s for s in snapshot.services]) * work_scale(arrivals, snapshot.services)
            terrain = terrain_of(snapshot, entries, work_s, settings, self.learned)
            belief = belief_of(snapshot)
            kernel.set_prices(self.code, terrain, belief)
            for entry in entries.tolist():
                rows = np.flatnonzero(arrivals.entry_cluster == entry)
                kernel.dispatch(
                    self.code,
                    entry,
                    rows,
                    arrivals.service,
                    budget_s,
                    arrivals.request_id + arrivals.epoch,
                    terrain,
                    belief,
                    np.zeros((len(snapshot.services), len(snapshot.clusters))),
                    to,
                    NO_NOISE,
                )
        shed = to.late & (not settings.keep_late)
        node = np.where(shed, -1, to.node).astype(np.int32)
        return LcPlan(node=node, late=to.late & ~shed, shed=shed, expected_s=to.expected_s, policy=self.name)


plan_dss_lc = LcRule("dss-lc", kernel.FLOW, ScoredLayer.none())
plan_load_greedy = LcRule("load-greedy", kernel.GREEDY, ScoredLayer.none())
plan_ceres = LcRule("ceres", kernel.LEAST_LOADED, ScoredLayer.none())
plan_round_robin = LcRule("round-robin", kernel.ROUND_ROBIN, ScoredLayer.none())
plan_scoring = LcRule("scoring", kernel.SCORING, ScoredLayer.none())
BUILT_IN: tuple[LcRule, ...] = (plan_dss_lc, plan_load_greedy, plan_ceres, plan_round_robin, plan_scoring)

LcPolicy = Callable[[LcArrivals, FleetSnapshot, LcSettings], LcPlan]


def terrain_of(
    snapshot: FleetSnapshot, entries: NDArray[np.int32], work_s: NDArray[np.float64], settings: LcSettings, learned: ScoredLayer
) -> kernel.Terrain:
    """The arrays of `lc_dispatch` that a snapshot fixes, for dispatch from these entries (rows of `near` for others are not filled)."""
    clusters = len(snapshot.clusters)
    near = np.zeros((clusters, clusters), np.int32)
    near[entries] = np.argsort(snapshot.rtt_ms[entries], axis=1, kind="stable")
    order = snapshot.node_cluster
    members = np.argsort(order, kind="stable")
    return kernel.Terrain(
        work_s=work_s,
        payload_kib=np.array([s.payload_kib for s in snapshot.services]),
        target_s=np.array([(s.target_ms or np.inf) / 1e3 for s in snapshot.services]),
        rtt_s=snapshot.rtt_ms / 1e3,
        s_per_kib=8192 / 1e6 / snapshot.bandwidth_mbit_per_s,
        near=near,
        first=np.concatenate(([0], np.cumsum(np.bincount(order, minlength=clusters)))),
        members=members,
        cluster_of=snapshot.node_cluster,
        score_weights=np.array(settings.score_weights),
        layer=learned.layer,
        head=learned.head,
    )


def belief_of(snapshot: FleetSnapshot) -> kernel.Belief:
    """What a snapshot says, to be counted on in."""
    s, n = snapshot.in_flight.shape
    c = len(snapshot.clusters)
    concurrency = np.array([float(service.concurrency) for service in snapshot.services])
    limit_cores = np.where(snapshot.node_ready, snapshot.instance_limit, 0.0) / 1e3
    return kernel.Belief(
        limit_cores=limit_cores,
        places=snapshot.instance_count * concurrency[:, None],
        in_flight=snapshot.in_flight.copy(),
        cores=np.maximum(1.0, snapshot.cpu_allocatable) / 1e3,
        demand=np.minimum(snapshot.in_flight, limit_cores).sum(axis=0),
        free_cpu=1 - snapshot.cpu_used / np.maximum(1.0, snapshot.cpu_allocatable),
        free_memory=snapshot.memory_free / np.maximum(1.0, snapshot.memory_allocatable),
        slack=snapshot.slack,
        longest_queue=np.ones(s),
        price=np.empty((s, n)),
        best_node=np.empty((s, c), np.int32),
        best_price=np.empty((s, c)),
        scratch=np.empty(kernel.LEARNED_FEATURES),
    )
