"""Every writer of the store at the same rows at once, in whatever order callers name them: PostgreSQL never has to break a circle."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable

import psycopg2

from tango.domain.identity import RequestKey
from tango.domain.jobs import ContainerLog, JobEnd, NewJob
from tango.domain.lifecycle import ENDS, TERMINAL, Event, Outcome
from tango.domain.requests import Reason, RequestState
from tango.domain.runs import RunStatus
from tango.domain.shares import DecisionCopy, LcInFlight, LcWait, Shipment
from tango.domain.simulations import NewSimulation
from tango.errors import Fenced, StoreUnavailable, UsageError
from tango.settings import StoreSettings
from tango.store.database import Database
from tango.store.simulations import PostgresSimulationStore
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import (
    BATCH,
    FLEET,
    LC_DECISION,
    LIVE_S,
    OVER_S,
    SERVICES,
    WEB,
    ZERO_S,
    StoreWorld,
    attempt_of,
    copy_of,
    instance_of,
    node_states,
    postgres_world,
)
from tests.long import LONG

CLUSTERS = tuple(cluster.name for cluster in FLEET.clusters)
WRITERS = 8
LASTS_S = 60.0 if LONG else 4.0
ROWS, JOBS = 160, 40
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

    def __init__(self, url: str, runs: list[int], jobs: list[RequestKey], seed: int) -> None:
        self.database = Database(url)
        self.world = postgres_world(self.database, store=StoreSettings(chunk_rows=50))
        self.simulations = PostgresSimulationStore(self.database)
        self.runs, self.jobs = runs, jobs
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

    def hand_over(self) -> None:
        """The agent of a cluster opens its shares and notes how far it has come."""
        cluster = self.random.choice(CLUSTERS)
        for run, _ in self.world.shares.followed([cluster]).shares[cluster]:
            if self.world.shares.open_share(run.run_id, cluster):
                rows = self.world.shares.share_rows(run.run_id, cluster, beyond=-1, limit=self.random.randrange(1, ROWS))
                up_to = int(rows.request_id.max(initial=-1))
                self.world.shares.handed(run.run_id, cluster, up_to=up_to, complete=self.random.random() < 0.3)

    def ship(self) -> None:
        """Agents of one cluster, of which two may ship at once, what happened in all of its runs, deleted ones among them."""
        cluster, journal = self.random.choice(CLUSTERS), self.random.choice(("first", "second"))
        position = self.world.shares.position(cluster, journal)
        runs = self.random.sample([*self.runs, self.runs[0] - 1], RUNS + 1)
        some = [(run_id, k) for k in self.some() for run_id in runs]
        ended = [self.random.choice((RequestState.RUNNING, RequestState.RELEASED, RequestState.SUCCEEDED)) for _ in some]
        self.world.shares.apply(
            Shipment(
                cluster=cluster,
                journal=journal,
                first=position + 1,
                last=position + len(some),
                requests=tuple(
                    copy_of(run_id, k, state, epoch=self.random.randrange(4))
                    for (run_id, k), state in zip(some, ended, strict=True)
                ),
                attempts=tuple(attempt_of(run_id, k, epoch=self.random.randrange(4)) for run_id, k in some),
                decisions=tuple(DecisionCopy(run_id=run_id, at_s=ZERO_S, record=LC_DECISION, apply_ms=0.1) for run_id in runs),
            )
        )

    def note_in_flight(self) -> None:
        """Two agents of one cluster, and readers of the fleet."""
        nodes = self.random.sample(FLEET.clusters, len(FLEET.clusters))
        told = [LcInFlight("web", cluster.name, cluster.nodes[0].name, 1, 1.0) for cluster in nodes]
        self.world.shares.note_in_flight(self.random.choice(CLUSTERS), told, LcWait())
        self.world.shares.published_fleet("c1", at_s=0.0)

    def move_run(self) -> None:
        """Status and figures of a run."""
        run_id = self.run()
        self.world.runs.set_status(run_id, RunStatus.RUNNING)
        self.world.figures.order(run_id)
        claim = self.world.figures.claim(lease_s=OVER_S, most_claims=1000)
        # Seldom: it completes the run, and little happens to that until another takes its place.
        if claim is not None and self.world.figures.renew(claim, lease_s=OVER_S) and self.random.random() < 0.05:
            self.world.figures.save(claim, {}, {"accepted": ROWS, "lc_qos_rate": 1.0})

    def cancel_and_delete(self) -> None:
        """A run that the others still write goes, and another takes its place."""
        if self.random.random() < 0.1:
            k = self.random.randrange(RUNS)
            gone = self.runs[k]
            self.runs[k] = fresh_run(self.world)
            self.world.runs.cancel(gone)
            for share in self.world.shares.shares(gone):  # what journals have taken, they have cancelled
                self.world.ship(
                    *(copy_of(gone, k, RequestState.CANCELLED, epoch=9) for k in range(ROWS)),
                    cluster=share.cluster,
                    journal=self.owner,
                )
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

    def work_at_jobs(self) -> None:
        """A caller who withdraws, the scheduler, and two agents that tell of the same jobs, each in an order of its own."""
        self.world.admit(self.jobs[0].run_id, [job.request_id for job in self.jobs])
        some = self.random.sample(self.jobs, len(self.jobs) // 2)
        known = self.epochs(self.jobs[0].run_id)
        self.world.jobs.note_waiting(
            {(*job, known[job.request_id]): self.random.choice(("", "no node has room")) for job in reversed(some)}
        )
        ended = self.random.sample(self.jobs, len(self.jobs) // 4)
        self.world.jobs.end([self.job_end(job, known[job.request_id]) for job in ended])
        self.world.jobs.drop_logs(older_than_s=3600.0, most_bytes=1000)
        if self.random.random() < 0.02:
            self.world.jobs.withdraw(self.random.choice(self.jobs))

    def job_end(self, job: RequestKey, epoch: int) -> JobEnd:
        """With a log; most are tried again."""
        event = Event.REQUEUE if self.random.random() < 0.95 else Event.FAIL
        outcome = Outcome(run_id=job.run_id, request_id=job.request_id, epoch=epoch, event=event, reason=Reason.EVICTED)
        return JobEnd(outcome=outcome, exit_code=1, logs=(ContainerLog(container="main", tail=b"x" * 40, is_whole=True),))

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
            self.ship,
            self.renew,
            self.settle,
            self.mark_running,
            self.admit,
            self.place,
            self.work_at_jobs,
        ]
        return [
            *many,
            *many,
            self.sweep,
            self.world.runs.fold_counts,
            self.hand_over,
            self.note_in_flight,
            self.move_run,
            self.cancel_and_delete,
            self.observe,
            self.declare,
            self.simulate,
        ]


def fresh_run(world: StoreWorld) -> int:
    """LC and BE requests at both clusters."""
    return world.create(*[WEB, BATCH, BATCH, WEB] * (ROWS // 4), gap_s=0.0001)


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


_DIFFERENT = """
SELECT run_id, class::text, state::text, counted.requests, kept.requests FROM (
    SELECT run_id, class, state, count(*) AS requests,
           count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s) AS in_time
    FROM request WHERE run_id = ANY (%(runs)s) GROUP BY 1, 2, 3
) counted FULL JOIN (
    SELECT run_id, class, state, sum(requests) AS requests, sum(in_time) AS in_time
    FROM (SELECT run_id, class, state, requests, in_time FROM run_count
          UNION ALL SELECT run_id, class, state, requests, in_time FROM run_count_change) c
    WHERE run_id = ANY (%(runs)s) GROUP BY 1, 2, 3 HAVING sum(requests) <> 0
) kept USING (run_id, class, state)
WHERE counted.requests IS DISTINCT FROM kept.requests OR counted.in_time IS DISTINCT FROM kept.in_time
"""
"""Counts that are not those of the rows at the same instant."""


class Written:
    """Eight writers at the same two runs for some seconds, and what was seen meanwhile."""

    def __init__(self, urls: DatabaseUrls, *, kills_every_s: float = 0.0) -> None:
        self.failures: list[BaseException] = []
        self.differences: list[tuple[object, ...]] = []
        self.looks = self.kills = 0
        self.runs: list[int] = []
        self.jobs: list[RequestKey] = []
        self.writers = [Writer(urls.app, self.runs, self.jobs, seed) for seed in range(WRITERS)]
        self.first = self.writers[0].world
        self.jobs += [self.first.jobs.submit(NewJob(service="batch", key=str(k))).key for k in range(JOBS)]
        self.runs += [fresh_run(self.first) for _ in range(RUNS)]
        self.calls = [0] * WRITERS
        self._until_s = time.monotonic() + LASTS_S
        self._kills_every_s = kills_every_s
        threads = [threading.Thread(target=self._write, args=(k,)) for k in range(WRITERS)]
        threads += [threading.Thread(target=self._look, args=(urls.app,)), threading.Thread(target=self._kill, args=(urls.admin,))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _goes_on(self) -> bool:
        return time.monotonic() < self._until_s and not self.failures

    def _write(self, k: int) -> None:
        actions = self.writers[k].actions()
        while self._goes_on():
            try:
                self.writers[k].random.choice(actions)()
                self.calls[k] += 1
            except UsageError:
                continue  # a run that another writer has deleted since
            except StoreUnavailable as error:
                if not self._kills_every_s:
                    self.failures.append(error)
            except BaseException as error:
                self.failures.append(error)

    def _look(self, url: str) -> None:
        database = Database(url)
        while self._goes_on():
            try:
                self.differences += database.rows(_DIFFERENT, {"runs": list(self.runs)})
                self.looks += 1
            except StoreUnavailable:
                continue
            time.sleep(0.02)
        database.close()

    def _kill(self, url: str) -> None:
        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while self._kills_every_s and self._goes_on():
                time.sleep(self._kills_every_s)
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name = 'tango' AND state <> 'idle' ORDER BY random() LIMIT 1"
                )
                self.kills += cursor.rowcount


def test_all_writers_at_the_same_rows_never_wait_in_a_circle(database_urls: DatabaseUrls) -> None:
    """Eight connections, all writers of the store, the same two runs, ids in disorder: no deadlock, no error, and the books add up: what
    is kept of states is what the rows say, at every instant."""
    written = Written(database_urls)
    first, runs = written.first, written.runs
    # LC requests enter c1 with ids 0, 4, 8 … and c2 with ids 3, 7, 11 …
    lc = {(run_id, cluster): first.rows(run_id)[k::4] for run_id in runs for k, cluster in ((0, "c1"), (3, "c2"))}
    told = {(run_id, s.cluster): s.terminal for run_id in runs for s in first.shares.shares(run_id)}
    # Two writers that replace one run at once leave one of the new ones to nobody: it exists, and so do its counts.
    left = " UNION ".join(
        f"SELECT run_id FROM {table} WHERE run_id NOT IN (SELECT run_id FROM run)" for table in ("run_count", "run_count_change")
    )
    of_deleted = written.writers[0].database.rows(left)
    accepted = [first.runs.counts(run_id).accepted for run_id in runs]
    for writer in written.writers:
        writer.database.close()

    assert (deadlocks(database_urls), written.failures) == (0, [])
    assert told == {share: sum(row.state in TERMINAL for row in rows) for share, rows in lc.items()}
    assert min(written.calls) > 10
    assert accepted == [ROWS] * RUNS
    assert (written.differences, of_deleted) == ([], [])
    assert written.looks > 10


def test_counts_are_those_of_the_rows_although_writers_are_killed(database_urls: DatabaseUrls) -> None:
    """A transaction that ends in the middle changes neither."""
    written = Written(database_urls, kills_every_s=0.05)
    for writer in written.writers:
        writer.database.close()

    assert (written.failures, written.differences) == ([], [])
    assert written.looks > 10
    assert written.kills > 10
