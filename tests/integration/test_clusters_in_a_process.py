"""One process may serve several clusters: their API servers share nothing else, and each has its own nodes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.commands import start_program
from tests.waiting import until

CLUSTERS = ("c1", "c2")


def call(url: str, method: str = "GET", body: object = None) -> Any:
    """The answer of an API server."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": "Bearer root-token", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def urls(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The API servers of two clusters, by cluster, in one process that ends well when it is asked to."""
    (tmp_path / "tokens.csv").write_text('root-token,root,1,"system:masters"\n')
    words: list[str] = []
    for name in CLUSTERS:
        words += ["--cluster", name, "--token-file", str(tmp_path / "tokens.csv")]
        words += ["--data-dir", str(tmp_path / name), "--port-file", str(tmp_path / f"{name}.port")]
    process = start_program("workers.api_server", *words)
    try:
        until(lambda: all((tmp_path / f"{name}.port").exists() for name in CLUSTERS))
        yield {name: f"http://127.0.0.1:{(tmp_path / f'{name}.port').read_text()}" for name in CLUSTERS}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait(timeout=20)


def test_what_is_made_in_one_cluster_is_not_in_the_other(urls: dict[str, str]) -> None:
    """Each has its own port, objects and data."""
    call(f"{urls['c1']}/api/v1/namespaces", "POST", {"metadata": {"name": "only-here"}})

    named = {name: {n["metadata"]["name"] for n in call(f"{url}/api/v1/namespaces")["items"]} for name, url in urls.items()}

    assert "only-here" in named["c1"]
    assert "only-here" not in named["c2"]


@pytest.mark.timeout(120)
def test_one_process_runs_the_kubelets_of_several_clusters(urls: dict[str, str], tmp_path: Path) -> None:
    """All nodes of each become Ready at the API server of their cluster, and nowhere else."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in urls.items()],
        "users": [{"name": "root", "user": {"token": "root-token"}}],
        "contexts": [{"name": f"at-{name}", "context": {"cluster": name, "user": "root"}} for name in urls],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    command = ["workers.virtual_kubelet", "--kubeconfig", str(tmp_path / "kubeconfig"), "--fleet", "demo"]
    served = [word for name in CLUSTERS for word in ("--cluster", name, "--context", f"at-{name}")]
    kubelets = start_program(*command, *served)

    def ready(name: str) -> set[str]:
        """The Ready nodes of a cluster."""
        nodes = call(f"{urls[name]}/api/v1/nodes")["items"]
        return {
            node["metadata"]["name"]
            for node in nodes
            if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
        }

    try:
        until(lambda: all(len(ready(name)) == 4 for name in CLUSTERS))
        found = {name: ready(name) for name in CLUSTERS}
        kubelets.send_signal(signal.SIGTERM)
        status = kubelets.wait(timeout=20)
    finally:
        kubelets.kill()
        kubelets.wait(timeout=20)

    assert found["c1"].isdisjoint(found["c2"])
    assert status == 0


def test_a_context_is_needed_for_each_cluster() -> None:
    """Which API server a cluster has must not be guessed."""
    command = [sys.executable, "-m", "workers.virtual_kubelet", "--kubeconfig", "none", "--fleet", "demo"]

    done = subprocess.run(
        [*command, "--cluster", "c1", "--context", "a", "--cluster", "c2"], capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 2
    assert "expected a --context for each --cluster, found 1 for 2" in done.stderr
