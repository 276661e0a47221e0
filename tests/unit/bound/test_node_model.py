"""No run of the real node model beats a bound: random worlds, random dispatch, random placement, pods resized at random."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.analysis.metrics import run_metrics
from tango.bound import be_bound, qos_bound
from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.outcomes import STATE_CODE, RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.node_model import LC, NodeModel
from tests.fakes.run_records import NO_DECISIONS, NO_LOSSES, NO_SAMPLES, NO_SCALING
from tests.long import example_count

SPAN_S = 10.0
INSTANCE_MIB = 256


def random_fleet(rng: np.random.Generator) -> Fleet:
    """One or two clusters with one to three small nodes each; a round trip between them takes a fair part of the target."""
    clusters = tuple(
        Cluster(
            name=f"c{c}",
            nodes=tuple(
                Node(name=f"c{c}n{n}", cpu_millicores=int(rng.choice((500, 1000, 2000))), memory_mib=int(rng.choice((512, 1024))))
                for n in range(rng.integers(1, 4))
            ),
        )
        for c in range(rng.integers(1, 3))
    )
    web = Service(
        name="web", service_class=ServiceClass.LC, cpu_work_s=0.3, memory_mib=16, target_ms=600.0, instance_memory_mib=INSTANCE_MIB
    )
    batch = Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=2.0, memory_mib=128, cpu_limit_millicores=800)
    network = NetworkModel(base_rtt_ms=float(rng.choice((10.0, 200.0))), local_rtt_ms=1.0)
    return Fleet(name="random", clusters=clusters, services=(web, batch), network=network, beta=float(rng.choice((0.0, 0.3))))


def random_requests(rng: np.random.Generator, fleet: Fleet, *, pods: int) -> NewRequests:
    """LC of about the fleet's capacity in one or two bursts, or evenly; BE anywhere."""
    cores = sum(node.cpu_millicores for node in fleet.nodes) / 1000.0
    lc = int(rng.integers(1, 12 + int(12 * cores)))
    burst_s = rng.choice(rng.uniform(2.0, SPAN_S, 2), lc) + rng.exponential(0.1, lc)
    due_s = np.concatenate(
        (rng.uniform(0.0, SPAN_S, lc) if rng.random() < 0.3 else burst_s.clip(0.0, SPAN_S), rng.uniform(0.0, 9.0, pods))
    )
    service = np.array([0] * lc + [1] * pods, np.int32)
    work_s = np.where(service == 0, 0.3, 2.0) * rng.lognormal(0.0, 0.5, lc + pods)
    order = np.argsort(due_s)
    return NewRequests(
        due_s=due_s[order],
        target_s=np.where(service == 0, 0.6, np.nan)[order],
        service_class=service.astype(np.int8)[order],
        service=service[order],
        cluster=rng.integers(0, len(fleet.clusters), lc + pods).astype(np.int32),
        cpu_work_s=work_s[order],
        memory_mib=np.where(service == 0, 16.0, rng.choice((128.0, 256.0), lc + pods))[order],
        services=("web", "batch"),
        clusters=tuple(cluster.name for cluster in fleet.clusters),
    )


@dataclass
class RandomRun:
    """Drives the node model through a run, one event at a time, and keeps what ended."""

    rng: np.random.Generator
    fleet: Fleet
    requests: NewRequests
    ended: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    """By request: node, start and completion as the user sees it."""

    def __post_init__(self) -> None:
        self.nodes = list(self.fleet.nodes)
        self.node_cluster = np.array([c for c, cluster in enumerate(self.fleet.clusters) for _ in cluster.nodes])
        self.half_rtt_s = self.fleet.rtt_ms() / 2000.0
        self.model = NodeModel([node.cpu_millicores / 1000.0 for node in self.nodes], beta=self.fleet.beta)
        self.instance = [
            self.model.add_instance(n, limit_cores=node.cpu_millicores / 1000.0, memory_mib=INSTANCE_MIB, concurrency=16, at_s=0.0)
            for n, node in enumerate(self.nodes)
        ]
        self.sequence = itertools.count()
        self.events: list[tuple[float, int, int, int]] = []

    def run(self) -> RunOutcomes:
        """LC goes to a random node of reach as soon as it is due; a pod to a random node, now or later, where its memory fits."""
        for r in range(len(self.requests)):
            node = int(self.rng.integers(0, len(self.nodes)))
            due_s = float(self.requests.due_s[r])
            if self.requests.service_class[r] == ServiceClass.LC:
                self.at(due_s + self.half_rtt_s[self.requests.cluster[r], self.node_cluster[node]], r, node)
            else:
                self.at(due_s + float(self.rng.choice((0.0, self.rng.uniform(0.0, 4.0)))), r, node)
        while self.events:
            at_s, _, r, node = heapq.heappop(self.events)
            self.collect(at_s)
            if self.requests.service_class[r] == ServiceClass.LC:
                work_s, memory_mib = float(self.requests.cpu_work_s[r]), float(self.requests.memory_mib[r])
                self.model.submit(node, self.instance[node], r, work_s, memory_mib, at_s)
            else:
                self.place(at_s, r, node)
        self.collect(1e6)
        return self.outcomes()

    def at(self, at_s: float, request: int, node: int) -> None:
        """What happens to the request there and then."""
        heapq.heappush(self.events, (at_s, next(self.sequence), request, node))

    def place(self, at_s: float, r: int, node: int) -> None:
        """Start the pod, or come back with another node half a second later; a pod that is there may change its weight."""
        memory_mib = float(self.requests.memory_mib[r])
        if self.model.usage(node, at_s=at_s).be_memory_mib + memory_mib > self.nodes[node].memory_mib - INSTANCE_MIB:
            if at_s < 20.0:
                self.at(at_s + 0.5, r, int(self.rng.integers(0, len(self.nodes))))
            return
        work_s, weight = float(self.requests.cpu_work_s[r]), float(self.rng.choice((0.01, 0.1, 1.0)))
        self.model.add_pod(node, r, weight=weight, limit_cores=0.8, work_s=work_s, memory_mib=memory_mib, at_s=at_s)

    def collect(self, to_s: float) -> None:
        """Note what ended; an answer takes half a round trip home."""
        for kind, node, r, started_s, finished_s, _ in self.model.finished(to_s):
            home_s = float(self.half_rtt_s[self.requests.cluster[r], self.node_cluster[node]]) if kind == LC else 0.0
            self.ended[r] = node, started_s, finished_s + home_s

    def outcomes(self) -> RunOutcomes:
        """The run as columns."""
        q, n = self.requests, len(self.requests)
        rows = [self.ended.get(r, (-1, np.nan, np.nan)) for r in range(n)]
        node = np.array([row[0] for row in rows], np.int32)
        done, failed = STATE_CODE[RequestState.SUCCEEDED], STATE_CODE[RequestState.FAILED]
        return RunOutcomes(
            run_id=0,
            name="random",
            status="completed",
            system="",
            fleet="random",
            fleet_hash="",
            seed=0,
            checkpoint="",
            speed=1.0,
            span_s=SPAN_S,
            wall_s=1000.0,
            clusters=q.clusters,
            nodes=tuple(node.name for node in self.nodes),
            node_cluster=self.node_cluster.astype(np.int32),
            services=q.services,
            service_class=q.service_class,
            service=q.service,
            entry_cluster=q.cluster,
            target_cluster=np.where(node >= 0, self.node_cluster[node], -1).astype(np.int32),
            node=node,
            due_s=q.due_s,
            target_s=q.target_s,
            started_s=np.array([row[1] for row in rows]),
            finished_s=np.array([row[2] for row in rows]),
            state=np.where(node >= 0, done, failed).astype(np.int8),
            reason=np.zeros(n, np.int16),
            attempts=np.ones(n, np.int32),
            epoch=np.ones(n, np.int32),
            cpu_work_s=q.cpu_work_s,
            memory_mib=q.memory_mib,
        )


@settings(max_examples=example_count(80), deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 14))
def test_no_run_of_the_node_model_beats_a_bound(seed: int, pods: int) -> None:
    """The figures of a run stay at or below the bounds of its requests and of its own LC work."""
    rng = np.random.default_rng(seed)
    fleet = random_fleet(rng)
    requests = random_requests(rng, fleet, pods=pods)

    outcomes = RandomRun(rng, fleet, requests).run()

    figures = run_metrics(outcomes, NO_LOSSES, NO_SAMPLES, NO_DECISIONS, NO_SCALING)
    qos, be = qos_bound(fleet, requests, span_s=SPAN_S), be_bound(fleet, outcomes)
    if qos is None:
        assert figures["lc_arrived"] == 0
    else:
        assert float(figures["lc_qos_rate"] or 0.0) <= qos + 1e-12
    assert be is not None
    assert float(figures["be_cpu_seconds_per_s"] or 0.0) <= be + 1e-9
