"""What a policy sees is the same in both worlds: the same facts through the engine, the fakes and PostgreSQL give the same columns.

A small simulated run is stopped at a tick of the centre. What the engine has by then (who was placed and dispatched where, who waits, what
was answered and how late) is told to the stores through their own ports, and the snapshots are compared column by column. Rows are
compared by name: a store orders nodes and services by name, a simulation as its fleet declares them.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tango.domain.fleet import Fleet
from tango.domain.observations import ExtendedState, InstanceState, NodeState
from tango.domain.plans import BePlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import EVERYWHERE, MEMORY
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.shares import AttemptCopy, LcInFlight, LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LcSettings, Settings, SharingSettings, SimSettings
from tango.sim import codes
from tango.sim.dispatching import publish
from tango.sim.sharing_round import share_out
from tango.sim.simulate import _Run
from tango.systems import System
from tests.fakes.sim_worlds import draw_sim_world
from tests.fakes.store_world import (
    DECISION,
    LIVE_S,
    ZERO_S,
    StoreWorld,
    attempt_of,
    memory_world,
    new_run,
    postgres_world,
    success,
)
from tests.long import example_count

STATIC = System(name="by-the-book", lc="load-greedy", be="load-greedy", sharing="static")
"""Instances keep their declared sizes, so that a round of sharing measures and moves nothing."""
WINDOW_S = 1000.0
"""Everything that was answered counts in the tails of both worlds, however slow the machine of the test is."""
SHARED_COLUMNS = ("request_id", "due_s", "target_s", "cpu_work_s", "memory_mib", "epoch")
"""Of a share's rows and of arrivals alike."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is so at one tick of a simulated run, with what the engine shows its policies then."""

    fleet: Fleet
    requests: NewRequests
    sharing: SharingSettings
    snapshot: FleetSnapshot
    pending: BePending
    arrivals: LcArrivals
    """The columns of all LC requests that have arrived, as they were then: not sent anywhere yet."""
    arrived: list[int]
    waiting: list[int]
    """BE requests that wait for the centre."""
    node: dict[int, int]
    """Row of the node that a request has or had."""
    ended: list[int]
    latency_s: dict[int, float]
    """Of LC requests that were answered."""
    instances: dict[str, list[InstanceState]]
    nodes: dict[str, list[NodeState]]


def facts_of(seed: int, *, tick: int, quantile: float, min_samples: int) -> Facts:
    """A drawn world under names that no other example has, run up to one tick of the centre."""
    drawn = draw_sim_world(seed, failures=False)
    mark = f"x{next(_numbers)}"
    clusters = tuple(
        replace(c, name=f"{mark}{c.name}", nodes=tuple(replace(node, name=f"{mark}{node.name}") for node in c.nodes))
        for c in drawn.fleet.clusters
    )
    fleet = replace(drawn.fleet, clusters=clusters, staleness_s=0.1, beta=0.3)
    requests = replace(drawn.requests, clusters=tuple(c.name for c in clusters))
    sharing = SharingSettings(tick_s=0.5, window_s=WINDOW_S, quantile=quantile, min_samples=min_samples)
    found: list[Facts] = []
    ticks = itertools.count()

    def be(pending: BePending, snapshot: FleetSnapshot, given: BeSettings) -> BePlan:
        if next(ticks) == tick:
            found.append(_facts(run, fleet, requests, sharing))
            raise KeyboardInterrupt
        return place_load_greedy(pending, snapshot, given)

    run = _Run(
        fleet,
        requests,
        STATIC,
        Settings(
            sharing=sharing,
            lc=LcSettings(timeout_min_s=1000.0),
            sim=SimSettings(lc_window_s=0.1, be_tick_s=0.5, charge_decisions=False),
        ),
        seed=seed,
        span_s=None,
        outages=(),
        costs=None,
        lc=None,
        be=be,
    )
    try:
        run.go(None, end_when_stuck=True)
    except KeyboardInterrupt:
        return found[0]
    return _facts(run, fleet, requests, sharing)  # nothing waited for so many ticks: as the run ended


def _facts(run: _Run, fleet: Fleet, requests: NewRequests, sharing: SharingSettings) -> Facts:
    world, views = run._world, run._views
    e, now_s = world.engine, world.now_s
    share_out(e, now_s)
    publish(e, now_s)
    state = e.progress["state"]
    is_lc = requests.service_class == int(ServiceClass.LC)
    waiting = np.flatnonzero((state == codes.PENDING) & ~is_lc)
    arrived = np.flatnonzero((state != codes.ACCEPTED) & (state != codes.FAILED) & (requests.due_s <= now_s))
    lc_rows = arrived[is_lc[arrived]]
    latency_s = {int(r): float(e.progress["finished_s"][r] - requests.due_s[r]) for r in lc_rows if state[r] == codes.SUCCEEDED}
    sites = e.sites
    nodes: dict[str, list[NodeState]] = {c.name: [] for c in fleet.clusters}
    instances: dict[str, list[InstanceState]] = {c.name: [] for c in fleet.clusters}
    lc = [s for s in fleet.services if s.service_class is ServiceClass.LC]
    for n, (cluster, node) in enumerate((c, node) for c in fleet.clusters for node in c.nodes):
        nodes[cluster.name].append(
            NodeState(
                name=node.name,
                ready=True,
                cpu_allocatable_millicores=node.cpu_millicores,
                memory_allocatable_mib=node.memory_mib,
                cpu_used_millicores=float(sites["used"][n]),
                memory_used_mib=float(e.holdings.lc[MEMORY, n] + e.holdings.running[MEMORY, n]),
                lc_cpu_request_millicores=sum(s.cpu_request_millicores * s.instances_per_node for s in lc),
                lc_cpu_limit_millicores=sum(s.cpu_limit_millicores * s.instances_per_node for s in lc),
                lc_memory_held_mib=sum(s.instance_memory_mib * s.instances_per_node for s in lc),
                lc_pods=sum(s.instances_per_node for s in lc),
                pods_allocatable=node.pods,
                extended={name: ExtendedState(allocatable=amount) for name, amount in node.extended},
            )
        )
        instances[cluster.name] += [
            InstanceState(
                pod=f"lc-{s.name}-{node.name}-{k}",
                uid=f"{node.name}-{s.name}-{k}",
                service=s.name,
                node=node.name,
                pod_ip="10.0.0.1",
                port=8080,
                ready=True,
                cpu_request_millicores=s.cpu_request_millicores,
                cpu_limit_millicores=s.cpu_limit_millicores,
                memory_limit_mib=s.instance_memory_mib,
            )
            for s in lc
            for k in range(s.instances_per_node)
        ]
    return Facts(
        fleet=fleet,
        requests=requests,
        sharing=sharing,
        snapshot=views.centre(),
        pending=views.pending(waiting),
        arrivals=replace(views.arrivals(lc_rows), epoch=np.zeros(len(lc_rows), np.int32)),
        arrived=arrived.tolist(),
        waiting=waiting.tolist(),
        node={int(r): int(e.progress["node"][r]) for r in arrived if e.progress["node"][r] >= 0},
        ended=[int(r) for r in arrived if state[r] == codes.SUCCEEDED],
        latency_s=latency_s,
        instances=instances,
        nodes=nodes,
    )


def told(world: StoreWorld, facts: Facts) -> tuple[FleetSnapshot, BePending, LcArrivals]:
    """The facts through the ports of a store, and what it shows policies then."""
    for run in world.runs.runs(limit=1000):
        world.runs.cancel(run.run_id)
    names = [c.name for c in facts.fleet.clusters]
    world.fleet.declare(facts.fleet, kubeconfig="/kubeconfig", contexts={name: name for name in names})
    for name in names:
        world.fleet.observe(name, facts.nodes[name], facts.instances[name], sample=False)
    run_id = world.runs.create_run(replace(new_run(), speed=1.0), facts.requests)
    world.runs.begin(run_id, at_s=ZERO_S)
    seen = world.fleet.snapshot(at_s=0.0)
    to_row = {(node, cluster): row for (cluster, node), row in _rows(seen).items()}
    row_of = [to_row[node.name, c.name] for c in facts.fleet.clusters for node in c.nodes]
    is_lc = facts.requests.service_class == int(ServiceClass.LC)
    last_s = max((float(facts.requests.due_s[r]) for r in facts.arrived), default=-1.0)
    world.requests.release_due(run_id, until_s=last_s, limit=10_000)
    lc, be = ([r for r in facts.arrived if is_lc[r] == wanted] for wanted in (True, False))
    arrivals = handed_over(world, run_id, lc, seen)
    journals(world, run_id, lc, facts, seen, row_of)
    most = {service.name: 1e6 for service in facts.fleet.services}
    assert world.requests.admit_be(run_id, be, most_memory_mib=most) == len(be)
    batch = as_seen(world.requests.pending_be(limit=1000), seen)
    where = [-1 if r in facts.waiting else row_of[facts.node[r]] for r in batch.pending.request_id.tolist()]
    fence = world.leases.acquire("place-be", owner="scheduler", ttl_s=LIVE_S)
    assert fence is not None
    placed = BePlan(node=np.array(where, np.int32), policy="test")
    world.requests.record_placement(batch, placed, seen, DECISION, fence=fence, lease_s=LIVE_S)
    ends = [success(run_id, r, 1, finished_s=float(facts.requests.due_s[r]) + 1.0) for r in facts.ended if not is_lc[r]]
    assert world.requests.settle(ends) == len(ends)
    snapshot = world.fleet.snapshot(at_s=facts.snapshot.at_s)
    return snapshot, as_seen(world.requests.pending_be(limit=1000), snapshot).pending, arrivals


def handed_over(world: StoreWorld, run_id: int, lc: list[int], seen: FleetSnapshot) -> LcArrivals:
    """Those LC requests, as the journals of their entry clusters are given them."""
    shares = [world.shares.share_rows(run_id, cluster, beyond=-1, limit=10_000) for cluster in seen.clusters]
    entry = np.repeat(np.arange(len(shares), dtype=np.int32), [len(share) for share in shares])
    names = [s.name for s in seen.services]
    of = {name: np.concatenate([getattr(share, name) for share in shares]) for name in SHARED_COLUMNS}
    arrived = np.isin(of["request_id"], lc)
    service = np.array([names.index(name) for share in shares for name in share.service], np.int32)
    columns = {name: column[arrived] for name, column in of.items()}
    return LcArrivals(service=service[arrived], entry_cluster=entry[arrived], **columns)


def journals(world: StoreWorld, run_id: int, lc: list[int], facts: Facts, seen: FleetSnapshot, row_of: list[int]) -> None:
    """What their agents tell of LC requests that were sent somewhere: in flight, or over with this latency."""
    in_flight: dict[str, Counter[tuple[str, str, str]]] = defaultdict(Counter)
    over: dict[str, list[AttemptCopy]] = defaultdict(list)
    for r in (r for r in lc if r in facts.node):
        entry = facts.requests.clusters[facts.requests.cluster[r]]
        row = row_of[facts.node[r]]
        where = facts.requests.services[facts.requests.service[r]], seen.clusters[seen.node_cluster[row]], seen.nodes[row]
        if r in facts.ended:
            service, cluster, node = where
            over[entry].append(
                attempt_of(run_id, r)._replace(
                    service=service, cluster=cluster, node=node, latency_s=facts.latency_s[r], ended_at_s=world.now_s()
                )
            )
        else:
            in_flight[entry][where] += 1
    for entry in seen.clusters:
        found = [LcInFlight(*where, requests=count, scale=float(count)) for where, count in in_flight[entry].items()]
        world.shares.note_in_flight(entry, found, LcWait())
        world.ship(cluster=entry, attempts=over[entry])


def _rows(snapshot: FleetSnapshot) -> dict[tuple[str, str], int]:
    where = zip(snapshot.node_cluster.tolist(), snapshot.nodes, strict=True)
    return {(snapshot.clusters[c], name): k for k, (c, name) in enumerate(where)}


def assert_alike(one: FleetSnapshot, other: FleetSnapshot) -> None:
    """Every column, rows by name."""
    assert sorted(s.name for s in one.services) == sorted(s.name for s in other.services)
    assert _rows(one).keys() == _rows(other).keys()
    node = [_rows(other)[key] for key in _rows(one)]
    cluster = [other.clusters.index(name) for name in one.clusters]
    service = [[s.name for s in other.services].index(s.name) for s in one.services]
    assert [other.services[k] for k in service] == list(one.services)
    n, c, s = len(node), len(cluster), len(service)
    compared = 0
    for column in fields(one):
        mine, its = getattr(one, column.name), getattr(other, column.name)
        if column.name == "node_cluster":
            its = np.array([cluster.index(k) for k in its[node]])
        elif column.name in ("rtt_ms", "bandwidth_mbit_per_s"):
            its = its[np.ix_(cluster, cluster)]
        elif column.name in ("allocatable", "lc_requests", "be_requests"):
            its = its[[other.resources.names.index(name) for name in one.resources.names]][:, node]
        elif isinstance(mine, np.ndarray) and mine.shape == (s, n) and mine.ndim == 2:
            its = its[np.ix_(service, node)]
        elif column.name == "pending_be":
            assert mine.shape == (c,)
            its = its[cluster]
        elif isinstance(mine, np.ndarray):
            its = its[node]
        else:
            continue
        np.testing.assert_allclose(its.astype(float), mine.astype(float), rtol=1e-9, atol=1e-9, err_msg=column.name)
        compared += 1
    assert compared == 17
    assert len(one.resources) == len(other.resources)
    assert one.at_s == other.at_s


def assert_same_requests(
    one: BePending | LcArrivals, its: BePending | LcArrivals, seen: FleetSnapshot, shown: FleetSnapshot
) -> None:
    """All columns but those of another clock: who waits, by id; services and entries by name."""
    order, its_order = np.argsort(one.request_id), np.argsort(its.request_id)
    for column in fields(one):
        if column.name in ("run_id", "waited_s"):
            continue
        mine, other = getattr(one, column.name)[..., order], getattr(its, column.name)[..., its_order]
        if column.name == "service":
            assert [seen.services[k].name for k in mine] == [shown.services[k].name for k in other]
        elif column.name == "entry_cluster":
            assert [seen.clusters[k] for k in mine] == [shown.clusters[k] for k in other]
        else:
            np.testing.assert_allclose(other, mine, rtol=1e-9, err_msg=column.name)


drawn = given(
    seed=st.integers(0, 1_000_000),
    tick=st.integers(0, 8),
    quantile=st.sampled_from([0.5, 0.95, 1.0]),
    min_samples=st.sampled_from([1, 2, 5]),
)


def check(make: Callable[[SharingSettings], StoreWorld], *, examples: int) -> None:
    """Both worlds on drawn facts; over all examples every column must have been something else than its rest."""
    lively: set[str] = set()

    @settings(max_examples=example_count(examples), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @drawn
    def alike(seed: int, tick: int, quantile: float, min_samples: int) -> None:
        facts = facts_of(seed, tick=tick, quantile=quantile, min_samples=min_samples)
        snapshot, pending, arrivals = told(make(replace(facts.sharing, tick_s=1e-6)), facts)  # every snapshot reads tails anew
        assert_alike(facts.snapshot, snapshot)
        assert_same_requests(facts.pending, pending, facts.snapshot, snapshot)
        assert_same_requests(facts.arrivals, arrivals, facts.snapshot, snapshot)
        for name, rest in (
            ("slack", 1),
            ("in_flight", 0),
            ("in_flight_work_s", 0),
            ("be_pods", 0),
            ("pending_be", 0),
            ("cpu_used", 0),
        ):
            if (getattr(snapshot, name) != rest).any():
                lively.add(name)
        if snapshot.allocatable[len(EVERYWHERE) :].any():
            lively.add("extended")

    alike()
    assert lively >= {"slack", "in_flight", "in_flight_work_s", "be_pods", "cpu_used", "extended"}


def test_the_fakes_show_policies_what_the_engine_shows_them() -> None:
    """The tests of use cases run on the fakes: a column that they make up hides what a policy sees live."""
    check(lambda sharing: memory_world(sharing=sharing), examples=60)


def test_postgresql_shows_policies_what_the_engine_shows_them(database_url: str) -> None:
    """One control logic: a policy trained or judged in simulation finds every column live as it knows it."""
    check(lambda sharing: postgres_world(database_url, sharing=sharing), examples=25)
