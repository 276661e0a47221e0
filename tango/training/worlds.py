"""Random worlds to train in: small fleets on the node model's own kernel, with LC load that moves and BE work that keeps coming.

Sizes, loads, interference and pod sizes are drawn anew for every episode (domain randomisation), so that the network meets no fleet twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from tango.domain.requests import BePending
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.learning.recent import RecentLc
from tango.node_model import kernel
from tango.node_model.state import FINISHED, FREE_LIST, NONE, NodeStates, new_states

TICK_S = 0.5
LC_WORK_S = 0.04
LC_WORK_CV = 0.5
LC_TARGET_S = 0.2
MOST_PODS = 96
MOST_REQUESTS = 16384
MOST_QUEUED = 64
MOST_PENDING = 48
KEYS = 1 << 15


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSpec:
    """What is drawn once for an episode; n nodes in c clusters, u kinds of BE pods."""

    node_cluster: NDArray[np.int32]
    cpu_cores: NDArray[np.float64]
    memory_mib: NDArray[np.float64]
    beta: float
    rtt_ms: NDArray[np.float64]
    lc_load: NDArray[np.float64]
    """(n,) LC work offered, as a share of the node's CPU, on average over time."""
    lc_limit_cores: NDArray[np.float64]
    lc_swing: NDArray[np.float64]
    """(n,) relative amplitude of the load's period."""
    lc_phase: NDArray[np.float64]
    lc_period_s: float
    sizes: NDArray[np.float64]
    """(u, 3) CPU request and limit in millicores, memory in MiB."""
    work_s: NDArray[np.float64]
    """(u,) mean CPU-seconds of a pod of each kind."""
    be_rate: NDArray[np.float64]
    """(c,) BE requests a second."""
    be_swing: float = 0.0
    """Relative amplitude of the BE rate's wave, of the same period."""
    lc_burst: float = 8.0
    """Shape of the gamma factor that a tick's LC rate is multiplied by in each cluster; 0: none."""
    lc_work_s: float = LC_WORK_S
    lc_target_s: float = LC_TARGET_S


def draw_world(rng: np.random.Generator, *, clusters: int = 0, load: float = 0.0) -> WorldSpec:
    """Draw a world; `clusters` and `load` (BE work over the CPU that LC leaves) are drawn too unless given."""
    count = clusters or int(rng.integers(2, 7))
    nodes_of = rng.integers(2, 6, count)
    node_cluster = np.repeat(np.arange(count, dtype=np.int32), nodes_of)
    n = len(node_cluster)
    cores = rng.choice([4.0, 6.0, 8.0, 16.0], n)
    memory = cores * rng.choice([1024.0, 2048.0, 4096.0], n)
    xy = rng.uniform(0, 100, (count, 2))
    rtt = 2.0 + np.hypot(*(xy[:, None] - xy[None]).transpose(2, 0, 1)) * 0.01
    np.fill_diagonal(rtt, 0.2)
    hot = rng.uniform(0.3, 1.7, count)[node_cluster] * rng.uniform(0.5, 1.5, n)
    lc_load = np.clip(rng.uniform(0.05, 0.3) * hot, 0.01, 0.5)
    u = int(rng.integers(2, 5))
    limit = rng.choice([500.0, 1000.0, 1500.0, 2000.0, 3000.0], u)
    sizes = np.stack((limit * rng.uniform(0.3, 0.7, u), limit, rng.choice([256.0, 512.0, 1024.0, 2048.0], u)), axis=1)
    work = rng.uniform(1.0, 6.0, u)
    share = load or float(rng.uniform(0.5, 1.3))
    work_rate = share * float((cores * (1 - lc_load)).sum())
    skew = rng.dirichlet(np.full(count, 1.5))
    return WorldSpec(
        node_cluster=node_cluster,
        cpu_cores=cores,
        memory_mib=memory,
        beta=float(rng.choice([0.0, 0.3, 0.6, 1.0])),
        rtt_ms=rtt,
        lc_load=lc_load,
        lc_limit_cores=np.maximum(1.0, cores * np.clip(lc_load * rng.uniform(2.5, 4.5, n), 0.3, 1.0)),
        lc_swing=rng.uniform(0, 0.9, count)[node_cluster],
        lc_phase=rng.uniform(0, 2 * np.pi, count)[node_cluster],
        lc_period_s=float(rng.uniform(10, 40)),
        sizes=sizes,
        work_s=work,
        be_rate=skew * work_rate / float(work.mean()),
    )


@njit(cache=True)
def _run_tick(
    states: NodeStates,
    at_s: NDArray[np.float64],
    node: NDArray[np.int64],
    work_s: NDArray[np.float64],
    first_key: int,
    due_s: NDArray[np.float64],
    to_s: float,
    target_s: float,
    tail: NDArray[np.float64],
    ended: NDArray[np.int64],
    out: NDArray[np.void],
) -> tuple[int, int]:
    """Run all nodes to `to_s` through the LC arrivals given in order of time; give (LC misses, BE pods ended).

    `due_s` keeps arrivals by key, `tail` (n,) takes the largest latency over target, `ended` the keys of ended pods. An arrival at
    an instance with a full queue is a miss at once.
    """
    missed, pods = 0, 0
    for step in range(len(at_s) + len(states.nodes)):
        if step < len(at_s):
            n, until_s = node[step], at_s[step]
        else:
            n, until_s = step - len(at_s), to_s
        used = kernel.advance_node(states, n, until_s, out, 0)
        for row in out[:used]:
            if row.kind == kernel.POD:
                ended[pods] = row.key
                pods += 1
            else:
                latency = (row.finished_s - due_s[row.key % KEYS]) / target_s
                tail[row.node] = max(tail[row.node], latency)
                missed += latency > 1.0
        if step < len(at_s):
            if states.instances[n, 0].queued >= MOST_QUEUED or states.pool[FREE_LIST] == NONE:
                missed += 1
                tail[n] = max(tail[n], 3.0)
            else:
                key = first_key + step
                due_s[key % KEYS] = until_s
                kernel.submit(states, n, 0, key, work_s[step], 1.0, until_s)
    return missed, pods


class World:
    """One episode's state: place pods, run a tick, look again."""

    def __init__(self, spec: WorldSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self._rng = rng
        n = len(spec.cpu_cores)
        self._states = new_states(spec.cpu_cores, spec.beta, instances=1, pods=MOST_PODS, requests=MOST_REQUESTS)
        fresh = self._states.instances[:, 0]
        fresh["used"], fresh["limit_cores"], fresh["memory_mib"], fresh["concurrency"] = 1, spec.lc_limit_cores, 1e9, 64
        fresh["heap"] = fresh["queue_first"] = fresh["queue_last"] = NONE
        self._out = np.zeros(MOST_REQUESTS + MOST_PODS, FINISHED)
        self._ended = np.zeros(n * MOST_PODS, np.int64)
        self._due_s = np.zeros(KEYS)
        self._tail = np.zeros(n)
        self._be = np.zeros((n, 4))  # request, limit, memory, pods
        self._pods: dict[int, tuple[int, int]] = {}  # key: node, kind
        self._queue: list[tuple[int, int, float, float]] = []  # kind, cluster, work, since
        self._lc_key = 0
        self._pod_key = 0
        self._recent = RecentLc()
        self.now_s = 0.0
        self._lc_memory = 0.1 * spec.memory_mib
        self._services = (
            Service(
                name="lc",
                service_class=ServiceClass.LC,
                cpu_work_s=spec.lc_work_s,
                memory_mib=1,
                target_ms=spec.lc_target_s * 1e3,
                instance_memory_mib=64,
                cpu_request_millicores=200,
            ),
        )
        self.arrive()

    @property
    def pending_count(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def arrive(self) -> None:
        """BE requests of one tick join the queue; a queue that is full takes none."""
        spec = self.spec
        wave = 1 + spec.be_swing * np.sin(2 * np.pi * self.now_s / spec.lc_period_s)
        counts = self._rng.poisson(spec.be_rate * wave * TICK_S)
        for cluster, count in enumerate(counts):
            for kind in self._rng.integers(0, len(spec.sizes), count):
                work = float(spec.work_s[kind] * self._rng.lognormal(-0.35, 0.83))
                if len(self._queue) < MOST_PENDING:
                    self._queue.append((int(kind), cluster, work, self.now_s))

    def pending(self) -> BePending:
        """The queue as the policies see it."""
        kind = np.array([q[0] for q in self._queue], np.int64)
        sizes = self.spec.sizes[kind]
        count = len(self._queue)
        return BePending(
            run_id=np.zeros(count, np.int64),
            request_id=np.arange(count, dtype=np.int64),
            service=np.zeros(count, np.int32),
            entry_cluster=np.array([q[1] for q in self._queue], np.int32),
            waited_s=self.now_s - np.array([q[3] for q in self._queue]),
            cpu_work_s=np.array([q[2] for q in self._queue]),
            cpu_request_millicores=sizes[:, 0],
            cpu_limit_millicores=sizes[:, 1],
            memory_mib=sizes[:, 2],
            epoch=np.zeros(count, np.int32),
        )

    def snapshot(self) -> FleetSnapshot:
        """The fleet as the policies see it."""
        spec, nodes = self.spec, self._states.nodes
        n, c = len(spec.cpu_cores), len(spec.be_rate)
        cpu = spec.cpu_cores * 1e3
        instance = self._states.instances[:, 0]
        in_flight = (instance["in_service"] + instance["queued"]).astype(np.float64)
        seen = FleetSnapshot(
            at_s=self.now_s,
            clusters=tuple(f"c{k}" for k in range(c)),
            nodes=tuple(f"n{k}" for k in range(n)),
            services=self._services,
            node_cluster=spec.node_cluster,
            node_ready=np.ones(n, np.bool_),
            cpu_allocatable=cpu,
            memory_allocatable=spec.memory_mib,
            lc_cpu_limit=spec.lc_limit_cores * 1e3,
            lc_cpu_request=np.full(n, 200.0),
            lc_memory_held=self._lc_memory,
            be_cpu_request=self._be[:, 0],
            be_cpu_limit=self._be[:, 1],
            be_memory_held=self._be[:, 2],
            be_pods=self._be[:, 3],
            cpu_used=(nodes["lc_cores"] + nodes["be_cores"]) * 1e3,
            memory_used=self._lc_memory + self._be[:, 2],
            slack=1.0 - self._tail,
            rtt_ms=spec.rtt_ms,
            bandwidth_mbit_per_s=np.full((c, c), 1000.0),
            instance_limit=spec.lc_limit_cores[None] * 1e3,
            instance_count=np.ones((1, n)),
            in_flight=in_flight[None],
            in_flight_work_s=in_flight[None] * spec.lc_work_s,
            pending_be=np.bincount([q[1] for q in self._queue], minlength=c).astype(np.float64),
        )
        return self._recent.added(seen)

    def step(self, node: NDArray[np.int32]) -> tuple[float, float, int]:
        """Place the queue's requests on these nodes (-1: it waits), run one tick; give (BE CPU-seconds done, LC misses, LC arrivals)."""
        waiting = []
        for request, target in zip(self._queue, node.tolist(), strict=True):
            kind, _, work, _ = request
            if target < 0 or self._be[target, 3] >= MOST_PODS:
                waiting.append(request)
                continue
            size = self.spec.sizes[kind]
            kernel.add_pod(self._states, target, self._pod_key, size[0], size[1] / 1e3, work, size[2], self.now_s)
            self._pods[self._pod_key] = target, kind
            self._be[target] += (*size, 1)
            self._pod_key += 1
        self._queue = waiting
        before_s = float(self._states.nodes["be_busy_s"].sum())
        at_s, at_node, work_s = self._lc_arrivals()
        self._tail *= 0.8
        missed, ended = _run_tick(
            self._states,
            at_s,
            at_node,
            work_s,
            self._lc_key,
            self._due_s,
            self.now_s + TICK_S,
            self.spec.lc_target_s,
            self._tail,
            self._ended,
            self._out,
        )
        self._lc_key += len(at_s)
        self.now_s += TICK_S
        for key in self._ended[:ended].tolist():
            target, kind = self._pods.pop(key)
            self._be[target] -= (*self.spec.sizes[kind], 1)
        self.arrive()
        return float(self._states.nodes["be_busy_s"].sum()) - before_s, float(missed), len(at_s)

    def _lc_arrivals(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
        spec = self.spec
        wave = 1 + spec.lc_swing * np.sin(2 * np.pi * self.now_s / spec.lc_period_s + spec.lc_phase)
        shape = spec.lc_burst
        burst = self._rng.gamma(shape, 1 / shape, len(spec.be_rate))[spec.node_cluster] if shape else 1.0
        counts = self._rng.poisson(spec.lc_load * spec.cpu_cores / spec.lc_work_s * wave * burst * TICK_S)
        node = np.repeat(np.arange(len(counts)), counts)
        at_s = self.now_s + self._rng.uniform(0, TICK_S, len(node))
        order = np.argsort(at_s)
        sigma = np.sqrt(np.log1p(LC_WORK_CV**2))
        work_s = spec.lc_work_s * self._rng.lognormal(-(sigma**2) / 2, sigma, len(node))
        return at_s[order], node[order].astype(np.int64), work_s
