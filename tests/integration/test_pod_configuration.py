"""ConfigMaps and Secrets on their way from the API server to local processes: who may read them, what waits for them."""

from __future__ import annotations

import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.kube_cluster import PODS, EmbeddedCluster
from tests.waiting import until

Json = dict[str, Any]
CORE = "/api/v1/namespaces/tango"
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: real}
spec:
  run: processes
  clusters:
    - name: c1
      nodes: [{name: n1, cpu_millicores: 4000, memory_mib: 4096}]
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[EmbeddedCluster]:
    """A cluster that runs local processes."""
    (tmp_path / "fleet.yaml").write_text(FLEET)
    (tmp_path / "pods").mkdir()
    made = EmbeddedCluster(tmp_path)
    try:
        made.start()
        made.new_namespace()
        made.start_kubelet(tmp_path / "fleet.yaml", "--pods-dir", str(tmp_path / "pods"))
        yield made
    finally:
        made.stop()


def refusal(cluster: EmbeddedCluster, path: str, user: str) -> str:
    """The words with which a read is forbidden."""
    with pytest.raises(urllib.error.HTTPError) as error:
        cluster.call("GET", path, user=user)
    assert error.value.code == 403
    return error.value.read().decode()


def test_a_pod_gets_its_configuration_once_all_of_it_is_there(cluster: EmbeddedCluster) -> None:
    """By envFrom, keys and volumes; what is missing is told in the kubelet's words, and nobody else reads a Secret."""
    code = "import os; print(os.environ['GREETING'], os.environ['LEVEL'], os.environ['KEY'], open('/etc/app/deep/hello').read())"
    work: Json = {
        "name": "work",
        "image": "registry.example/app:1",
        "command": [sys.executable, "-c", code + "; open('/dev/termination-log', 'w').write(os.environ['KEY'])"],
        "envFrom": [
            {"configMapRef": {"name": "settings"}},
            {"prefix": "NO_", "secretRef": {"name": "none", "optional": True}},
        ],
        "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "api"}}}],
        "volumeMounts": [{"name": "files", "mountPath": "/etc/app"}],
    }
    volume = {"name": "files", "configMap": {"name": "settings", "items": [{"key": "GREETING", "path": "deep/hello"}]}}
    spec = {"nodeName": "n1", "restartPolicy": "Never", "containers": [work], "volumes": [volume]}
    cluster.call("POST", PODS, {"metadata": {"name": "p"}, "spec": spec})

    def waits(words: str) -> Any:
        def look() -> bool:
            found = cluster.call("GET", f"{PODS}/p")["status"].get("containerStatuses") or [{}]
            return words in str((found[0].get("state") or {}).get("waiting"))

        return look

    until(waits('configmap "settings" not found'))
    cluster.call("POST", f"{CORE}/configmaps", {"metadata": {"name": "settings"}, "data": {"GREETING": "hello", "LEVEL": "3"}})
    until(waits('secret "keys" not found'))
    cluster.call("POST", f"{CORE}/secrets", {"metadata": {"name": "keys"}, "stringData": {"other": "x"}})
    until(waits("couldn't find key api in Secret tango/keys"))
    assert cluster.call("GET", f"{PODS}/p")["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == (
        "CreateContainerConfigError"
    )
    cluster.call("PATCH", f"{CORE}/secrets/keys", {"stringData": {"api": "s3cret"}})

    def ended() -> Json | None:
        status: Json = cluster.call("GET", f"{PODS}/p")["status"]
        return status if status["phase"] in ("Succeeded", "Failed") else None

    status = until(ended)
    assert (status["phase"], status["containerStatuses"][0]["state"]["terminated"]["message"]) == ("Succeeded", "s3cret")
    kept = cluster.call("GET", f"{CORE}/secrets/keys")
    assert (kept["type"], kept["data"], "stringData" in kept) == ("Opaque", {"other": "eA==", "api": "czNjcmV0"}, False)
    lying = next((cluster.folder / "pods").glob("*/volumes/files/deep/hello"))
    assert lying.read_text() == "hello"

    assert 'User \\"tango\\" cannot get resource \\"secrets\\"' in refusal(cluster, f"{CORE}/secrets/keys", "tango")
    assert "cannot list resource" in refusal(cluster, f"{CORE}/secrets", "kubelet")
    cluster.call("POST", f"{CORE}/secrets", {"metadata": {"name": "foreign"}, "stringData": {"a": "b"}})
    assert "no relationship found between node" in refusal(cluster, f"{CORE}/secrets/foreign", "kubelet")
    cluster.call("DELETE", f"{PODS}/p")
    until(lambda: cluster.pod("p") is None)
    until(lambda: not lying.exists())
    assert "no relationship found" in refusal(cluster, f"{CORE}/secrets/keys", "kubelet")
