"""Joining a cluster by kubeconfig and context, by the commands that users have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from tango.domain.observations import NodeState
from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tests.commands import run_tango, start_program
from tests.conftest import DatabaseUrls
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
Tango = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tango(database_urls: DatabaseUrls, valkey_url: str, tmp_path: Path) -> Tango:
    """The command, on a database and a broker of the test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
    environment = {**kept, "TANGO_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    environment |= {"TANGO_DATABASE_URL": database_urls.app, "TANGO_BROKER_URL": valkey_url}
    environment |= {"TANGO_KUBE_ATTEMPTS": "2", "TANGO_KUBE_CONNECT_TIMEOUT_S": "1"}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run_tango(arguments, environment=environment)

    return run


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of a running embedded cluster `far`."""
    access = ClusterAccess(server="", tango_token="t1", kubelet_token="k1", admin_token="a1")
    (tmp_path / "tokens.csv").write_text(token_file("far", access))
    command = ["workers.api_server", "--cluster", "far", "--token-file", str(tmp_path / "tokens.csv")]
    process = start_program(*command, "--port-file", str(tmp_path / "port"))
    try:
        until((tmp_path / "port").exists)
        server = f"http://127.0.0.1:{(tmp_path / 'port').read_text().strip()}"
        access = ClusterAccess(server=server, tango_token="t1", kubelet_token="k1", admin_token="a1")
        (tmp_path / "config").write_text(kubeconfig({"far": access}))
        yield tmp_path / "config"
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_cluster_joins_is_listed_and_leaves(tango: Tango, config: Path, database_urls: DatabaseUrls, valkey_url: str) -> None:
    """The database keeps the path and the context, and no token; what waits for it on the broker goes with it, but for others' own."""
    done = tango("cluster", "join", "edge", "--kubeconfig", str(config), "--context", "far")
    assert done.returncode == 0, done.stderr
    assert "cluster_agent --cluster edge" in done.stderr
    listed = json.loads(tango("cluster", "list", "-o", "json").stdout)
    assert [(row["name"], row["context"], row["embedded"]) for row in listed] == [("edge", "far", False)]
    assert listed[0]["kubeconfig"] == str(config)
    again = tango("cluster", "add", "edge2", "--kubeconfig", str(config), "--context", "far")
    assert (again.returncode, "joined already, as edge" in again.stderr) == (2, True)
    unasked = tango("cluster", "remove", "edge")
    assert (unasked.returncode, "say --yes to do it" in unasked.stderr) == (2, True)
    with redis.Redis.from_url(valkey_url) as broker:
        for queue in ("be.edge", "lc.edge", "exec.edge", "submit.edge", "be.edge-2"):
            broker.lpush(f"tango.{queue}", "{}")
        left = tango("cluster", "remove", "edge", "--yes")
        assert left.returncode == 0, left.stderr
        assert sorted(broker.keys("tango.*edge*")) == [b"tango.be.edge-2", b"tango.submit.edge"]
        broker.delete("tango.be.edge-2", "tango.submit.edge")
    assert json.loads(tango("cluster", "list", "-o", "json").stdout) == []


def test_nodes_are_listed_with_what_their_agents_tell(tango: Tango, config: Path, database_urls: DatabaseUrls) -> None:
    """Which get no BE for it, and why, is seen at a glance; an unknown cluster is named."""
    assert tango("cluster", "join", "edge", "--kubeconfig", str(config), "--context", "far").returncode == 0
    n1 = NodeState(name="n1", ready=True, cpu_allocatable_millicores=4000, memory_allocatable_mib=8192, cpu_used_millicores=512.4)
    pressed = replace(n1, name="n2", lc_cpu_pressure=0.31, lc_throttled=0.0, memory_pressure=0.001)
    database = Database(database_urls.app)
    PostgresFleetStore(database).observe("edge", [n1, pressed], [], sample=False)
    database.close()

    rows = json.loads(tango("node", "list", "-o", "json").stdout)
    table = tango("node", "list", "--cluster", "edge", "-o", "wide").stdout

    assert [(row["node"], row["be_waits"], row["lc_cpu_pressure"], row["cpu_used_millicores"]) for row in rows] == [
        ("n1", False, None, 512.4),
        ("n2", True, 0.31, 512.4),
    ]
    assert "31.0 %" in table
    assert json.loads(tango("cluster", "list", "-o", "json").stdout)[0]["pressed"] == 1
    unknown = tango("node", "list", "--cluster", "far")
    assert (unknown.returncode, "there is no cluster far" in unknown.stderr) == (2, True)


def test_a_wrong_context_a_missing_file_and_an_unknown_name_are_refused(tango: Tango, config: Path) -> None:
    """One line each, nothing is joined."""
    for arguments in (
        ("join", "edge", "--kubeconfig", str(config), "--context", "nowhere"),
        ("join", "edge", "--kubeconfig", str(config) + ".not", "--context", "far"),
        ("remove", "edge"),
    ):
        done = tango("cluster", *arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(tango("cluster", "list", "-o", "json").stdout) == []


def test_the_rights_of_the_rbac_folder_are_enough(tango: Tango, config: Path, tmp_path: Path) -> None:
    """A kubeconfig of the service account that it makes, as `deploy/kubeconfig.sh` draws it, joins; without the role it does not."""
    document = yaml.safe_load(config.read_text())
    admin = next(c["context"] for c in document["contexts"] if c["name"] == "far-admin")

    def kubectl(*words: str) -> str:
        command = [sys.executable, str(ROOT / "tests/integration/kubectl_stand_in.py"), "--context", "far-admin", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "KUBECONFIG": str(config)})
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    kubectl("apply", "-f", str(ROOT / "deploy/rbac/tango.yaml"))
    token = kubectl("-n", "tango", "create", "token", "tango", "--duration", "24h")
    own = {
        **document,
        "users": [{"name": "tango", "user": {"token": token}}],
        "contexts": [{"name": "edge", "context": {"cluster": admin["cluster"], "user": "tango"}}],
    }
    (tmp_path / "own").write_text(json.dumps(own))

    joined = tango("cluster", "join", "edge", "--kubeconfig", str(tmp_path / "own"), "--context", "edge")
    checked = json.loads(tango("cluster", "check", "edge", "-o", "json").stdout)
    kubectl("delete", "-f", str(ROOT / "deploy/rbac/tango.yaml"))
    after = tango("cluster", "check", "edge", "-o", "json")

    assert joined.returncode == 0, joined.stderr
    assert [row["what"] for row in checked if not row["may"] and row["needed"]] == []
    assert after.returncode != 0


def test_a_user_that_may_too_little_is_told_what_is_missing(tango: Tango, config: Path) -> None:
    """The kubelet's user may not create pods: that is told in the server's words, with the file that grants it."""
    done = tango("cluster", "join", "edge", "--kubeconfig", str(config), "--context", "far-kubelet")
    assert done.returncode == 1
    assert 'create pods (synthetic be): pods is forbidden: User "' in done.stderr
    assert "deploy/rbac" in done.stderr


def test_a_check_tries_the_pods_that_will_be_made_and_makes_nothing(tango: Tango, config: Path) -> None:
    """A quota is no missing permission: the server's words stand beside what it refuses, and nobody is sent to the roles for it."""
    server = yaml.safe_load(config.read_text())["clusters"][0]["cluster"]["server"]

    def admin(method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": "Bearer a1", "Content-Type": "application/json"}
        request = urllib.request.Request(server + path, json.dumps(body).encode() if body else None, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read())

    asked = ("cluster", "check", "edge", "--kubeconfig", str(config), "--context", "far", "-o", "json")
    without = tango(*asked)
    admin("POST", "/api/v1/namespaces", {"metadata": {"name": "tango"}})
    good = tango(*asked)
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    admin("POST", "/api/v1/namespaces/tango/resourcequotas", quota)
    refused = tango(*asked)

    assert (without.returncode, "namespace tango is not in cluster edge" in without.stderr) == (1, True)
    assert good.returncode == 0, good.stdout + good.stderr
    found = {row["what"]: row for row in json.loads(good.stdout)}
    assert found.keys() > {
        "bind pods",
        "resize pods",
        "evict pods",
        "watch pods",
        "read logs of pods",
        "create pods (synthetic lc)",
    }
    assert all(row["may"] for row in found.values() if row["needed"])
    assert refused.returncode == 1
    bad = [row for row in json.loads(refused.stdout) if row["needed"] and not row["may"]]
    assert [row["what"] for row in bad] == ["create pods (synthetic be)", "create pods (synthetic lc)"]
    assert all("exceeded quota: none" in row["server_says"] and row["remedy"] == "" for row in bad)
    assert admin("GET", "/api/v1/namespaces/tango/pods")["items"] == []


def test_a_server_that_is_away_is_an_unreachable_dependency(tango: Tango, tmp_path: Path) -> None:
    """Exit status 4 and one line that says what was tried."""
    access = ClusterAccess(server="http://127.0.0.1:9", tango_token="t", kubelet_token="k", admin_token="a")
    (tmp_path / "away").write_text(kubeconfig({"far": access}))
    done = tango("cluster", "join", "edge", "--kubeconfig", str(tmp_path / "away"), "--context", "far")
    assert done.returncode == 4, done.stderr
    assert "does not answer" in done.stderr
    assert "Traceback" not in done.stderr
