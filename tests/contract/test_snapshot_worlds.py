"""What a policy sees is the same in both worlds: the same facts through the engine, the fakes, PostgreSQL and the journals of clusters
give the same columns.

A small simulated run is stopped at a tick of the centre. What the engine has by then (who was placed and dispatched where, who waits, what
was answered and how late) is told to the stores through their own ports, and the snapshots are compared column by column. Rows are
compared by name: a store orders nodes and services by name, a simulation as its fleet declares them.

What a cluster's dispatcher sees comes from its journal: what the centre has published to it, what its agent observes, and what the journal
itself has in flight.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tango.domain.fleet import Fleet
from tango.domain.observations import NODE_PRESSURES, ExtendedState, InstanceState, NodeState
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.resource_axis import EVERYWHERE, MEMORY
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.shares import AttemptCopy, LcInFlight, LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import as_seen
from tango.journal.journal import SqliteJournal
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LcSettings, Settings, SharingSettings, SimSettings
from tango.sim import codes
from tango.sim.dispatching import publish
from tango.sim.sharing_round import share_out
from tango.sim.simulate import Given, _Run
from tango.store.database import Database
from tango.systems import System
from tests.fakes.journal_world import LC, LEASE, HairClock, run_info
from tests.fakes.sim_worlds import draw_sim_world
from tests.fakes.store_world import (
    AS_SHIPPED,
    DECISION,
    LC_DECISION,
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
OPTIONAL = ("others", "barred", *NODE_PRESSURES)
"""Columns of a snapshot that are None where no node has anything of it."""
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is so at one tick of a simulated run, with what the engine shows its policies then."""

    fleet: Fleet
    requests: NewRequests
    sharing: SharingSettings
    snapshot: FleetSnapshot
    at_dispatcher: FleetSnapshot
    """What the LC policy of a cluster is shown."""
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
        given=Given(outages=(), be=be),
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
        # A pod stands at its node's API server as soon as it is placed; its agent counts it by what it asks for.
        of_be = dict(zip(world.resources.names, e.holdings.placed[:, n].astype(int).tolist(), strict=True))
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
                be_cpu_request_millicores=of_be["cpu"],
                be_cpu_limit_millicores=int(sites["placed_limit"][n]),
                be_memory_held_mib=of_be["memory"],
                be_pods=of_be["pods"],
                pods_allocatable=node.pods,
                extended={name: ExtendedState(allocatable=amount, be_held=of_be.get(name, 0)) for name, amount in node.extended},
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
        at_dispatcher=views.dispatcher(),
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


def told(world: StoreWorld, facts: Facts) -> tuple[int, FleetSnapshot, BePending, LcArrivals]:
    """The facts through the ports of a store: the run that has them, and what the store shows policies then."""
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
    return run_id, snapshot, as_seen(world.requests.pending_be(limit=1000), snapshot).pending, arrivals


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


def at_cluster(
    world: StoreWorld, run_id: int, cluster: str, facts: Facts, journal: SqliteJournal
) -> tuple[FleetSnapshot, LcArrivals, FleetSnapshot]:
    """The same through the empty journal of a cluster: what its LC policy is shown of the fleet and of the requests that wait, before any
    is dispatched, and of the fleet when all are dispatched that the engine has dispatched."""
    journal.publish(world.shares.published_fleet(cluster, at_s=0.0))
    journal.observe(facts.nodes[cluster], facts.instances[cluster])
    journal.follow([run_info(run_id, speed=1.0, accepted=len(facts.requests))])
    share = world.shares.share_rows(run_id, cluster, beyond=-1, limit=10_000)
    journal.take(run_id, share)
    arrived = [r for r in share.request_id.tolist() if r in facts.arrived]
    journal.release_due(run_id, until_s=max((float(facts.requests.due_s[r]) for r in arrived), default=-1.0), limit=10_000)
    before = journal.snapshot(at_s=facts.snapshot.at_s)
    arrivals = journal.waiting_lc(run_id, arrived, before)
    sent = [k for k, r in enumerate(arrivals.request_id.tolist()) if r in facts.node and r not in facts.ended]
    to_row, keys = _rows(before), list(_rows(facts.snapshot))
    node = [to_row[keys[facts.node[r]]] for r in arrivals.request_id[sent].tolist()]
    nothing = np.zeros(len(sent), np.bool_)
    plan = LcPlan(node=np.array(node, np.int32), late=nothing, shed=nothing, expected_s=np.zeros(len(sent)), policy="test")
    dispatched = journal.record_dispatch(run_id, _of_arrivals(arrivals, sent), plan, before, LC_DECISION, lease_s=LIVE_S)
    assert len(dispatched.request_ids) == len(sent)
    return before, arrivals, journal.snapshot(at_s=facts.snapshot.at_s)


def with_what_only_real_clusters_have(facts: Facts, seed: int) -> Facts:
    """Cordons, pods of others, instances to be made, pressure: by the engine's model there are none."""
    rng = np.random.default_rng(seed)
    lc = [s.name for s in facts.fleet.services if s.service_class is ServiceClass.LC]

    def drawn(node: NodeState) -> NodeState:
        return replace(
            node,
            schedulable=bool(rng.random() < 0.7),
            other_cpu_request_millicores=int(rng.integers(0, 500)),
            other_memory_held_mib=int(rng.integers(0, 200)),
            other_pods=int(rng.integers(0, 3)),
            lc_awaited={name: int(rng.integers(1, 3)) for name in lc if rng.random() < 0.4},
            lc_cpu_pressure=float(rng.random()) if rng.random() < 0.5 else None,
            memory_pressure=float(rng.random()) if rng.random() < 0.5 else None,
            lc_throttled=float(rng.random()) if rng.random() < 0.5 else None,
            cpu_used_millicores=float(rng.integers(0, 900)) if rng.random() < 0.7 else None,
        )

    return replace(facts, nodes={cluster: [drawn(node) for node in nodes] for cluster, nodes in facts.nodes.items()})


def _of_arrivals(arrivals: LcArrivals, rows: list[int]) -> LcArrivals:
    return replace(arrivals, **{column.name: getattr(arrivals, column.name)[rows] for column in fields(arrivals)})


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
        if column.name in OPTIONAL and not (mine is None and its is None):
            mine, its = (np.zeros_like(beside) if of is None else of for of, beside in ((mine, its), (its, mine)))
        if column.name == "node_cluster":
            its = np.array([cluster.index(k) for k in its[node]])
        elif column.name in ("rtt_ms", "bandwidth_mbit_per_s"):
            its = its[np.ix_(cluster, cluster)]
        elif its is None:
            compared += column.name in OPTIONAL
            continue
        elif column.name in ("allocatable", "lc_requests", "be_requests", "others"):
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
    assert compared == 17 + len(OPTIONAL)
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


def as_often_as_asked(facts: Facts) -> SharingSettings:
    """Every snapshot reads tails anew."""
    return replace(facts.sharing, tick_s=1e-6)


def drawn(test: Callable[..., None]) -> Callable[[], None]:
    """A test on drawn facts, and on some in which every column is something else than its rest: few drawn ones have requests in flight."""
    test = given(
        seed=st.integers(0, 1_000_000),
        tick=st.integers(0, 8),
        quantile=st.sampled_from([0.5, 0.95, 1.0]),
        min_samples=st.sampled_from([1, 2, 5]),
    )(test)
    for seed, tick in ((22, 4), (11, 2), (1, 1)):
        test = example(seed=seed, tick=tick, quantile=0.95, min_samples=2)(test)
    return test


def check(make: Callable[[SharingSettings], StoreWorld], *, examples: int) -> None:
    """Both worlds on drawn facts; over all examples every column must have been something else than its rest."""
    lively: set[str] = set()

    @settings(max_examples=example_count(examples), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @drawn
    def alike(seed: int, tick: int, quantile: float, min_samples: int) -> None:
        facts = facts_of(seed, tick=tick, quantile=quantile, min_samples=min_samples)
        _, snapshot, pending, arrivals = told(make(as_often_as_asked(facts)), facts)
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
    check(lambda sharing: memory_world(sharing=sharing), examples=25)


def test_postgresql_shows_policies_what_the_engine_shows_them(database_url: str) -> None:
    """One control logic: a policy trained or judged in simulation finds every column live as it knows it."""
    check(lambda sharing: postgres_world(database_url, sharing=sharing), examples=25)


def test_the_journal_of_a_cluster_shows_lc_policies_what_the_engine_shows_them(database_url: str, tmp_path: Path) -> None:
    """And what PostgreSQL would show of the same instant, cordons, pods of others, pressure and instances to be made included: of a
    cluster's own nodes the journal has it from the agent, of the others as published."""
    lively: set[str] = set()
    files = itertools.count(1)
    database = Database(database_url)

    @settings(max_examples=example_count(15), deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @drawn
    def alike(seed: int, tick: int, quantile: float, min_samples: int) -> None:
        facts = facts_of(seed, tick=tick, quantile=quantile, min_samples=min_samples)
        is_real = seed % 2 == 1
        if is_real:
            facts = with_what_only_real_clusters_have(facts, seed)
        world = postgres_world(database, sharing=as_often_as_asked(facts))
        run_id, snapshot, _, _ = told(world, facts)
        for k, cluster in enumerate(c.name for c in facts.fleet.clusters):
            path = tmp_path / f"{next(files)}.sqlite"
            journal = SqliteJournal(path, cluster=cluster, lease=LEASE, lc=LC, store=AS_SHIPPED, wall_s=HairClock())
            before, arrivals, seen = at_cluster(world, run_id, cluster, facts, journal)
            journal.close()
            assert_alike(snapshot, seen)
            if not is_real:
                assert_alike(facts.snapshot, seen)
                assert_alike(facts.at_dispatcher, seen)
            entered = _of_arrivals(facts.arrivals, np.flatnonzero(facts.arrivals.entry_cluster == k).tolist())
            assert_same_requests(entered, arrivals, facts.snapshot, before)
            if (seen.in_flight != before.in_flight).any():
                lively.add("own requests in flight")
            if before.in_flight.any():
                lively.add("requests of others in flight")
        lively.update(name for name in OPTIONAL if getattr(snapshot, name) is not None)

    try:
        alike()
    finally:
        database.close()
    assert lively >= {"own requests in flight", "requests of others in flight", *OPTIONAL}
