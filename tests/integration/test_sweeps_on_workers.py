"""`tango compare --on celery` with a real PostgreSQL, a real Valkey and real Celery workers, some of which are killed."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import redis

from tango.analysis.comparison import CellResult
from tango.control.finish_run import figures_now
from tango.experiments.cells import Cell, run_cell
from tango.experiments.sweeps import run_cells
from tango.fleets import load_fleet
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.run_records import PostgresRunRecords
from tango.systems import system
from tango.traces.workloads import Workload
from tests.commands import PROGRAM, Started, run_tango, start_program
from tests.conftest import DatabaseUrls
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
SHORT = (
    "compare",
    "p3",
    "--untuned",
    "--fleet",
    "single",
    "--duration",
    "10",
    "--load",
    "0.7",
    "--seeds",
    "2",
    "--on",
    "celery",
    "--no-bound",
)
SYSTEMS = ("k8s-native", "load-greedy")
LONG = (
    "compare",
    "p3",
    "--untuned",
    "--fleet",
    "demo",
    "--duration",
    "300",
    "--load",
    "0.9",
    "--seeds",
    "1",
    "--on",
    "celery",
    "--no-bound",
)


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A database, a broker, and who works on them."""

    urls: DatabaseUrls
    broker_url: str
    home: Path
    processes: list[subprocess.Popen[str] | Started]

    def _environment(self, home: Path | None) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | {
            "TANGO_HOME": str(home or self.home),
            "TANGO_DATABASE_URL": self.urls.app,
            "TANGO_READER_URL": self.urls.reader,
            "TANGO_BROKER_URL": self.broker_url,
            "TANGO_LEASE_PLACEMENT_S": "2",
            "TANGO_LEASE_UNCLAIMED_AFTER_S": "0.4",
            "PYTHONPATH": str(ROOT),
        }

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        """A command line, under way."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment(None)
        )
        self.processes.append(process)
        return process

    def tango(self, *arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A command line, to its end."""
        return run_tango(arguments, environment=self._environment(home), timeout_s=240.0)

    def json(self, *arguments: str, home: Path | None = None) -> Any:
        """What a command prints with `-o json`; it must succeed."""
        done = self.tango(*arguments, "-o", "json", home=home)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def worker(self) -> Started:
        """A worker of the queue, as the documentation starts it."""
        options = (
            "-n",
            f"simulator-{len(self.processes)}@%h",
            "-Q",
            "simulate",
            "--pool",
            "solo",
            "--without-mingle",
            "-l",
            "error",
        )
        self.processes.append(
            started := start_program("celery", "-A", "workers.app", "worker", *options, environment=self._environment(None))
        )
        return started

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows by the reader's role."""
        with psycopg2.connect(self.urls.reader, connect_timeout=5) as connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()

    @contextmanager
    def nothing_finishes(self) -> Iterator[None]:
        """Meanwhile no run can be completed, however fast its worker is: the table of figures, written with the result, is locked."""
        with psycopg2.connect(self.urls.owner, connect_timeout=5) as connection, connection.cursor() as cursor:
            cursor.execute("LOCK TABLE run_metric IN SHARE MODE")
            yield

    def wait_for(self, query: str, *, within_s: float = 200.0) -> None:
        """Until the query's one value is true."""
        with closing(psycopg2.connect(self.urls.reader, connect_timeout=5)) as connection, connection.cursor() as cursor:
            connection.autocommit = True

            def is_so() -> bool:
                cursor.execute(query)
                return bool(cursor.fetchall()[0][0])

            until(is_so, within_s=within_s, told=lambda: query)


@pytest.fixture
def workplace(database_urls: DatabaseUrls, valkey_url: str, tmp_path: Path) -> Iterator[Workplace]:
    """Nobody works yet."""
    found = Workplace(database_urls, valkey_url, tmp_path / "home", [])
    yield found
    for process in found.processes:
        process.kill()
        process.wait(30)
    _forget(valkey_url)


def _forget(broker_url: str) -> None:
    """A broker that has lost every message."""
    with redis.Redis.from_url(broker_url) as broker:
        broker.flushdb()


def _cells() -> list[Cell]:
    """Those of `SHORT`."""
    workload = Workload(lc=("p3",), be=("p3",), duration_s=10.0, load=0.7)
    return [
        Cell(workload=workload, fleet="single", system=system(name), seed=seed, bound=False)
        for seed in (3_000_000, 3_000_001)
        for name in SYSTEMS
    ]


def _digests(cells: list[dict[str, Any]]) -> dict[tuple[str, int], str]:
    return {(cell["system"], cell["seed"]): cell["digest"] for cell in cells}


def _near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9) if isinstance(value, float) else value


def test_workers_give_what_processes_here_give_and_rows_say_the_same(workplace: Workplace) -> None:
    """The cells of a sweep are equal to those of `run_cells`; kept rows give each figure again, by the one function and by SQL."""
    here = run_cells(_cells())
    workplace.worker()

    made = workplace.json(*SHORT, "--systems", ",".join(SYSTEMS), "--record")

    assert _digests(made["cells"]) == {(r.system, r.seed): r.figures["digest"] for r in here}
    database = Database(workplace.urls.app)
    records = PostgresRunRecords(database)
    for run_id, result in database.rows("SELECT run_id, result FROM simulation ORDER BY run_id"):
        stored = CellResult.from_dict(result)
        told = figures_now(run_id, records=records)
        own = {"run", "wall_s"}  # of the simulation, and not of what it simulates
        assert {k: v for k, v in told.items() if k not in own} == {k: _near(stored.figures[k]) for k in told if k not in own}
        assert dict(told.details) == {k: _near(stored.details[k]) for k in told.details}
        by_name = {str(row["service"]): row for row in stored.services}
        sql = database.rows(
            "SELECT service, arrived, qos_rate::float8, latency_p99_ms FROM service_qos WHERE run_id = %s", (run_id,)
        )
        assert sql == [("web", *(_near(by_name["web"][k]) for k in ("arrived", "qos_rate", "latency_p99_ms")))]
        kept = dict(
            database.rows("SELECT name, coalesce(to_json(value), to_json(text)) FROM run_metric WHERE run_id = %s", (run_id,))
        )
        assert kept["lc_qos_rate"] == _near(stored.figures["lc_qos_rate"])
        assert kept["digest"] == stored.figures["digest"]
    compared = database.rows("SELECT kind, trace_source, system, runs, lc_qos_rate FROM system_comparison ORDER BY system")
    assert compared == [
        ("simulated", "p3@0.7 10s", name, 2, _near(sum(float(r.figures["lc_qos_rate"] or 0) for r in here if r.system == name) / 2))
        for name in SYSTEMS
    ]
    used = database.rows("SELECT sum(cpu) / count(*) FROM node_utilization WHERE run_id = 1 GROUP BY run_id")
    assert 0.0 < used[0][0] <= 1.0
    database.close()


def test_a_simulated_run_is_listed_shown_and_deleted_as_a_run(workplace: Workplace) -> None:
    """`run list` tells its kind, `run show` prints what was stored, `run requests` its rows; `run delete` leaves nothing."""
    workplace.worker()
    made = workplace.json(*SHORT, "--systems", "load-greedy", "--record")

    listed = workplace.json("run", "list", "--kind", "simulated")
    shown = workplace.json("run", "show", "1")
    requests = workplace.json("run", "requests", "1", "--limit", "3")
    live = workplace.json("run", "list", "--kind", "replayed")
    deleted = workplace.tango("run", "delete", "1", "--yes")
    pruned = workplace.tango("run", "prune", "--keep", "0", "--yes")

    assert [(run["run"], run["kind"], run["status"]) for run in listed] == [(k, "simulated", "completed") for k in (2, 1)]
    assert live == []
    assert (shown["run"], shown["kind"], shown["digest"]) == (1, "simulated", made["cells"][0]["digest"])
    assert listed[1]["accepted"] == shown["accepted"] == shown["simulated_requests"]
    assert [request["state"] for request in requests] == ["succeeded"] * 3
    assert (deleted.returncode, pruned.returncode) == (0, 0)
    for table in ("run", "simulation", "request", "attempt", "run_metric", "node_sample", "scaling_event", "decision"):
        assert workplace.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_killed_worker_costs_its_cell_a_second_attempt_and_no_result(workplace: Workplace) -> None:
    """Its lease runs out, another worker takes the run up under the next epoch, and the result is the same."""
    first = workplace.worker()
    with workplace.nothing_finishes():
        command = workplace.command(*LONG, "--systems", "load-greedy", "-o", "json")
        workplace.wait_for("SELECT EXISTS (SELECT FROM run WHERE status = 'running')")
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=30)
    assert workplace.rows("SELECT status FROM run") == [("running",)]
    workplace.worker()

    out, err = command.communicate(timeout=240)

    assert command.returncode == 0, err
    assert workplace.rows("SELECT status, epoch FROM run JOIN simulation USING (run_id)") == [("completed", 2)]
    workload = Workload(lc=("p3",), be=("p3",), duration_s=300.0, load=0.9)
    alone = run_cell(Cell(workload=workload, fleet="demo", system=system("load-greedy"), seed=3_000_000, bound=False))
    assert _digests(json.loads(out)["cells"]) == {("load-greedy", 3_000_000): alone.figures["digest"]}


def test_a_command_and_a_broker_that_are_gone_leave_the_rows_to_go_on_from(workplace: Workplace, tmp_path: Path) -> None:
    """The command run again waits for the same runs, has lost messages published anew, and computes nothing twice; a third time,
    from another state folder, it finds everything in the database."""
    sweep = (*SHORT, "--systems", ",".join(SYSTEMS))
    killed = workplace.command(*sweep)
    workplace.wait_for("SELECT count(*) = 4 FROM simulation")
    killed.kill()
    killed.wait(timeout=30)
    _forget(workplace.broker_url)
    workplace.worker()

    second = workplace.tango(*sweep)
    third = workplace.tango(*sweep, home=tmp_path / "elsewhere")

    assert (second.returncode, third.returncode) == (0, 0), second.stderr + third.stderr
    assert "4 are under way already" in second.stderr
    assert "4 of 4 cells were finished before" in third.stderr
    assert workplace.rows("SELECT status, epoch FROM run JOIN simulation USING (run_id)") == [("completed", 1)] * 4


def test_a_cell_that_fails_is_told_and_the_others_go_on(workplace: Workplace) -> None:
    """Exit status 1 with the cell's own words; what is finished stays."""
    trace = workplace.home.parent / "t.csv"
    trace.write_text("arrival_s,class\n" + "".join(f"{k / 10},lc\n{k / 10},be\n" for k in range(50)))
    command = workplace.command("compare", str(trace), "p3", *SHORT[2:], "--systems", "load-greedy", "--seeds", "1")
    workplace.wait_for("SELECT count(*) = 2 FROM simulation")
    trace.write_text("arrival_s,class\n0,lc\n0,be\n")  # no longer what the command has seen
    workplace.worker()

    _, err = command.communicate(timeout=240)

    assert command.returncode == 1
    assert "1 of 2 cells failed; the others are kept" in err
    assert "load-greedy, seed 3000000 (run 1): this worker would make another result than the command asks for" in err
    assert workplace.rows("SELECT status FROM run ORDER BY run_id") == [("failed",), ("completed",)]


def test_a_recorded_run_is_replayed_beside_its_simulation(workplace: Workplace) -> None:
    """A run whose delays are known: its replay finds them in its rows, and the figures of both sides agree."""
    workplace.worker()
    delays = ("--window", "0.01", "--tick", "0.2", "--staleness", "0.1", "--set", "sim.pod_start_s=0.3")
    workplace.json(*SHORT, "--seeds", "1", "--systems", "load-greedy", "--record", *delays)
    refused = workplace.tango("simulate", "--run", "1")
    database = Database(workplace.urls.app)
    PostgresFleetStore(database).declare(load_fleet("single"), kubeconfig="/none", contexts={"c1": "c1"})
    # As if it had been made live.
    database.execute("UPDATE run SET kind = 'replayed', ended_at = started_at + interval '60 s'")
    database.execute("DELETE FROM simulation")
    database.execute("UPDATE node_sample SET run_id = NULL")
    database.execute("UPDATE scaling_event SET run_id = NULL")
    database.close()

    both = workplace.json("simulate", "--run", "1")
    other = workplace.json("simulate", "--run", "1", "--system", "k8s-native")

    assert (refused.returncode, "expected a replayed or live run that is completed" in refused.stderr) == (2, True)
    assert both["live"]["run"] == both["simulated"]["run"] == 1
    assert both["delays"]["lc_window_s"] == 0.01
    assert both["delays"]["pod_start_s"] == pytest.approx(0.35, abs=0.05)  # and the wait for an announcement, which is none here
    for key in ("lc_qos_rate", "be_cpu_seconds_per_s", "utilization_cpu"):
        assert abs(both["gap"][key]) < 3.0, key
    assert both["simulated"]["system"] == "load-greedy"
    assert other["simulated"]["system"] == "k8s-native"
    assert other["simulated"]["digest"] != both["simulated"]["digest"]
