"""Measures how far the bounds lie above the optimum, which is found by exhaustive search in tiny random worlds.

    python -m tango.bound.loss

Time in these worlds has steps of `STEP_S`: arrivals, deadlines, works and round trips are whole steps, and cores are whole. Then some
optimal schedule has every core work on one request for a whole step (network flows have integral optima), so that searching among those
schedules is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import combinations, product

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import MEASURED_FROM, MeasuredSpan
from tango.bound.be import be_of
from tango.bound.qos import qos_of
from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.outcomes import STATE_CODE, RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass

STEP_S = 0.1
LC_STEPS, BE_STEPS = 10, 10
"""Steps of the last arrival; the measured span begins at step 1."""
INSTANCE_MIB = 64
"""Memory of an LC instance, MiB."""


def tiny_fleet(rng: np.random.Generator, *, most_nodes: int = 3, memory_mib: int = 1024) -> Fleet:
    """A random fleet of one or two clusters, two steps of round-trip time apart, with up to `most_nodes` nodes of one or two cores."""
    nodes = int(rng.integers(1, most_nodes + 1))
    cut = int(rng.integers(1, nodes + 1))
    cores = rng.choice((1, 2), nodes, p=(0.7, 0.3))
    made = [Node(name=f"n{n}", cpu_millicores=1000 * int(cores[n]), memory_mib=memory_mib) for n in range(nodes)]
    parts = [made[:cut], made[cut:]] if cut < nodes else [made]
    return Fleet(
        name="tiny",
        clusters=tuple(Cluster(name=f"c{c}", nodes=tuple(part)) for c, part in enumerate(parts)),
        services=(
            Service(
                name="lc",
                service_class=ServiceClass.LC,
                cpu_work_s=STEP_S,
                memory_mib=8,
                target_ms=100.0,
                instance_memory_mib=INSTANCE_MIB,
            ),
            Service(name="be", service_class=ServiceClass.BE, cpu_work_s=STEP_S, memory_mib=64),
        ),
        network=NetworkModel(base_rtt_ms=2000.0 * STEP_S, local_rtt_ms=0.0, rtt_ms_per_km=0.0),
    )


def tiny_lc(rng: np.random.Generator, fleet: Fleet, most: int = 6) -> NewRequests:
    """Between 4 and `most` random LC requests, due by step LC_STEPS."""
    n = int(rng.integers(4, most + 1))
    due = np.sort(rng.integers(1, LC_STEPS + 1, n) if rng.random() < 0.3 else rng.integers(2, 4, n))
    due[0] = 0 if rng.random() < 0.3 else due[0]
    work = rng.integers(1, 5, n)
    return NewRequests(
        due_s=_seconds(due),
        target_s=_seconds(work + rng.integers(0, 3, n)),
        service_class=np.full(n, int(ServiceClass.LC), np.int8),
        service=np.zeros(n, np.int32),
        cluster=rng.integers(0, len(fleet.clusters), n).astype(np.int32),
        cpu_work_s=_seconds(work),
        memory_mib=np.full(n, 8.0),
        services=("lc", "be"),
        clusters=tuple(cluster.name for cluster in fleet.clusters),
    )


def best_qos(fleet: Fleet, requests: NewRequests, *, span_s: float) -> float | None:
    """The optimal QoS rate: each request on one node or none, with preemption at no cost. None without a request in the measured span."""
    due, target, work = (_steps(column) for column in (requests.due_s, requests.target_s, requests.cpu_work_s))
    counted = [int(r) for r in np.flatnonzero(MeasuredSpan(MEASURED_FROM * span_s, span_s).holds(requests.due_s))]
    if not counted:
        return None
    rtt = _steps(fleet.rtt_ms() / 1000.0)
    met = {0: 0}
    """By set of requests that the nodes so far serve in time: its size. Sets are bit masks over `counted`."""
    for c, node in ((c, node) for c, cluster in enumerate(fleet.clusters) for node in cluster.nodes):
        half = rtt[requests.cluster, c] // 2
        windows = [range(int(due[r] + half[r]), int(due[r] + target[r] - half[r])) for r in counted]
        fits = [
            mask
            for mask in range(1 << len(counted))
            if _fits([(windows[k], int(work[r])) for k, r in enumerate(counted) if mask >> k & 1], node.cpu_millicores // 1000)
        ]
        met = {used | mask: (used | mask).bit_count() for used, mask in product(met, fits) if not used & mask}
    return max(met.values()) / len(counted)


def _fits(jobs: Sequence[tuple[range, int]], cores: int) -> bool:
    """Whether every job gets its steps within its window, on one core at a time and with at most `cores` jobs in a step.

    A bipartite flow of jobs to steps, found by augmenting paths (Ford and Fulkerson).
    """
    holders = {step: set[int]() for window, _ in jobs for step in window}

    def place(job: int) -> bool:
        """Give the job one more step by a breadth-first augmenting path, on which other jobs move to other steps of theirs."""
        came = {step: (job, -1) for step in jobs[job][0] if job not in holders[step]}
        waiting = list(came)
        for step in waiting:
            if len(holders[step]) < cores:
                while step >= 0:
                    moved, before = came[step]
                    holders[step].add(moved)
                    if before >= 0:
                        holders[before].remove(moved)
                    step = before
                return True
            for other in sorted(holders[step]):
                onward = [s for s in jobs[other][0] if s not in came and other not in holders[s]]
                came |= dict.fromkeys(onward, (other, step))
                waiting += onward
        return False

    return all(place(job) for job, (_, units) in enumerate(jobs) for _ in range(units))


def tiny_be(rng: np.random.Generator, most: int = 4) -> tuple[Fleet, RunOutcomes]:
    """A random fleet and run: LC requests that each had a core from start to end, and 2 to `most` BE pods that it never ran."""
    fleet = tiny_fleet(rng, most_nodes=2, memory_mib=INSTANCE_MIB + 64 * int(rng.integers(1, 4)))
    nodes = list(fleet.nodes)
    rows: list[tuple[int, int, int, int]] = []
    """(node, start, end, class)"""
    for n, node in enumerate(nodes):
        for _ in range(node.cpu_millicores // 1000):
            at = int(rng.integers(0, 4))
            while at < BE_STEPS and rng.random() < 0.7:
                end = at + int(rng.integers(1, 5))
                rows.append((n, at, end, int(ServiceClass.LC)))
                at = end + int(rng.integers(0, 3))
    pods = int(rng.integers(2, most + 1))
    due = np.concatenate(([start for _, start, _, _ in rows], rng.integers(0, BE_STEPS - 3, pods))) * STEP_S
    lc, nothing = len(rows), np.full(pods, np.nan)
    service_class = np.array([0] * lc + [1] * pods, np.int8)
    return fleet, RunOutcomes(
        run_id=0,
        name="tiny",
        status="completed",
        system="",
        fleet="tiny",
        fleet_hash="",
        seed=0,
        checkpoint="",
        speed=1.0,
        span_s=BE_STEPS * STEP_S,
        wall_s=BE_STEPS * STEP_S,
        clusters=tuple(cluster.name for cluster in fleet.clusters),
        nodes=tuple(node.name for node in nodes),
        node_cluster=np.array([c for c, cluster in enumerate(fleet.clusters) for _ in cluster.nodes], np.int32),
        services=("lc", "be"),
        service_class=service_class,
        service=service_class.astype(np.int32),
        entry_cluster=np.zeros(lc + pods, np.int32),
        target_cluster=np.zeros(lc + pods, np.int32),
        node=np.array([n for n, _, _, _ in rows] + [-1] * pods, np.int32),
        due_s=due,
        target_s=np.concatenate((np.ones(lc), nothing)),
        started_s=np.concatenate(([start * STEP_S for _, start, _, _ in rows], nothing)),
        finished_s=np.concatenate(([end * STEP_S for _, _, end, _ in rows], nothing)),
        state=np.array([STATE_CODE[RequestState.SUCCEEDED]] * lc + [STATE_CODE[RequestState.PENDING]] * pods, np.int8),
        reason=np.zeros(lc + pods, np.int16),
        attempts=np.ones(lc + pods, np.int32),
        epoch=np.ones(lc + pods, np.int32),
        cpu_work_s=np.concatenate(([(end - start) * STEP_S for _, start, end, _ in rows], rng.integers(2, 9, pods) * STEP_S)),
        memory_mib=np.concatenate((np.full(lc, 8.0), rng.integers(1, 4, pods) * 64.0)),
    )


def best_be(fleet: Fleet, outcomes: RunOutcomes) -> float:
    """The optimal BE throughput in CPU-seconds per second: each pod runs on one node, holding its memory from start to end, or never."""
    nodes = list(fleet.nodes)
    pods = np.flatnonzero(outcomes.service_class == ServiceClass.BE)
    due, work = _steps(outcomes.due_s[pods]), _steps(outcomes.cpu_work_s[pods])
    memory = [int(mib) for mib in outcomes.memory_mib[pods]]
    free_mib = [node.memory_mib - INSTANCE_MIB for node in nodes]
    first = int(_steps(MEASURED_FROM * outcomes.span_s))
    lc = np.flatnonzero(outcomes.service_class == ServiceClass.LC)
    running = np.array(
        [
            [
                np.sum((outcomes.node[lc] == n) & (_steps(outcomes.started_s[lc]) <= t) & (_steps(outcomes.finished_s[lc]) > t))
                for t in range(BE_STEPS)
            ]
            for n in range(len(nodes))
        ]
    )
    free = [[node.cpu_millicores // 1000 - int(running[n, t]) for t in range(BE_STEPS)] for n, node in enumerate(nodes)]

    @cache
    def best(t: int, places: tuple[int, ...], left: tuple[int, ...]) -> int:
        """Steps of work from step t on; a place of -1 is none yet."""
        if t == BE_STEPS:
            return 0
        most = 0
        for now in starts(t, places, left):
            for done in _choices(
                [(n, [p for p, at in enumerate(now) if at == n and left[p]], free[n][t]) for n in range(len(nodes))]
            ):
                after = tuple(steps - (p in done) for p, steps in enumerate(left))
                most = max(most, (len(done) if t >= first else 0) + best(t + 1, now, after))
        return most

    def starts(t: int, places: tuple[int, ...], left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        options = [range(-1, len(nodes)) if at < 0 and due[p] <= t else (at,) for p, at in enumerate(places)]
        for now in product(*options):
            held = [sum(memory[p] for p, at in enumerate(now) if at == n and left[p]) for n in range(len(nodes))]
            if all(mib <= most for mib, most in zip(held, free_mib, strict=True)):
                yield now

    steps = best(0, (-1,) * len(pods), tuple(int(w) for w in work))
    return steps / (BE_STEPS - first)


def _choices(nodes: Sequence[tuple[int, list[int], int]]) -> Iterator[tuple[int, ...]]:
    """All choices of pods that get a core in a step: on each node any of its pods, at most as many as it has free cores."""
    per_node = [[c for k in range(min(len(pods), cores) + 1) for c in combinations(pods, k)] for _, pods, cores in nodes]
    for parts in product(*per_node):
        yield tuple(p for part in parts for p in part)


def _steps(time_s: NDArray[np.float64] | float) -> NDArray[np.int64]:
    return np.rint(np.asarray(time_s) / STEP_S).astype(np.int64)


def _seconds(steps: NDArray[np.int64]) -> NDArray[np.float64]:
    return steps.astype(np.float64) * STEP_S


def qos_losses(worlds: int, bucket_steps: int) -> NDArray[np.float64]:
    """Bound minus optimum of each world, shape (worlds,), by seed; 0 for worlds without a request in the measured span."""
    losses = []
    for seed in range(worlds):
        rng = np.random.default_rng(seed)
        fleet = tiny_fleet(rng)
        requests = tiny_lc(rng, fleet)
        span_s = float(requests.due_s[-1])
        bound = qos_of(fleet, requests, span_s=span_s, bucket_s=bucket_steps * STEP_S).rate
        optimum = best_qos(fleet, requests, span_s=span_s)
        losses.append(0.0 if bound is None or optimum is None else bound - optimum)
    return np.array(losses)


def be_losses(worlds: int, bucket_steps: int) -> NDArray[np.float64]:
    """Bound minus optimum of each world, divided by the fleet's cores, shape (worlds,), by seed."""
    losses = []
    for seed in range(worlds):
        fleet, outcomes = tiny_be(np.random.default_rng(seed))
        bound = be_of(fleet, outcomes, bucket_s=bucket_steps * STEP_S)
        assert bound is not None
        cores = sum(node.cpu_millicores for node in fleet.nodes) / 1000.0
        losses.append((bound - best_be(fleet, outcomes)) / cores)
    return np.array(losses)


def main(worlds: int = 400) -> None:
    """Print the distribution of both losses for buckets of one step and longer."""
    print(f"{'bound':5} {'bucket':>10} {'worlds':>7} {'exact':>6} {'mean':>6} {'p50':>6} {'p90':>6} {'max':>6} {'least':>8}")
    for name, losses_of, buckets in (("qos", qos_losses, (1, 2, 4)), ("be", be_losses, (1, 3, 9))):
        for steps in buckets:
            losses = losses_of(worlds, steps)
            p50, p90 = np.quantile(losses, (0.5, 0.9))
            exact = np.mean(losses < 1e-6)
            print(
                f"{name:5} {steps:4d} steps {worlds:7d} {exact:6.2f} {losses.mean():6.3f} {p50:6.3f} {p90:6.3f} "
                f"{losses.max():6.3f} {losses.min():8.1e}"
            )


if __name__ == "__main__":
    main()
