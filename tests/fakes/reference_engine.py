"""The simulated world a second time, from its description alone: plain Python, one global order of events, nothing compiled or clever.

Written from section 6 of the design, docs/decisions/0011 and the docstrings, to be compared with `tango.sim`. Decisions that are shared
on purpose are called, not written again: BE policies, and the sharing rule `sharing_step.share`. LC policies are written out: every
cluster offers its cheapest node, and the cheapest offer is taken by looking at all of them.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.lifecycle import IN_FLIGHT, LIVE, Event, after_disruption, state_after, transitions_of
from tango.domain.requests import BePending, RequestState
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
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
from tango.scheduling.sharing import tuning_of
from tango.scheduling.sharing_step import NO_GUARANTEES, RULES, Instances, NodeCapacities, declared_sizes, new_shares, share
from tango.settings import Settings
from tango.sim.decision_costs import LONGEST_BATCH, DecisionCosts
from tango.sim.failures import Outage
from tango.systems import System, be_policy
from tests.fakes.reference_node import Instance, Pod, ReferenceNode, Served

NODE_DOWN, NODE_LOST, NODE_UP, RESIZE, POD_START, REQUEUE, LC_ARRIVE = range(7)
"""At one instant machines come first, then what runs on them, then what comes."""
CLOSE = 1e-9
"""Scores nearer than this are settled by rounding, which two programs do differently."""


@dataclass(slots=True)
class Row:
    """What has become of a request."""

    state: RequestState = RequestState.ACCEPTED
    node: int = -1
    attempts: int = 0
    given_back: int = 0
    started_s: float = math.nan
    finished_s: float = math.nan
    reason: str = ""


@dataclass(slots=True)
class Site:
    """What is known of a node besides what runs on it; the centre's books are `placed`, the kubelet's the pods themselves."""

    up: bool = True
    ready: bool = True
    placed: dict[int, tuple[int, float]] = field(default_factory=dict)
    """BE requests placed and not seen to end: service and memory"""
    limit: list[float] = field(default_factory=list)
    """millicores, by instance, as decided"""
    request: list[float] = field(default_factory=list)
    changed_s: list[float] = field(default_factory=list)
    used: float = 0.0
    busy_then_s: float = 0.0
    then_s: float = 0.0


class ReferenceEngine:
    """One run; `go`, then read `rows`, `losses` and `scalings`."""

    def __init__(
        self,
        fleet: Fleet,
        requests: NewRequests,
        system: System,
        settings: Settings,
        *,
        outages: Sequence[Outage] = (),
        costs: DecisionCosts | None = None,
    ) -> None:
        self.fleet, self.requests, self.system, self.settings = fleet, requests, system, settings
        self.costs = costs or DecisionCosts([])
        self.services = fleet.services
        self.declared_nodes = list(fleet.nodes)
        self.cluster_of = [c for c, cluster in enumerate(fleet.clusters) for _ in cluster.nodes]
        self.beta = fleet.beta if settings.sim.beta is None else settings.sim.beta
        self.kinds = [
            s
            for s, service in enumerate(self.services)
            if service.service_class is ServiceClass.LC
            for _ in range(service.instances_per_node)
        ]
        """The service of each instance of a node."""
        self.rtt_s = fleet.rtt_ms() / 1e3
        self.s_per_kib = 8192 / 1e6 / fleet.bandwidth_mbit_per_s()
        n, s, c = len(self.declared_nodes), len(self.services), len(fleet.clusters)
        rows = {service.name: s for s, service in enumerate(self.services)}
        neighbours = {rows[one.service]: one for one in fleet.interference}
        self.nodes = [
            ReferenceNode(node.cpu_millicores / 1e3, self.beta, self._fresh_instances(), neighbours=neighbours)
            for node in self.declared_nodes
        ]
        self.sites = [Site() for _ in range(n)]
        for site in self.sites:
            self._declare(site, changed_s=-1e9)
        self.lc_memory = sum(float(self.services[k].instance_memory_mib) for k in self.kinds)
        self.lc_extended: Counter[str] = Counter()
        for k in self.kinds:
            self.lc_extended.update(dict(self.services[k].extended))
        self.rows = [Row() for _ in range(len(requests))]
        self.in_flight = np.zeros((s, n))
        self.tails = Tails(
            latency_ms=np.full((s, n), np.nan), samples=np.zeros((s, n), np.int64), min_samples=settings.sharing.min_samples
        )
        self.be_share = np.ones(n)
        self.answers: list[list[list[tuple[float, float]]]] = [[[] for _ in range(n)] for _ in range(s)]
        self.inward_s, self.outward_s = [0.0] * c, [0.0] * c
        self.events: list[tuple[float, int, int, int, int, float]] = []
        self.sequence = 0
        self.settling: list[tuple[float, int]] = []
        self.pending: list[int] = []
        self.retries: list[int] = []
        self.arrived = 0
        self.sent_abroad: list[list[tuple[int, int]]] = [[] for _ in range(c)]
        """(request, attempt) that each cluster has sent abroad since the last publication."""
        self.published_in_flight = np.zeros((s, n))
        self.published_limit = np.zeros((s, n))
        self.published_free_cpu = np.ones(n)
        self.published_free_memory = np.ones(n)
        self.longest_queue = [1.0] * s
        self.losses: list[tuple[float, int, int, str, float]] = []
        self.scalings: list[tuple[float, str, int, int, float, float]] = []
        self.late = 0
        """Requests that were sent although late."""
        self.crowded = 0
        """Prices that `dss-lc` stretched."""
        self.close_calls = 0
        for at_s, kind, node in outages:
            self._push(at_s, kind, node)

    # ---- time ------------------------------------------------------------------------------------------------------------

    def go(self, *, most_s: float = 1000.0) -> None:
        """Run until every request has ended."""
        sim = self.settings.sim
        window_s = sim.lc_window_s
        staleness_s = self.fleet.staleness_s if sim.staleness_s is None else sim.staleness_s
        be_every, share_every = round(sim.be_tick_s / window_s), round(self.settings.sharing.tick_s / window_s)
        publish_every = max(1, round(staleness_s / window_s))
        self.now_s, window = 0.0, 0
        while any(row.state in LIVE for row in self.rows):
            begin_s, end_s = window * window_s, (window + 1) * window_s
            if begin_s > most_s:
                raise RuntimeError("the run does not end")
            self._settle(begin_s)
            if window % be_every == 0:
                self._place_be(begin_s)
            if window % share_every == 0:
                self._give_up(begin_s)
                self._share(begin_s)
            if window % publish_every == 0:
                self._publish(begin_s)
            self._dispatch_lc(begin_s)
            while self.events and self.events[0][0] < end_s:
                self._run_nodes(self.events[0][0])
                self._happen(*heapq.heappop(self.events))
            self._run_nodes(end_s)
            window += 1

    def _push(self, at_s: float, kind: int, target: int, epoch: int = 0, size: float = 0.0) -> None:
        self.sequence += 1
        heapq.heappush(self.events, (at_s, kind, self.sequence, target, epoch, size))

    def _run_nodes(self, to_s: float) -> None:
        """Everything that ends by `to_s`, in order of time over all nodes."""
        while True:
            ends = [node.next_end_s(self.now_s) for node in self.nodes]
            n = min(range(len(ends)), key=ends.__getitem__)
            step_to_s = min(to_s, ends[n])
            for node in self.nodes:
                node.run(step_to_s - self.now_s)
            self.now_s = max(self.now_s, step_to_s)
            if ends[n] > to_s:
                return
            ended = self.nodes[n].end_one(self.now_s)
            if isinstance(ended, Pod):
                self._pod_ends(n, ended)
            else:
                self._lc_ends(n, ended)

    def _happen(self, at_s: float, kind: int, _sequence: int, target: int, epoch: int, size: float) -> None:
        if kind == LC_ARRIVE:
            self._lc_arrives(target, epoch, at_s)
        elif kind == POD_START:
            self._pod_starts(target, epoch, at_s)
        elif kind == RESIZE:
            n, k = divmod(target, len(self.kinds))
            if self.sites[n].up:
                self.nodes[n].instances[k].limit_cores = size / 1e3
        elif kind == REQUEUE:
            self._requeue(target, epoch, at_s)
        elif kind == NODE_DOWN:
            self._go_down(target, at_s)
        elif kind == NODE_LOST:
            if not self.sites[target].up:
                self.sites[target].ready = False
        elif kind == NODE_UP:
            self._come_up(target, at_s)

    # ---- LC --------------------------------------------------------------------------------------------------------------

    def _dispatch_lc(self, now_s: float) -> None:
        """What has arrived by now, retries first, cluster by cluster; BE joins those that wait for a node."""
        batch = self.retries
        self.retries = []
        while self.arrived < len(self.rows) and self.requests.due_s[self.arrived] <= now_s:
            r = self.arrived
            self.arrived += 1
            if self._is_lc(r):
                self._happens(r, Event.RELEASE)
                batch.append(r)
            else:
                self._happens(r, Event.RELEASE)
                self._happens(r, Event.ADMIT)
                self.pending.append(r)
        for home in range(len(self.fleet.clusters)):
            mine = [r for r in batch if self.requests.cluster[r] == home]
            if mine:
                self._dispatch_of(home, mine, now_s)

    def _dispatch_of(self, home: int, rows: list[int], now_s: float) -> None:
        in_flight, limit = self._belief_of(home, now_s)
        charge_s = self.costs.lc_table(self.system.lc, nodes=len(self.nodes))[min(len(rows), LONGEST_BATCH)]
        sent: dict[tuple[int, int], int] = {}
        chosen = []
        for r in rows:
            n, late, expected_s = self._choose(home, r, in_flight, limit, sent)
            if n >= 0:
                s = int(self.requests.service[r])
                in_flight[s, n] += 1
                sent[s, self.cluster_of[n]] = sent.get((s, self.cluster_of[n]), 0) + 1
            targets = self.services[int(self.requests.service[r])].shed_after_targets or math.inf
            overdue = now_s - self.requests.due_s[r] + expected_s > targets * self.requests.target_s[r]
            chosen.append((r, n, late, overdue))
        for r, n, late, overdue in chosen:
            if overdue or (late and not self.settings.lc.keep_late):
                self._end(r, Event.SHED, now_s, "target-unreachable")
            elif n >= 0:
                self._send(home, r, n, now_s + charge_s)
                self.late += int(late)
            else:
                self.retries.append(r)

    def _belief_of(self, home: int, now_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Its own nodes as they are; of the others what they published, and what it has sent there since and not got back."""
        in_flight, limit = self.published_in_flight.copy(), self.published_limit.copy()
        true_limit = self._true_limit()
        for n, c in enumerate(self.cluster_of):
            if c == home:
                in_flight[:, n] = self.in_flight[:, n]
                limit[:, n] = true_limit[:, n]
        for r, attempt in self.sent_abroad[home]:
            row = self.rows[r]
            if row.attempts == attempt and (row.state in IN_FLIGHT or row.finished_s > now_s):
                in_flight[self.requests.service[r], row.node] += 1
        return in_flight, limit

    def _true_limit(self) -> np.ndarray:
        limit = np.zeros((len(self.services), len(self.nodes)))
        for n, site in enumerate(self.sites):
            if site.ready:
                for s, millicores in zip(self.kinds, site.limit, strict=True):
                    limit[s, n] += millicores / 1e3
        return limit

    def _choose(
        self, home: int, r: int, in_flight: np.ndarray, limit: np.ndarray, sent: dict[tuple[int, int], int]
    ) -> tuple[int, bool, float]:
        """(node, late, expected seconds from here, 0 without a node) by the system's LC policy."""
        s, policy = int(self.requests.service[r]), self.system.lc
        service, budget_s = self.services[s], self.requests.target_s[r]
        at_home = [n for n, c in enumerate(self.cluster_of) if c == home and limit[s, n] > 0]
        if policy == "round-robin":
            n = at_home[(r + self.rows[r].attempts) % len(at_home)] if at_home else -1
        elif policy == "ceres":
            n = min(at_home, key=lambda n: self._time_on_node_s(s, n, in_flight, limit), default=-1)
        elif policy == "scoring":
            n = self._by_score(home, s, in_flight, limit)
        else:
            offers = []
            for c in range(len(self.fleet.clusters)):
                offer = self._offer(home, c, s, in_flight, limit)
                if offer is not None:
                    cost_s = self._network_s(home, c, s) + offer[0]
                    carried = (sent.get((s, c), 0) + 1.0) * service.payload_kib * self.s_per_kib[home, c] <= self._target_s(s)
                    offers.append((cost_s, offer[1], cost_s <= budget_s and (carried or policy != "dss-lc")))
            n = min((o for o in offers if o[2]), default=min(offers, default=(0.0, -1, False)))[1]
        if n < 0:
            return -1, False, 0.0
        c = self.cluster_of[n]
        expected_s = self._network_s(home, c, s) + self._time_on_node_s(s, n, in_flight, limit)
        late = expected_s > budget_s
        if policy == "dss-lc" and (sent.get((s, c), 0) + 1.0) * service.payload_kib * self.s_per_kib[home, c] > self._target_s(s):
            late = True
        return n, late, expected_s

    def _offer(self, home: int, c: int, s: int, in_flight: np.ndarray, limit: np.ndarray) -> tuple[float, int] | None:
        """(time, node) of the quickest node of a cluster; of equals, in the entry cluster of `dss-lc` the one where BE loses least, and
        the first of those."""
        nodes = [n for n, cluster in enumerate(self.cluster_of) if cluster == c and limit[s, n] > 0]
        spares_be = self.system.lc == "dss-lc" and c == home
        offers = [
            (self._time_on_node_s(s, n, in_flight, limit), self._taken_from_be(n, in_flight, limit) if spares_be else 1.0, n)
            for n in nodes
        ]
        best = min(offers, default=None)
        return None if best is None else (best[0], best[2])

    def _taken_from_be(self, n: int, in_flight: np.ndarray, limit: np.ndarray) -> float:
        """Cores, at most one, that one more request takes of those which the BE pods of a node may use by their limits."""
        cores = self.declared_nodes[n].cpu_millicores / 1e3
        lc = sum(float(min(in_flight[k, n], limit[k, n])) for k in range(len(self.services)))
        be = sum(float(self.services[s].cpu_limit_millicores) for s, _ in self.sites[n].placed.values()) / 1e3
        return min(1.0, max(0.0, be + lc + 1.0 - cores))

    def _target_s(self, s: int) -> float:
        return (self.services[s].target_ms or math.inf) / 1e3

    def _network_s(self, home: int, c: int, s: int) -> float:
        return float(self.rtt_s[home, c] + self.services[s].payload_kib * self.s_per_kib[home, c])

    def _time_on_node_s(self, s: int, n: int, in_flight: np.ndarray, limit: np.ndarray) -> float:
        """Of one more request: its work at its share of the limit, once there is memory for it.

        To `dss-lc` also at its share of the node: one core a request, those of a service no more than its limit, all of them together
        as much longer as they want more than the node has.
        """
        service = self.services[s]
        places = float(service.instances_per_node * service.concurrency)
        held = min(in_flight[s, n] + 1.0, places)
        service_s = service.cpu_work_s * max(1.0, held / limit[s, n])
        time_s = float(service_s + max(0.0, in_flight[s, n] + 1.0 - places) * service.cpu_work_s / limit[s, n])
        if self.system.lc != "dss-lc":
            return time_s
        cores = self.declared_nodes[n].cpu_millicores / 1e3
        before = sum(float(min(in_flight[k, n], limit[k, n])) for k in range(len(self.services)))
        if before + 1.0 <= cores:
            return time_s
        # In this order, so that rounding settles ties as in the engine.
        wanted = before - float(min(in_flight[s, n], limit[s, n])) + float(min(in_flight[s, n] + 1.0, limit[s, n]))
        self.crowded += int(wanted > cores)
        return time_s * max(1.0, wanted / cores)

    def _by_score(self, home: int, s: int, in_flight: np.ndarray, limit: np.ndarray) -> int:
        free_cpu, free_memory, near, queue = self.settings.lc.score_weights
        farthest = int(np.argsort(self.rtt_s[home], kind="stable")[-1])
        scale = max(1e-9, self._network_s(home, farthest, s))
        scores: list[tuple[float, int]] = []
        for c in range(len(self.fleet.clusters)):
            prices = [
                (
                    queue * (in_flight[s, n] / limit[s, n] / self.longest_queue[s])
                    - free_cpu * self.published_free_cpu[n]
                    - free_memory * self.published_free_memory[n],
                    n,
                )
                for n, cluster in enumerate(self.cluster_of)
                if cluster == c and limit[s, n] > 0
            ]
            scores += [(near * self._network_s(home, c, s) / scale + price, n) for price, n in prices]
        if not scores:
            return -1
        least, best = min(scores)
        for score, n in scores:
            measured = self.sites[n].used != 0 or self.sites[best].used != 0
            if n != best and score - least < CLOSE and (score != least or measured):
                self.close_calls += 1
        return best

    def _send(self, home: int, r: int, n: int, sent_s: float) -> None:
        """Half the payload over the link of the node's cluster, one after another, then half the round trip."""
        row, s, c = self.rows[r], int(self.requests.service[r]), self.cluster_of[n]
        row.node = n
        self._happens(r, Event.DISPATCH)
        self.in_flight[s, n] += 1
        if c != home:
            self.inward_s[c] = max(self.inward_s[c], sent_s) + 0.5 * self.services[s].payload_kib * self.s_per_kib[home, c]
            sent_s = self.inward_s[c]
            self.sent_abroad[home].append((r, row.attempts))
        self._push(sent_s + 0.5 * self.rtt_s[home, c], LC_ARRIVE, r, row.attempts)

    def _lc_arrives(self, r: int, epoch: int, at_s: float) -> None:
        row, s = self.rows[r], int(self.requests.service[r])
        if row.state != RequestState.DISPATCHED or row.attempts != epoch:
            return
        if not self.sites[row.node].up:
            self._lose(r, "instance-unreachable", 0.0, at_s)
            self._requeue(r, epoch, at_s)
            return
        mine = [i for i in self.nodes[row.node].instances if i.service == s]
        instance = min(mine, key=lambda i: len(i.serving) + len(i.waiting))
        self._happens(r, Event.CLAIM)
        instance.waiting.append(Served(r, float(self.requests.cpu_work_s[r]), float(self.requests.memory_mib[r])))
        instance.admit(at_s)

    def _lc_ends(self, n: int, one: Served) -> None:
        r = one.request
        s, home, c = int(self.requests.service[r]), int(self.requests.cluster[r]), self.cluster_of[n]
        self.settling.append((self.now_s + self.settings.sim.settle_s, r))
        self._settle(self.now_s)
        self.rows[r].started_s = one.started_s
        answered_s = self.now_s
        if c != home:
            transfer_s = 0.5 * self.services[s].payload_kib * self.s_per_kib[home, c]
            answered_s = self.outward_s[c] = max(self.outward_s[c], self.now_s) + transfer_s
        answered_s += 0.5 * self.rtt_s[home, c]
        self._end(r, Event.SUCCEED, answered_s)
        self.answers[s][n].append((self.now_s, answered_s - self.requests.due_s[r]))

    def _settle(self, now_s: float) -> None:
        """Count out what was served, as soon as that is known."""
        for at_s, r in [one for one in self.settling if one[0] <= now_s]:
            self.settling.remove((at_s, r))
            self.in_flight[self.requests.service[r], self.rows[r].node] -= 1

    def _give_up(self, now_s: float) -> None:
        """Users wait ten targets, and at least five seconds (or as the settings say)."""

        def is_over(r: int) -> bool:
            lc = self.settings.lc
            return bool(now_s - self.requests.due_s[r] > max(lc.timeout_min_s, lc.timeout_targets * self.requests.target_s[r]))

        over = []
        for n, node in enumerate(self.nodes):
            for instance in node.instances:
                over += [one.request for one in (*instance.serving, *instance.waiting) if is_over(one.request)]
                instance.serving = [one for one in instance.serving if not is_over(one.request)]
                instance.waiting = [one for one in instance.waiting if not is_over(one.request)]
                instance.admit(now_s)
            for r in [r for r in over if self.rows[r].node == n and self.rows[r].state == RequestState.RUNNING]:
                self.in_flight[self.requests.service[r], n] -= 1
                self._lose(r, "timed-out", 0.0, now_s)
                self._end(r, Event.FAIL, now_s, "timed-out")
        for r in [r for r in self.retries if is_over(r)]:
            self.retries.remove(r)
            self._end(r, Event.GIVE_UP, now_s, "timed-out")

    # ---- BE --------------------------------------------------------------------------------------------------------------

    def _place_be(self, now_s: float) -> None:
        if not self.pending:
            return
        self.pending.sort()
        rows = self.pending[: self.settings.sim.be_batch_limit]
        pending, snapshot = self._pending_columns(rows, now_s), self._snapshot(now_s)
        policy = be_policy(self.system.be, self.settings)
        node = policy(pending, snapshot, self.settings.be).node
        if self.system.be == "scoring":
            noise = np.random.default_rng(0).uniform(-CLOSE, CLOSE, len(self.nodes))
            # A tie goes either way: one of the two shakes turns it over.
            for shaken in (1 + noise, 1 - noise):
                other = policy(pending, replace(snapshot, cpu_used=snapshot.cpu_used * shaken), self.settings.be).node
                self.close_calls += int((other != node).any())
        decide_s = float(self.costs.seconds("be", self.system.be, nodes=len(self.nodes), requests=len(rows))[0])
        for r, n in zip(rows, node.tolist(), strict=True):
            if n >= 0:
                self.pending.remove(r)
                row = self.rows[r]
                self._happens(r, Event.PLACE)
                row.node = n
                self.sites[n].placed[r] = (int(self.requests.service[r]), float(self.requests.memory_mib[r]))
                self._push(now_s + decide_s + self.settings.sim.pod_start_s, POD_START, r, row.attempts)

    def _pod_starts(self, r: int, epoch: int, at_s: float) -> None:
        """The kubelet admits by requests of every resource."""
        row = self.rows[r]
        if row.state != RequestState.PLACED or row.attempts != epoch:
            return
        n, service = row.node, self.services[self.requests.service[r]]
        node, site, declared = self.nodes[n], self.sites[n], self.declared_nodes[n]
        cpu = sum(site.request) + sum(pod.weight for pod in node.pods) + service.cpu_request_millicores
        memory = self.lc_memory + sum(pod.memory_mib for pod in node.pods) + float(self.requests.memory_mib[r])
        refused = (
            "node-lost"
            if not site.up
            else "out-of-cpu"
            if cpu > declared.cpu_millicores + 1e-6
            else "out-of-memory"
            if memory > declared.memory_mib + 1e-6
            else "out-of-pods"
            if len(self.kinds) + len(node.pods) + 1 > declared.pods
            else "out-of-extended-resource"
            if any(
                self._extended_held(n)[name] + amount > dict(declared.extended).get(name, 0) for name, amount in service.extended
            )
            else ""
        )
        if refused:
            self._lose(r, refused, 0.0, at_s)
            self._requeue(r, epoch, at_s)
            return
        self._happens(r, Event.RUN)
        work_s = float(self.requests.cpu_work_s[r])
        node.pods.append(
            Pod(
                r,
                float(service.cpu_request_millicores),
                service.cpu_limit_millicores / 1e3 * self.be_share[n],
                work_s,
                work_s,
                float(self.requests.memory_mib[r]),
                at_s,
                service=int(self.requests.service[r]),
            )
        )

    def _extended_held(self, n: int) -> Counter[str]:
        held = Counter(self.lc_extended)
        for pod in self.nodes[n].pods:
            held.update(dict(self.services[self.requests.service[pod.request]].extended))
        return held

    def _pod_ends(self, n: int, pod: Pod) -> None:
        del self.sites[n].placed[pod.request]
        self.rows[pod.request].started_s = pod.started_s
        self._end(pod.request, Event.SUCCEED, self.now_s)

    def _pending_columns(self, rows: list[int], now_s: float) -> BePending:
        service = self.requests.service[rows]
        return pending_columns(
            self.services,
            run_id=np.zeros(len(rows), np.int64),
            request_id=np.array(rows, np.int64),
            service=service,
            entry_cluster=self.requests.cluster[rows],
            waited_s=now_s - self.requests.due_s[rows],
            cpu_work_s=self.requests.cpu_work_s[rows],
            memory_mib=self.requests.memory_mib[rows],
            epoch=np.array([self.rows[r].attempts for r in rows], np.int32),
        )

    def _snapshot(self, now_s: float) -> FleetSnapshot:
        """The centre knows its own books, and the state that was last published."""
        rows = FleetRows(
            clusters=tuple(c.name for c in self.fleet.clusters),
            nodes=tuple(node.name for node in self.declared_nodes),
            services=self.services,
            node_cluster=np.array(self.cluster_of, np.int32),
            rtt_ms=self.fleet.rtt_ms(),
            bandwidth_mbit_per_s=self.fleet.bandwidth_mbit_per_s(),
        )
        counts = np.array([[float(self.kinds.count(s))] for s in range(len(self.services))])
        pods, memory = np.zeros((len(self.services), len(self.sites))), np.zeros(len(self.sites))
        for n, site in enumerate(self.sites):
            for s, memory_mib in site.placed.values():
                pods[s, n] += 1
                memory[n] += memory_mib
        return assemble(
            rows,
            at_s=now_s,
            nodes=NodeColumns(
                ready=np.array([site.ready for site in self.sites]),
                allocatable=rows.resources.columns([rows.resources.of_node(node) for node in self.declared_nodes]),
                lc_requests=rows.resources.columns(
                    [
                        rows.resources.amounts(
                            cpu=sum(site.request), memory=self.lc_memory, pods=len(self.kinds), extended=self.lc_extended
                        )
                        for site in self.sites
                    ]
                ),
                lc_cpu_limit=np.array([sum(site.limit) for site in self.sites]),
                cpu_used=np.array([site.used for site in self.sites]),
                memory_used=np.array([self.lc_memory + sum(pod.memory_mib for pod in node.pods) for node in self.nodes]),
            ),
            lc=LcColumns(
                instance_limit=self.published_limit * 1e3,
                instance_count=np.where(self.published_limit > 0, counts, 0.0),
                in_flight=InFlightColumns.of(rows.services, self.published_in_flight, self.published_in_flight),
            ),
            be=BeColumns.of_pods(rows, pods, memory),
            tails=self.tails,
            pending_be=rows.by_cluster((rows.clusters[self.requests.cluster[r]], 1) for r in self.pending),
        )

    # ---- measuring and sharing -------------------------------------------------------------------------------------------

    def _publish(self, now_s: float) -> None:
        for n, (node, site, declared) in enumerate(zip(self.nodes, self.sites, self.declared_nodes, strict=True)):
            if now_s > site.then_s:
                site.used = (node.busy_s - site.busy_then_s) / (now_s - site.then_s) * 1e3
            site.busy_then_s, site.then_s = node.busy_s, now_s
            self.published_free_cpu[n] = 1.0 - site.used / declared.cpu_millicores
            held = self.lc_memory + sum(pod.memory_mib for pod in node.pods)
            self.published_free_memory[n] = (declared.memory_mib - held) / declared.memory_mib
        self.published_in_flight = self.in_flight.copy()
        self.published_limit = self._true_limit()
        for s in range(len(self.services)):
            limit = self.published_limit[s]
            queues = [self.in_flight[s, n] / limit[n] for n in range(len(self.nodes)) if limit[n] > 0]
            self.longest_queue[s] = max([1.0, *queues])
        self.sent_abroad = [[] for _ in self.sent_abroad]

    def _tail(self, s: int, n: int, now_s: float) -> tuple[float, int]:
        """(milliseconds, answers) of a (service, node) over the window."""
        sharing = self.settings.sharing
        latencies = sorted(latency_s for at_s, latency_s in self.answers[s][n] if at_s > now_s - sharing.window_s)
        if not latencies:
            return math.nan, 0
        rank = sharing.quantile * (len(latencies) - 1)
        low = math.floor(rank)
        high = min(low + 1, len(latencies) - 1)
        return 1e3 * (latencies[low] + (rank - low) * (latencies[high] - latencies[low])), len(latencies)

    def _share(self, now_s: float) -> None:
        """One round of the sharing rule over all instances, node by node; the arrays are what `share` asks for."""
        every = [(n, k, s) for n in range(len(self.nodes)) for k, s in enumerate(self.kinds)]
        tails = [self._tail(s, n, now_s) for n, _, s in every]
        for (n, _, s), (tail_ms, samples) in zip(every, tails, strict=True):
            self.tails.latency_ms[s, n], self.tails.samples[s, n] = tail_ms, samples
        least_lost_first = [sorted(node.pods, key=lambda pod: (pod.done_s, pod.request)) for node in self.nodes]
        evictable = [pod for pods in least_lost_first for pod in pods]
        columns = Instances(
            node=np.array([n for n, _, _ in every], np.int64),
            service=np.array([s for _, _, s in every], np.int64),
            ready=np.array([self.sites[n].ready for n, _, _ in every], np.bool_),
            limit_millicores=np.array([self.sites[n].limit[k] for n, k, _ in every]),
            request_millicores=np.array([self.sites[n].request[k] for n, k, _ in every]),
            tail_ms=np.array([tail_ms for tail_ms, _ in tails]),
            samples=np.array([samples for _, samples in tails], np.int64),
            since_resize_s=np.array([now_s - self.sites[n].changed_s[k] for n, k, _ in every]),
            refused_limit_millicores=np.full(len(every), np.inf),
            refused_request_millicores=np.full(len(every), np.inf),
            asked=np.zeros(len(every), np.bool_),
        )
        booked = [sum(self.services[s].cpu_request_millicores for s, _ in site.placed.values()) for site in self.sites]
        capacities = NodeCapacities(
            allocatable_millicores=np.array([float(node.cpu_millicores) for node in self.declared_nodes]),
            be_request_millicores=np.array(booked, float),
            first_evictable=np.cumsum([0] + [len(pods) for pods in least_lost_first]).astype(np.int64),
            evictable_millicores=np.array([pod.weight for pod in evictable]),
            guaranteed_millicores=NO_GUARANTEES,
        )
        declared = declared_sizes(self.services)
        out = new_shares(instances=len(every), evictable=len(evictable), be_share=self.be_share)
        share(tuning_of(self.settings.sharing, self.system.sharing), columns, capacities, declared, out)
        gone = set(np.flatnonzero(out.evict).tolist())
        for k, (pod, after) in enumerate(itertools.pairwise(evictable)):
            same = after.done_s > 0 and 0 <= after.done_s - pod.done_s < CLOSE
            self.close_calls += int(same and (k in gone) != (k + 1 in gone))
        for k in sorted(gone):
            self._evict(evictable[k], now_s)
        for row, (n, k, s) in enumerate(every):
            site = self.sites[n]
            if (out.limit_millicores[row], out.request_millicores[row]) != (site.limit[k], site.request[k]):
                self.scalings.append((now_s, "resize", n, s, site.limit[k], float(out.limit_millicores[row])))
                site.limit[k], site.request[k], site.changed_s[k] = (
                    float(out.limit_millicores[row]),
                    float(out.request_millicores[row]),
                    now_s,
                )
                self._push(now_s + self.fleet.actuation_delay_s, RESIZE, n * len(self.kinds) + k, 0, site.limit[k])
        if RULES[self.system.sharing] == RULES["ceres"]:
            for n, node in enumerate(self.nodes):
                for pod in node.pods:
                    service = self.services[self.requests.service[pod.request]]
                    pod.limit_cores = service.cpu_limit_millicores / 1e3 * self.be_share[n]

    def _evict(self, pod: Pod, now_s: float) -> None:
        r = pod.request
        n = self.rows[r].node
        self.scalings.append((now_s, "evict", n, int(self.requests.service[r]), math.nan, math.nan))
        self.nodes[n].pods.remove(pod)
        self._lose(r, "evicted", pod.done_s, now_s)
        self._requeue(r, self.rows[r].attempts, now_s)

    # ---- machines --------------------------------------------------------------------------------------------------------

    def _fresh_instances(self) -> list[Instance]:
        return [
            Instance(s, service.cpu_limit_millicores / 1e3, float(service.instance_memory_mib), service.concurrency)
            for s, service in ((s, self.services[s]) for s in self.kinds)
        ]

    def _declare(self, site: Site, *, changed_s: float) -> None:
        site.limit = [float(self.services[s].cpu_limit_millicores) for s in self.kinds]
        site.request = [float(self.services[s].cpu_request_millicores) for s in self.kinds]
        site.changed_s = [changed_s] * len(self.kinds)

    def _go_down(self, n: int, at_s: float) -> None:
        """What runs there is lost now, and known to be lost after a while."""
        node, site = self.nodes[n], self.sites[n]
        if not site.up:
            return
        site.up = False
        seen_s = at_s + self.settings.sim.lost_after_s
        self._push(seen_s, NODE_LOST, n)
        lost = sorted(one.request for i in node.instances for one in (*i.serving, *i.waiting))
        for r in lost:
            self._lose(r, "node-lost", 0.0, at_s)
        for pod in node.pods:
            self._lose(pod.request, "node-lost", pod.done_s, at_s)
        for r in lost + [pod.request for pod in node.pods]:
            self._push(seen_s, REQUEUE, r, self.rows[r].attempts)
        node.instances, node.pods = self._fresh_instances(), []

    def _come_up(self, n: int, at_s: float) -> None:
        site = self.sites[n]
        if site.up:
            return
        site.up = site.ready = True
        self.nodes[n].instances = self._fresh_instances()
        self._declare(site, changed_s=at_s)

    # ---- ends ------------------------------------------------------------------------------------------------------------

    def _is_lc(self, r: int) -> bool:
        return bool(self.requests.service_class[r] == ServiceClass.LC)

    def _lose(self, r: int, reason: str, work_s: float, at_s: float) -> None:
        self.rows[r].reason = reason
        self.losses.append((at_s, r, self.rows[r].node, reason, work_s))

    def _requeue(self, r: int, epoch: int, at_s: float) -> None:
        row = self.rows[r]
        if row.attempts != epoch or row.state not in IN_FLIGHT:
            return
        if self._is_lc(r):
            self.in_flight[self.requests.service[r], row.node] -= 1
        else:
            del self.sites[row.node].placed[r]
        is_free = not self._is_lc(r) and after_disruption(epoch) is Event.RETURN
        row.given_back += is_free
        if not is_free and row.attempts - row.given_back >= self.settings.lease.max_attempts:
            self._end(r, Event.EXHAUST, at_s, "attempts-exhausted")
        elif self._is_lc(r):
            self._happens(r, Event.REQUEUE)
            self.retries.append(r)
        else:
            self._happens(r, Event.RETURN if is_free else Event.REQUEUE)
            self.pending.append(r)

    def _happens(self, r: int, event: Event) -> None:
        """Raises: ValueError for what the lifecycle table does not allow."""
        row = self.rows[r]
        state = state_after([event], ServiceClass(int(self.requests.service_class[r])), state=row.state)
        assert state is not None
        row.state = state
        row.attempts += any(t.gives_out for t in transitions_of(event))

    def _end(self, r: int, event: Event, at_s: float, reason: str = "") -> None:
        self._happens(r, event)
        row = self.rows[r]
        row.finished_s, row.reason = at_s, reason
