"""The pages of docs/operations walked as somebody new would: a cluster that is somebody else's is joined, used, and left.

The foreign cluster is an embedded one that is run by itself, by commands of its own; the centre has a PostgreSQL of its own and no cluster.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.stack.tether import tethered
from tests.conftest import DatabaseUrls
from tests.integration.live_stack import ROOT, LiveStack
from tests.integration.odd_stack import free_port
from tests.integration.test_database_command import REVISIONS
from tests.waiting import until

pytestmark = pytest.mark.long
CLUSTER = "edge-7"
NODES = 2
FOREIGN = f"""
apiVersion: tango/v1
kind: Fleet
metadata: {{name: foreign}}
spec:
  clusters:
    - name: {CLUSTER}
      nodes: [{{name: n1, cpu_millicores: 4000, memory_mib: 8192}}, {{name: n2, cpu_millicores: 4000, memory_mib: 8192}}]
  services: [{{name: any, class: be, cpu_work_s: 1.0, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 1000}}]
"""
SERVICES = """
apiVersion: tango/v1
kind: Service
metadata: {name: web}
spec:
  {class: lc, cpu_work_s: 0.01, target_ms: 200, memory_mib: 32, instance_memory_mib: 256, cpu_request_millicores: 200,
   cpu_limit_millicores: 1000}
---
apiVersion: tango/v1
kind: Service
metadata: {name: batch}
spec: {class: be, cpu_work_s: 0.2, memory_mib: 64, cpu_request_millicores: 200, cpu_limit_millicores: 1000}
"""


class Walk:
    """A centre by `tango up --no-clusters` on a database of its own; a cluster that is somebody else's, with Tango's processes beside."""

    def __init__(self, folder: Path, urls: DatabaseUrls) -> None:
        self.folder, self.urls = folder, urls
        self.centre = LiveStack(folder / "home", {"TANGO_DATABASE_URL": urls.app})
        self._port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.beside = ("agent", "worker-1", "worker-2")
        access = ClusterAccess(server=f"http://127.0.0.1:{self._port}", tango_token="t", kubelet_token="k", admin_token="a")
        self.config = folder / "kubeconfig"
        self.config.write_text(kubeconfig({CLUSTER: access}))
        (folder / "tokens.csv").write_text(token_file(CLUSTER, access))
        (folder / "foreign.yaml").write_text(FOREIGN)
        (folder / "services.yaml").write_text(SERVICES)

    def foreign_cluster(self) -> None:
        """Start it."""
        self._begin(
            "apiserver",
            *("apiserver", "--cluster", CLUSTER, "--port", str(self._port)),
            *("--token-file", str(self.folder / "tokens.csv"), "--data-dir", str(self.folder / "api")),
        )
        at = ("--kubeconfig", str(self.config), "--context", f"{CLUSTER}-kubelet", "--cluster", CLUSTER)
        self._begin("kubelet", "kubelet", *at, "--fleet", str(self.folder / "foreign.yaml"))

    def up(self) -> None:
        """The centre."""
        done = self.centre.tango("up", "--no-clusters", "--simulators", "0", "--detach")
        assert done.returncode == 0, done.stderr

    def down(self) -> None:
        """The centre, and what runs beside the cluster: everything of Tango."""
        for name in self.beside:
            self.end(name)
        done = self.centre.tango("down")
        assert done.returncode == 0, done.stderr

    def begin_beside(self) -> None:
        """Agent and workers, as docs/clusters.md says; the broker is the centre's."""
        broker = json.loads((self.centre.home / "stack.json").read_text())["broker_url"]
        variables = {"TANGO_BROKER_URL": broker, "TANGO_JOURNAL_DIR": str(self.folder / "journals")}
        self._spawn(
            "agent",
            [sys.executable, "-m", "workers.cluster_agent", "--cluster", CLUSTER],
            variables | {"TANGO_DATABASE_URL": self.urls.app},
        )
        for k in (1, 2):
            celery = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-n", f"worker-{CLUSTER}-{k}@%h"]
            queues = ["-Q", f"lc.{CLUSTER},exec.{CLUSTER}", "--pool", "threads", "--concurrency", "8", "-l", "warning"]
            self._spawn(f"worker-{k}", [*celery, *queues], variables)

    def end(self, name: str) -> None:
        """SIGTERM, as whoever keeps it there would."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(60)

    def stop(self) -> None:
        """Leave nothing behind."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(30)
        if (self.centre.home / "stack.json").exists():
            self.centre.tango("down")

    def served(self) -> bool:
        """Whether there is an instance on each node, and the centre knows."""
        return self.rows("SELECT count(*) FROM instance WHERE cluster = %s AND ready", CLUSTER) == [(NODES,)]

    def run(self, trace: Path) -> dict[str, Any]:
        """Submit and wait; all of it must have succeeded."""
        number = self.centre.submit(trace)
        until(lambda: self.rows("SELECT status FROM run WHERE run_id = %s", number) == [("completed",)])
        shown: dict[str, Any] = self.centre.json("run", "show", str(number))
        assert (shown["live"], shown["succeeded"]) == (0, shown["accepted"])
        return shown

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """By the application's role, on a connection of its own."""
        connection = psycopg2.connect(self.urls.app, connect_timeout=5)
        try:
            with connection.cursor() as cursor:
                cursor.execute(query, values)
                return cursor.fetchall()
        finally:
            connection.close()

    def told(self, *command: str) -> str:
        """A command that must succeed."""
        done = self.centre.tango(*command, variables={"TANGO_OWNER_URL": self.urls.owner})
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def _begin(self, name: str, *arguments: str) -> None:
        self._spawn(name, [sys.executable, "-c", "from tango.cli.main import run; run()", *arguments], {})

    def _spawn(self, name: str, command: list[str], variables: Mapping[str, str]) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
        own = {"TANGO_HOME": str(self.folder / "edge-home"), "PYTHONPATH": str(ROOT)}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(tethered(command), env={**kept, **variables, **own}, stdout=log, stderr=log)


@pytest.fixture
def walk(tmp_path: Path, database_urls: DatabaseUrls) -> Iterator[Walk]:
    """Nothing runs yet but the foreign cluster."""
    one = Walk(tmp_path, database_urls)
    try:
        one.foreign_cluster()
        yield one
    finally:
        one.stop()


@pytest.mark.timeout(600)
def test_a_foreign_cluster_is_joined_used_upgraded_restored_and_left(walk: Walk, tmp_path: Path) -> None:
    """Install, join, use; back up; roll back and upgrade; restore what was backed up, and use it again; leave with nothing left there."""
    walk.up()
    at = ("--kubeconfig", str(walk.config), "--context", CLUSTER)
    until(lambda: walk.centre.tango("cluster", "join", CLUSTER, *at).returncode == 0)
    walk.told("cluster", "check", CLUSTER)
    walk.told("service", "apply", "-f", str(walk.folder / "services.yaml"))
    walk.begin_beside()
    until(walk.served)
    trace = tmp_path / "mixed.csv"
    lines = [f"{k * 0.1:.1f},{'lc,web' if k % 3 else 'be,batch'},{CLUSTER},0.02" for k in range(60)]
    trace.write_text("\n".join(["arrival_s,class,service,cluster,cpu_work_s", *lines, ""]))
    first = walk.run(trace)

    assert "recovery point" in walk.told("db", "backup", str(tmp_path / "tango.dump"))
    after_backup = walk.run(trace)
    walk.down()
    walk.told("db", "downgrade", REVISIONS[-2], "--yes")
    walk.told("db", "upgrade")
    assert walk.rows("SELECT count(*) FROM run WHERE kind = 'replayed'") == [(2,)]

    refused = walk.centre.tango("db", "restore", str(tmp_path / "tango.dump"), variables={"TANGO_OWNER_URL": walk.urls.owner})
    assert (refused.returncode, "say --yes" in refused.stderr) == (2, True)
    walk.told("db", "restore", str(tmp_path / "tango.dump"), "--yes")
    walk.up()
    walk.begin_beside()
    until(walk.served)
    again = walk.run(trace)

    assert first["run"] < after_backup["run"] < again["run"]
    assert [row[0] for row in walk.rows("SELECT run_id FROM run WHERE kind = 'replayed' ORDER BY 1")] == [
        first["run"],
        again["run"],
    ]
    assert walk.centre.json("cluster", "list")[0]["lost_events"] is None

    walk.told("cluster", "remove", CLUSTER, "--yes")
    for name in walk.beside:
        walk.end(name)
    assert walk.centre.json("cluster", "list") == []
