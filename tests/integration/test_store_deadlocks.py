"""Every writer of the store at the same rows at once, in whatever order callers name them: PostgreSQL never has to break a circle."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import psycopg2

from tango.domain.lifecycle import ENDS, Outcome
from tango.domain.runs import RunStatus
from tango.domain.simulations import NewSimulation
from tango.errors import Fenced, UsageError
from tango.settings import StoreSettings
from tango.store.database import Database
from tango.store.simulations import PostgresSimulationStore
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import (
    BATCH,
    FLEET,
    LIVE_S,
    OVER_S,
    SERVICES,
    WEB,
    ZERO_S,
    StoreWorld,
    instance_of,
    node_states,
    postgres_world,
)

WRITERS = 8
LASTS_S = 8.0
ROWS = 160
RUNS = 2
CELL = NewSimulation(
    key="k",
    cell={},
    name="cell",
    system="tango",
    fleet="pair",
    fleet_hash="f" * 64,
    seed=1,
    trace_source="",
    span_s=1.0,
    settings={},
)


class Writer:
    """One connection that calls the writers of all stores in turn, by chance, on rows that the others write too."""

    def __init__(self, url: str, runs: list[int], seed: int) -> None:
        self.database = Database(url)
        self.world = postgres_world(self.database, store=StoreSettings(chunk_rows=50))
        self.simulations = PostgresSimulationStore(self.database)
        self.runs = runs
        self.random = random.Random(seed)
        self.owner = f"writer-{seed}"

    def some(self) -> list[int]:
        """Ids in disorder: no caller promises one."""
        return self.random.sample(range(ROWS), 60)

    def run(self) -> int:
        """One of the runs."""
        return self.random.choice(self.runs)

    def epochs(self, run_id: int) -> dict[int, int]:
        """The epoch of every row, as somebody may have been told."""
        return {k: row.epoch for k, row in enumerate(self.world.rows(run_id))}

    def release(self) -> None:
        """The replayer."""
        self.world.requests.release_due(self.run(), until_s=1e9, limit=60)

    def dispatch(self) -> None:
        """A cluster worker; some of it is shed."""
        run_id = self.run()
        read = self.world.arrivals(run_id, self.some())
        self.world.dispatch_read(run_id, read, lease_s=self.random.choice([LIVE_S, OVER_S]), shed=self.random.random() < 0.1)

    def claim_and_renew(self) -> None:
        """An executor."""
        run_id, ids = self.run(), self.some()
        known = self.epochs(run_id)
        told = [known.get(k, 0) for k in ids]
        self.world.requests.claim_execution(run_id, "c1", ids, told, owner=self.owner, lease_s=LIVE_S)
        self.world.requests.renew(run_id, ids, told, lease_s=LIVE_S)

    def renew(self) -> None:
        """An agent's heartbeat."""
        run_id, ids = self.run(), self.some()
        known = self.epochs(run_id)
        self.world.requests.renew(run_id, ids, [known.get(k, 0) for k in ids], lease_s=LIVE_S)

    def settle(self) -> None:
        """Results of both runs in one call."""
        known = {run_id: self.epochs(run_id) for run_id in list(self.runs)}
        self.world.requests.settle(
            [
                Outcome(run_id=run_id, request_id=k, epoch=known[run_id].get(k, 0), event=self.random.choice(ENDS))
                for k in self.some()
                for run_id in self.random.sample(list(known), len(known))
            ]
        )

    def sweep(self) -> None:
        """The reconciler."""
        self.world.requests.requeue_expired(limit=100)
        self.world.requests.unclaimed(older_than_s=OVER_S, limit=100)

    def admit(self) -> None:
        """A cluster worker."""
        self.world.requests.admit_be(self.run(), self.some(), most_memory_mib={"batch": 8192.0})

    def place(self) -> None:
        """A scheduler, or one that has been overtaken."""
        fence = self.world.leases.acquire("place-be", owner=self.owner, ttl_s=OVER_S if self.random.random() < 0.5 else LIVE_S)
        if fence is not None:
            try:
                self.world.place(self.world.requests.pending_be(limit=60), fence)
            except Fenced:
                return
            self.world.leases.release(fence)

    def mark_running(self) -> None:
        """An agent, of both runs."""
        known = {run_id: self.epochs(run_id) for run_id in list(self.runs)}
        seen = [(run_id, k, known[run_id].get(k, 0), ZERO_S) for k in self.some() for run_id in known]
        self.world.requests.mark_running(seen, lease_s=LIVE_S)

    def move_run(self) -> None:
        """Status and figures of a run."""
        run_id = self.run()
        self.world.runs.set_status(run_id, RunStatus.RUNNING)
        self.world.runs.save_metrics(run_id, {"accepted": ROWS, "lc_qos_rate": 1.0})

    def cancel_and_delete(self) -> None:
        """A run that the others still write goes, and another takes its place."""
        if self.random.random() < 0.1:
            k = self.random.randrange(RUNS)
            gone = self.runs[k]
            self.runs[k] = fresh_run(self.world)
            self.world.cancel(gone)
            self.world.runs.delete(gone)

    def observe(self) -> None:
        """Two agents of one cluster, as after a restart."""
        cluster = self.random.choice(FLEET.clusters)
        nodes = self.random.sample(node_states(cluster), len(cluster.nodes))
        instances = [instance_of(WEB, node.name) for node in nodes]
        self.world.fleet.observe(cluster.name, nodes, instances, sample=True)

    def declare(self) -> None:
        """Services and clusters, in any order."""
        services = self.random.sample(SERVICES, len(SERVICES))
        self.world.fleet.put_services(services)
        if self.random.random() < 0.2:
            self.world.fleet.declare(FLEET, kubeconfig="/kubeconfig", contexts={c.name: c.name for c in FLEET.clusters})

    def simulate(self) -> None:
        """A simulated run from the order to its end."""
        (opened,) = self.simulations.open([CELL], record=False, forget=True)
        claim = self.simulations.claim(opened.run_id, owner=self.owner, lease_s=OVER_S, most_claims=1000)
        self.simulations.unclaimed([opened.run_id], after_s=0.0, busy=False, limit=5)
        if claim is not None:
            self.simulations.renew(claim, lease_s=OVER_S)
            if self.random.random() < 0.5:
                self.simulations.finish(claim, result={}, figures={"accepted": 0}, rows=None)
            else:
                self.simulations.fail(claim, "no")

    def actions(self) -> list[Callable[[], None]]:
        """All of them; those that lock many rows more often."""
        many = [
            self.release,
            self.dispatch,
            self.claim_and_renew,
            self.renew,
            self.settle,
            self.mark_running,
            self.admit,
            self.place,
        ]
        return [*many, *many, self.sweep, self.move_run, self.cancel_and_delete, self.observe, self.declare, self.simulate]


def fresh_run(world: StoreWorld) -> int:
    """LC and BE requests in turn."""
    return world.create(*[WEB, BATCH] * (ROWS // 2), gap_s=0.0001)


def deadlocks(urls: DatabaseUrls) -> int:
    """How often PostgreSQL has broken a circle of waits in this database, once the writers' connections are closed.

    A server process tells its counts every second or so, and at its end at the latest: all of them must have ended.
    """
    connection = psycopg2.connect(urls.admin)
    connection.autocommit = True  # each look at the activity and the counts is a fresh one
    with connection.cursor() as cursor:
        for _ in range(200):
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tango'"
            )
            if cursor.fetchone() == (0,):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("connections of the writers are still open")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        found = int(cursor.fetchone()[0])
    connection.close()
    return found


def test_all_writers_at_the_same_rows_never_wait_in_a_circle(database_urls: DatabaseUrls) -> None:
    """Eight connections, all writers of the store, the same two runs, ids in disorder: no deadlock, no error, and the books add up."""
    runs: list[int] = []
    writers = [Writer(database_urls.app, runs, seed) for seed in range(WRITERS)]
    first = writers[0].world
    runs += [fresh_run(first) for _ in range(RUNS)]
    until_s = time.monotonic() + LASTS_S
    failures: list[BaseException] = []
    calls = [0] * WRITERS

    def write(k: int) -> None:
        actions = writers[k].actions()
        while time.monotonic() < until_s and not failures:
            try:
                writers[k].random.choice(actions)()
                calls[k] += 1
            except UsageError:
                continue  # a run that another writer has deleted since
            except BaseException as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(k,)) for k in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for writer in writers:
        writer.database.close()

    assert (deadlocks(database_urls), failures) == (0, [])
    assert min(calls) > 10
    assert [first.runs.counts(run_id).accepted for run_id in runs] == [ROWS] * RUNS
