"""`tango bench store`: how fast `run_summary` answers over millions of requests, beside `count(*)` over the same rows in the same run.

A PostgreSQL of its own gets runs of requests, each in its partition and all but the last ended with their figures. In the last one
requests are then changed chunk by chunk, and nobody adds the changes up: what a reader finds while a run is busy and the reconciler is
away. Before anything is measured the summary is compared with an aggregate over all rows.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

from tango.bench.figures import Figure, Told
from tango.errors import StoreError
from tango.stack.postgres import PostgresServer
from tango.store.database import Database
from tango.store.migrate import migrate

CHUNK = 250_000
"""Requests that one statement makes: seconds, where the time-out of statements is a minute."""
CHANGES = 500
"""Statements that change requests of the last run, whose changes of counts are not added up."""
ROWS_CHANGED = 200
"""Requests that each of them changes."""
COUNTS = 3
"""Times that rows are counted, whose median is given: seconds each."""
METRICS = 40
"""Figures of an ended run; about as many as a live run has."""

_RUN = """
INSERT INTO run (kind, name, status, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, settings,
                 started_at, ended_at)
VALUES ('replayed', 'bench', %s, 'tango', 'bench', '', 1, 1, true, 'bench', %s * 0.001, %s, '{}', now(), %s::timestamptz)
RETURNING run_id
"""
# Two of three LC; all states; latencies up to twice the target, so that about half are in time.
_REQUESTS = """
INSERT INTO request_{run} (run_id, request_id, class, service, cluster, due_s, target_s, cpu_work_s, memory_mib, state, epoch, attempt,
                           target_cluster, node, started_s, finished_s)
SELECT {run}, k, CASE WHEN k %% 3 < 2 THEN 'lc' ELSE 'be' END::service_class, 'service-' || k %% 8, 'c' || k %% 3, k * 0.001,
       CASE WHEN k %% 3 < 2 THEN 0.2 END, 0.01, 64,
       (CASE WHEN {live} AND k %% 2 = 0 THEN 'accepted' WHEN k %% 50 = 0 THEN 'failed' WHEN k %% 50 = 7 THEN 'shed' ELSE 'succeeded' END
       )::request_state, 1, 1, 'c' || k %% 3, 'node-' || k %% 64, k * 0.001 + 0.01, k * 0.001 + (k %% 401) * 0.001
FROM generate_series(%(first)s, %(last)s) k
"""
_CHANGE = """
UPDATE request SET state = 'succeeded', finished_s = due_s + 0.1
WHERE run_id = %(run)s AND request_id = ANY (ARRAY(SELECT k FROM generate_series(%(first)s, %(first)s + 2 * %(rows)s - 1, 2) k))
"""
_SUMMARY = "SELECT * FROM run_summary"
_COUNT = "SET LOCAL max_parallel_workers_per_gather = 2; SELECT count(*) FROM request"
"""As fast as PostgreSQL counts by itself: Tango's own sessions do without the processes that it starts beside (`FOR_SHORT_STATEMENTS`)."""
_OF_ROWS = """
SELECT run_id, count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state = 'shed'), count(*) FILTER (WHERE state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')),
       count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s)
FROM request GROUP BY run_id ORDER BY run_id
"""
_OF_SUMMARY = "SELECT run_id, accepted, succeeded, failed, shed, live, lc_in_time FROM run_summary ORDER BY run_id"


def measure(*, requests: int, runs: int, reads: int, told: Told) -> list[Figure]:
    """Milliseconds of `run_summary` over `runs` runs of `requests` requests in all, read `reads` times.

    Raises: StoreError where the summary is not what the rows say.
    """
    with tempfile.TemporaryDirectory(prefix="tango-bench-store-") as home, own_database(Path(home) / "home") as database:
        return measure_in(database, requests=requests, runs=runs, reads=reads, told=told)


def measure_in(database: Database, *, requests: int, runs: int, reads: int, told: Told) -> list[Figure]:
    """`measure` in a database that has the schema and no runs."""
    began_s = time.perf_counter()
    last = _fill(database, requests, runs, told)
    told(f"{requests:,} requests in {runs} runs after {time.perf_counter() - began_s:.0f} s")
    ((size_bytes,),) = database.rows("SELECT sum(pg_total_relation_size('request_' || run_id)) FROM run")
    aggregate_ms = times_ms(lambda: database.rows(_OF_ROWS), 1)[0]
    if database.rows(_OF_SUMMARY) != database.rows(_OF_ROWS):
        raise StoreError("run_summary does not say what the rows say: this is a defect in Tango")
    told("the summary is that of the rows; measuring")
    whole_ms = times_ms(lambda: database.rows(_SUMMARY), reads)
    one_ms = times_ms(lambda: database.rows(f"{_SUMMARY} WHERE run_id = %s", (last,)), reads)
    count_ms = median(times_ms(lambda: database.rows(_COUNT), COUNTS))
    count_one_ms = median(times_ms(lambda: database.rows(f"{_COUNT} WHERE run_id = %s", (last,)), COUNTS))
    counted, counted_one = "count(*) of the same requests", "count(*) of its requests"
    return [
        Figure(name="run_summary, p50", value=median(whole_ms), unit="ms", yardstick=counted, yardstick_value=count_ms),
        Figure(name="run_summary, p99", value=p99(whole_ms), unit="ms", yardstick=counted, yardstick_value=count_ms),
        Figure(name="one busy run, p99", value=p99(one_ms), unit="ms", yardstick=counted_one, yardstick_value=count_one_ms),
        Figure(name="the same counts from the rows", value=aggregate_ms, unit="ms", yardstick=counted, yardstick_value=count_ms),
        Figure(name="a request on disk", value=float(size_bytes) / requests, unit="bytes"),
    ]


def times_ms(read: Callable[[], object], times: int) -> list[float]:
    """Milliseconds that each of so many calls took."""
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        read()
        taken.append((time.perf_counter() - began_s) * 1e3)
    return taken


def p99(taken_ms: list[float]) -> float:
    """The 99th percentile of at least two values."""
    return quantiles(taken_ms, n=100)[98]


@contextmanager
def own_database(home: Path) -> Iterator[Database]:
    """A PostgreSQL in this folder, with the schema; it ends and is discarded with the block."""
    home.mkdir(mode=0o700)
    server = PostgresServer(home, password=secrets.token_urlsafe(16))
    server.start()
    database = Database(server.admin_url())
    try:
        migrate(server.admin_url())
        yield database
    finally:
        database.close()
        server.stop()
        server.discard()


def _fill(database: Database, requests: int, runs: int, told: Told) -> int:
    """Runs as equal as may be, the last of which goes on; gives its id."""
    run_id = 0
    for number in range(runs):
        of_run = requests // runs + (number < requests % runs)
        goes_on = number == runs - 1
        status, ended_at = ("running", None) if goes_on else ("completed", "now")
        ((run_id,),) = database.rows(_RUN, (status, of_run, of_run, ended_at))
        database.rows("SELECT make_request_partition(%s)", (run_id,))
        for first in range(0, of_run, CHUNK):
            of_chunk = {"first": first, "last": min(first + CHUNK, of_run) - 1}
            database.execute(_REQUESTS.format(run=run_id, live="true" if goes_on else "false"), of_chunk)
        database.rows("SELECT attach_request_partition(%s)", (run_id,))
        if not goes_on:
            database.execute(
                "INSERT INTO run_metric (run_id, name, value) SELECT %s, name, 0.5 FROM unnest("
                "ARRAY['lc_qos_rate', 'lc_latency_p95_ms', 'be_completed', 'evictions'] || "
                "ARRAY(SELECT 'figure_' || k FROM generate_series(5, %s) k)) name",
                (run_id, METRICS),
            )
        told(f"run {run_id}: {of_run:,} requests")
    in_all = requests // runs
    for change in range(min(CHANGES, in_all // (2 * ROWS_CHANGED))):
        database.execute(_CHANGE, {"run": run_id, "first": 2 * ROWS_CHANGED * change, "rows": ROWS_CHANGED})
    return int(run_id)
