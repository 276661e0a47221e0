"""The whole stack by its commands."""

from __future__ import annotations

import json
import os
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg2
import pytest
import torch
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tango.learning.checkpoint import save_checkpoint
from tango.learning.network import PlacementNetwork
from tango.progress import complaints
from tests.integration.live_stack import LiveStack
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)


def test_every_process_runs_after_up(single_stack: LiveStack) -> None:
    """`status` lists the processes of the documentation, each running under a pid of its own."""
    rows = single_stack.json("status")
    assert {row["name"] for row in rows} >= {"postgres", "broker", "apiserver", "kubelet", "agent", "worker-1", "worker-2"}
    assert {row["name"] for row in rows} >= {"scheduler", "replayer", "simulator", "beat", "flower"}
    assert {row["state"] for row in rows} == {"running"}
    assert len({row["pid"] for row in rows}) == len(rows)
    assert all(set(row) == {"name", "role", "pid", "state", "restarts"} for row in rows)


def test_every_process_of_tango_shows_that_it_gets_on(single_stack: LiveStack) -> None:
    """What tells nothing could hang unseen: only the servers of others and the monitoring page do not."""
    rows = single_stack.json("status")
    silent = {row["name"] for row in rows if row["role"] in ("store", "broker", "monitoring page")}
    folder = single_stack.home / "run" / "health"
    assert {path.name for path in folder.iterdir()} == {row["name"] for row in rows} - silent
    assert {path.name: complaints(path) for path in folder.iterdir()} == {path.name: [] for path in folder.iterdir()}


def test_the_settings_printed_reach_the_database(single_stack: LiveStack) -> None:
    """`env` prints addresses that work as they stand, in which all nodes are Ready."""
    settings = single_stack.json("env")
    with psycopg2.connect(settings["TANGO_READER_URL"], connect_timeout=5) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), count(*) FILTER (WHERE ready) FROM node")
        total, ready = cursor.fetchone()
    assert total == ready > 0


def test_one_scrape_tells_of_all_processes_and_parts(single_stack: LiveStack) -> None:
    """At the address that `env` prints and `up` told; figures of the store, of workers themselves, of the broker and of the supervisor."""
    url = single_stack.json("env")["TANGO_METRICS_URL"]

    def scrape() -> dict[str, dict[tuple[str, ...], float]]:
        with urllib.request.urlopen(url, timeout=30.0) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples]
        return {s.name: {tuple(t.labels.values()): t.value for t in samples if t.name == s.name} for s in samples}

    def all_are_up() -> dict[str, dict[tuple[str, ...], float]] | None:
        found = scrape()
        parts = [found["tango_up"], found["tango_process_up"], found["tango_broker_up"], found.get("celery_worker_up", {})]
        return found if all(set(part.values()) == {1.0} for part in parts) else None

    found = until(all_are_up)
    assert set(found["tango_up"]) == {("store",), ("processes",), ("broker",), ("stack",)}
    assert {name for (name,) in found["tango_process_up"]} == {row["name"] for row in single_stack.json("status")}
    assert set(found["celery_worker_up"]) == {("worker-1",), ("worker-2",), ("scheduler",), ("replayer",), ("simulator",)}
    assert {loop for loop, *_ in found["tango_loop_lag_seconds_count"]} >= {"executor", "gateway", "kubelet", "apiserver"}
    assert found["tango_nodes"]["c1", "ready"] == 2
    assert found["tango_lease_held"]["scheduler",] == 1
    assert found["celery_queue_length"]["lc.c1",] == 0


def test_nobody_else_may_read_what_the_stack_writes(single_stack: LiveStack) -> None:
    """The state folder is 0700 and the files with passwords and tokens are 0600."""
    assert stat.S_IMODE(single_stack.home.stat().st_mode) == 0o700
    for name in ("stack.json", "credentials.json", "kubeconfig", "run/tokens-c1.csv"):
        assert stat.S_IMODE((single_stack.home / name).stat().st_mode) == 0o600


def test_no_secret_stands_in_a_command_line_a_log_or_a_file_that_others_may_read(single_stack: LiveStack) -> None:
    """Of all that the state folder has drawn, as drawn and as it stands in addresses."""
    drawn = json.loads((single_stack.home / "credentials.json").read_text())
    secrets = {*drawn.values(), *(quote(secret, safe="") for secret in drawn.values())}
    lines = single_stack.processes()
    logs = {path.name: path.read_text(errors="replace") for path in (single_stack.home / "logs").glob("*.log")}
    told = single_stack.json("status"), single_stack.tango("cluster", "list", "-o", "yaml").stdout

    assert len(lines) > 8
    assert len(logs) > 8
    assert len(secrets) > 5
    assert [line.split()[:4] for line in lines if any(secret in line for secret in secrets)] == []
    assert [name for name, text in logs.items() if any(secret in text for secret in secrets)] == []
    assert not any(secret in str(told) for secret in secrets)


def test_an_api_server_answers_nobody_without_a_token(single_stack: LiveStack) -> None:
    """He is anonymous then, who may read nothing (403), as on any server; a wrong token is 401."""
    config = yaml.safe_load((single_stack.home / "kubeconfig").read_text())
    server = config["clusters"][0]["cluster"]["server"]

    def status(path: str, headers: Mapping[str, str] = MappingProxyType({})) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(server + path, headers=dict(headers)), timeout=10.0) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    for path in ("/api/v1/nodes", "/api/v1/namespaces/tango/pods", "/api/v1/namespaces/tango/secrets"):
        assert status(path) == 403, path
        assert status(path, {"Authorization": "Bearer guessed"}) == 401, path


def test_a_second_up_in_the_same_folder_is_refused(single_stack: LiveStack) -> None:
    """It says that a stack runs and exits with 2; the first one goes on."""
    done = single_stack.tango("up")
    assert done.returncode == 2
    assert "already running" in done.stderr


def test_a_promoted_checkpoint_decides_without_a_restart(single_stack: LiveStack, tmp_path: Path) -> None:
    """The running scheduler takes it from the store at its next tick, the file being gone, and gives it back as soon."""
    torch.manual_seed(1)
    digest = save_checkpoint(PlacementNetwork(8), tmp_path / "mine.pt", name="mine", trained={})
    before = {row["name"]: row["pid"] for row in single_stack.json("status")}

    def decides() -> str:
        rows = single_stack.rows(
            "SELECT deciding FROM checkpoint_role WHERE scope = 'be' AND deciding IN (SELECT digest FROM checkpoint)"
        )
        return str(rows[0][0]) if rows else ""

    shipped = until(decides)
    assert single_stack.tango("checkpoint", "add", str(tmp_path / "mine.pt")).returncode == 0
    (tmp_path / "mine.pt").unlink()
    assert single_stack.tango("checkpoint", "promote", "mine").returncode == 0
    until(lambda: decides() == digest)
    listed = {row["name"]: row["deciding"] for row in single_stack.json("checkpoint", "list")}
    assert single_stack.tango("checkpoint", "demote").returncode == 0
    until(lambda: decides() == shipped)

    assert listed["mine"]
    assert sum(listed.values()) == 1

    assert {row["name"]: row["pid"] for row in single_stack.json("status")} == before


def test_a_killed_supervisor_takes_all_with_it_and_up_recovers(single_stack: LiveStack) -> None:
    """After SIGKILL nothing is left, `status` says so, and the next `up` works, in a shell that took over `env` too."""
    taken_over = single_stack.json("env")
    os.kill(int((single_stack.home / "run" / "lock").read_text()), signal.SIGKILL)
    until(lambda: not single_stack.processes())
    assert single_stack.tango("status").returncode == 1
    again = single_stack.tango("up", "--detach", variables=taken_over)
    assert again.returncode == 0, again.stderr
    assert {row["state"] for row in single_stack.json("status")} == {"running"}
