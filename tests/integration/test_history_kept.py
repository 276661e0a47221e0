"""What the store keeps of runs: a summary that is right at every instant, and the deletion of runs that others need not wait for."""

from __future__ import annotations

import threading

import psycopg2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tango.bench import explained_rows
from tango.bench.store import measure_in
from tango.domain.requests import RequestState
from tango.store.database import Database
from tango.store.runs import PostgresRunStore
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import BATCH, WEB, ZERO_S, attempt_of, copy_of, new_requests, new_run, postgres_world
from tests.waiting import until

_CHANGE = st.tuples(
    st.just("change"),
    st.sets(st.integers(0, 7), min_size=1),
    st.sampled_from([str(state) for state in RequestState]),
    st.none() | st.floats(0.0, 4.0),
)
_STEPS = st.lists(
    st.one_of(_CHANGE, st.tuples(st.just("fold")), st.tuples(st.just("add"), st.sampled_from(["lc", "be"]))), max_size=8
)
_SUMMARY = """
SELECT accepted, succeeded, failed, shed, cancelled, live, lc_ended, lc_in_time FROM run_summary WHERE run_id = %s
"""
_OF_ROWS = """
SELECT count(*), count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE state = 'failed'),
       count(*) FILTER (WHERE state = 'shed'), count(*) FILTER (WHERE state = 'cancelled'),
       count(*) FILTER (WHERE state NOT IN ('succeeded', 'failed', 'shed', 'cancelled')),
       count(*) FILTER (WHERE class = 'lc' AND state IN ('succeeded', 'failed', 'shed', 'cancelled')),
       count(*) FILTER (WHERE class = 'lc' AND state = 'succeeded' AND finished_s - due_s <= target_s)
FROM request WHERE run_id = %s
"""


@given(steps=_STEPS)
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_summary_of_a_run_counts_its_rows_at_every_instant(database_url: str, steps: list[tuple[object, ...]]) -> None:
    """Whatever changed, was added, and was or was not added up yet; other runs beside it change nothing."""
    world, database = postgres_world(database_url), Database(database_url)
    run_id = world.runs.create_run(new_run(), new_requests([WEB, BATCH] * 4, gap_s=0.5))

    for number, step in enumerate(steps):
        match step:
            case ("change", ids, state, finished_s):
                database.execute(
                    "UPDATE request SET state = %s, finished_s = %s WHERE run_id = %s AND request_id = ANY (%s)",
                    (state, finished_s, run_id, sorted(ids)),
                )
            case ("add", service_class):
                database.execute(
                    "INSERT INTO request (run_id, request_id, class, service, cluster, due_s, target_s, cpu_work_s, memory_mib) "
                    "VALUES (%s, %s, %s, 'web', 'c1', 0, 1, 1, 1)",
                    (run_id, 100 + number, service_class),
                )
            case _:
                world.runs.fold_counts()
        assert database.rows(_SUMMARY, (run_id,)) == database.rows(_OF_ROWS, (run_id,))
    database.close()


def test_a_simulation_whose_requests_are_not_kept_is_summed_up_by_its_figures(database_url: str) -> None:
    """And of one that goes on nothing is known, where 0 would be wrong."""
    database = Database(database_url)
    for _ in range(2):
        database.execute(
            "INSERT INTO run (kind, name, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, settings) "
            "VALUES ('simulated', 'r', 's', 'f', 'h', 1, 1, true, 't', 1, 9, '{}')"
        )
    database.execute(
        "INSERT INTO run_metric (run_id, name, value) VALUES (1, 'succeeded', 7), (1, 'failed', 2), (1, 'shed', 0), "
        "(1, 'cancelled', 0), (1, 'live', 0), (1, 'lc_qos_rate', 0.5)"
    )

    found = database.rows("SELECT accepted, succeeded, failed, live, lc_ended, lc_qos_rate FROM run_summary ORDER BY run_id")

    assert found == [(9, 7, 2, 0, None, 0.5), (9, None, None, None, None, None)]


def test_nobody_waits_for_a_deletion_that_waits_for_a_reader(database_urls: DatabaseUrls) -> None:
    """A reader that has gone idle within its transaction holds the table of all requests; who comes after the deletion reads and writes on,
    and the run is deleted once the reader is gone.
    """
    world = postgres_world(database_urls.app)
    run_id, other = world.create(WEB), world.create(WEB)
    world.ship(copy_of(run_id, 0), attempts=[attempt_of(run_id, 0)])
    world.cancel(run_id)
    reader = psycopg2.connect(database_urls.reader)
    reader.cursor().execute("SELECT count(*) FROM request")
    deleting = threading.Thread(target=PostgresRunStore(Database(database_urls.app)).delete, args=(run_id,))
    passing = Database(database_urls.app)
    waits = "SELECT count(*) FROM pg_locks WHERE relation = 'request'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted"

    deleting.start()
    for _ in range(2):  # it tries, gives way, and tries again
        until(lambda: passing.rows(waits) == [(1,)], every_s=0.005)
        world.ship(copy_of(other, 0))
        until(lambda: passing.rows(waits) == [(0,)], every_s=0.005)
    waited = deleting.is_alive()
    still_there = passing.rows("SELECT count(*) FROM run WHERE run_id = %s", (run_id,))
    reader.close()
    deleting.join(60)

    assert waited
    assert still_there == [(1,)]
    assert [run.run_id for run in world.runs.runs()] == [other]


def test_who_holds_the_requests_for_too_long_is_named(database_urls: DatabaseUrls) -> None:
    """And the run can be deleted again."""
    world = postgres_world(database_urls.app)
    run_id = world.create(WEB)
    world.cancel(run_id)
    reader = psycopg2.connect(database_urls.reader)
    reader.cursor().execute("SELECT count(*) FROM request")

    failure = None
    try:
        world.runs.delete(run_id, within_s=0.0)
    except Exception as error:
        failure = error

    assert type(failure).__name__ == "StoreBusy"
    assert f"tango_reader (process {reader.info.backend_pid})" in str(failure)
    reader.close()
    world.runs.delete(run_id)
    assert world.runs.runs() == []


def test_what_was_observed_before_all_runs_that_are_left_goes_in_chunks(database_url: str) -> None:
    """Samples, events and decisions of no run that is there; from the start of the oldest run on all of it stays."""
    world, database = postgres_world(database_url), Database(database_url)
    run_id = world.create(WEB)  # begun at ZERO_S
    database.execute("UPDATE run SET submitted_at = started_at")
    for at_s in (ZERO_S - 50.0, ZERO_S - 10.0, ZERO_S + 10.0):
        database.execute(
            "INSERT INTO node_sample (at, cluster, node, cpu_allocatable_millicores, memory_allocatable_mib, lc_cpu_limit_millicores, "
            "lc_memory_held_mib, be_cpu_request_millicores, be_memory_held_mib, be_pods) "
            "VALUES (to_timestamp(%s), 'c1', 'n', 1, 1, 1, 1, 1, 1, 1)",
            (at_s,),
        )
        for runs in ([run_id], [4711]):
            database.execute(
                "INSERT INTO decision (at, kind, cluster, run_ids, policy, checkpoint, considered, placed, unplaced, late, shed, "
                "snapshot_ms, decide_ms, apply_ms, note) VALUES (to_timestamp(%s), 'lc', 'c1', %s, 'p', '', 1, 1, 0, 0, 0, 1, 1, 1, '')",
                (at_s, runs),
            )
    ages = "SELECT (extract(epoch FROM at) - %s)::int FROM {} ORDER BY 1"

    deleted = [world.runs.delete_observations(before_s=before_s) for before_s in (ZERO_S - 20.0, ZERO_S + 100.0, ZERO_S + 100.0)]

    assert deleted == [2, 2, 0]
    assert database.rows(ages.format("node_sample"), (ZERO_S,)) == [(10,)]
    assert database.rows(ages.format("decision WHERE run_ids = ARRAY[4711]"), (ZERO_S,)) == [(10,)]
    assert len(database.rows(ages.format("decision"), (ZERO_S,))) == 4


def test_the_benchmark_of_the_store_measures_what_is_right(database_urls: DatabaseUrls) -> None:
    """It refuses to measure a summary that is not that of the rows; a small world is enough to see that it runs."""
    told: list[str] = []

    figures = measure_in(Database(database_urls.admin), requests=3001, runs=2, reads=2, told=told.append)

    assert [figure.name for figure in figures][:2] == ["run_summary, p50", "run_summary, p99"]
    assert all(figure.value > 0 for figure in figures)
    assert "run 2: 1,500 requests" in told


def test_the_bench_explains_requests_in_all_live_states(database_urls: DatabaseUrls) -> None:
    """Those that wait for a node, that are due later, released, or sent to an instance; each beside reading its row."""
    told: list[str] = []

    figures = explained_rows.measure_in(Database(database_urls.admin), live=2000, reads=80, told=told.append)

    assert [figure.name for figure in figures] == [
        "an explanation, p99",
        "its queries, p99",
        "its queries, p50",
        "what a placement reads, p50",
        *(f"of one {state}, p99" for state in ("accepted", "dispatched", "pending", "released", "running")),
    ]
    assert all(figure.yardstick_value for figure in figures)
    assert told[-1] == "explaining 80 of 2,000 live requests"
