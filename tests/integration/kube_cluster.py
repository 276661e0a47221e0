"""An embedded API server and virtual kubelet as processes of their own, for tests of what talks to a cluster."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tests.commands import Started, start_program
from tests.waiting import until

Json = dict[str, Any]
T = TypeVar("T")

USERS = {
    "root": "system:masters",
    "kubelet": "system:nodes",
    "tango": "tango:scheduler",
    "node-agent": "tango:node-agent",
    "nobody": "",
}
"""Users and their groups; the token of each is `<user>-token`."""
PODS = "/api/v1/namespaces/tango/pods"


@dataclass(slots=True)
class EmbeddedCluster:
    """One cluster in a folder. `kubeconfig` has a context for each of `USERS`, and the role `tango` is Tango's own."""

    folder: Path
    name: str = "c1"
    url: str = ""
    processes: dict[str, Started] = field(default_factory=dict)

    @property
    def kubeconfig(self) -> Path:
        """Path of the kubeconfig."""
        return self.folder / "kubeconfig"

    def start(self) -> None:
        """Start the server, on the port it had before where it had one, and wait until it answers."""
        port = self.url.rsplit(":", 1)[1] if self.url else "0"
        (self.folder / "port").unlink(missing_ok=True)
        (self.folder / "tokens.csv").write_text("".join(f'{u}-token,{u},{u},"{g}"\n' for u, g in USERS.items()))
        command = ["workers.api_server", "--cluster", self.name, "--port", port]
        command += [
            "--pods-dir",
            str(self.folder / "pods"),
            "--data-dir",
            str(self.folder / "data"),
            "--port-file",
            str(self.folder / "port"),
        ]
        self.processes["server"] = start_program(*command, "--token-file", str(self.folder / "tokens.csv"))
        until(lambda: (self.folder / "port").exists())
        self.url = f"http://127.0.0.1:{(self.folder / 'port').read_text()}"
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": {"server": self.url}}],
            "users": [{"name": n, "user": {"token": f"{n}-token"}} for n in USERS],
            "contexts": [{"name": n, "context": {"cluster": self.name, "user": n}} for n in USERS],
        }
        self.kubeconfig.write_text(json.dumps(document))
        until(lambda: self.call("GET", "/version"))

    def start_kubelet(self, fleet: Path, *options: str) -> None:
        """Start the virtual kubelet of the fleet's cluster of this name, with further options, and wait until its nodes are Ready."""
        command = ["workers.virtual_kubelet", "--kubeconfig", str(self.kubeconfig), "--context", "kubelet"]
        self.processes["kubelet"] = start_program(*command, "--fleet", str(fleet), "--cluster", self.name, *options)
        until(self._nodes_ready)

    def kill(self, process: str) -> None:
        """SIGKILL `server` or `kubelet`."""
        self.processes[process].kill()
        self.processes[process].wait(timeout=30)

    def stop(self) -> None:
        """Kill what runs."""
        for process in self.processes.values():
            process.kill()
            process.wait(timeout=30)

    def call(self, method: str, path: str, body: Any = None, *, user: str = "root") -> Json:
        """One call as a user. Raises: urllib.error.HTTPError, OSError."""
        headers = {"Authorization": f"Bearer {user}-token", "Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/strategic-merge-patch+json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            payload = answer.read()
        found: Json = json.loads(payload) if payload else {}
        return found

    def history(self, path: str, *, since: str) -> list[Json]:
        """What has happened in a collection since a resource version, as a watch tells it."""
        request = urllib.request.Request(
            f"{self.url}{path}?watch=1&timeoutSeconds=1&resourceVersion={since}", headers={"Authorization": "Bearer root-token"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return [json.loads(line) for line in answer]

    def faults(self, *rules: Json) -> None:
        """Let the server misbehave by these rules alone; without any it behaves."""
        self.call("PUT", "/__faults", list(rules))

    def new_namespace(self, name: str = "tango") -> None:
        """Make a namespace."""
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})

    def apply(self, manifest: Path, *, namespace: str = "") -> None:
        """Make the objects of a manifest as who owns the cluster, as `kubectl apply` does; what is there stays.

        `namespace` is where those go that name none.
        """
        for item in yaml.safe_load_all(manifest.read_text()):
            if not item:
                continue
            kind, metadata = item["kind"], item["metadata"]
            root = f"/apis/{item['apiVersion']}" if "/" in item["apiVersion"] else f"/api/{item['apiVersion']}"
            of_cluster = kind.startswith("Cluster") or kind == "Namespace"
            at = "" if of_cluster else f"/namespaces/{metadata.get('namespace', namespace)}"
            try:
                self.call("POST", f"{root}{at}/{kind.lower()}s", item)
            except urllib.error.HTTPError as error:
                if error.code != 409:
                    raise

    def pods(self) -> dict[str, Json]:
        """Tango's pods, by name."""
        return {pod["metadata"]["name"]: pod for pod in self.call("GET", PODS)["items"]}

    def pod(self, name: str) -> Json | None:
        """One of Tango's pods, None where there is none."""
        try:
            return self.call("GET", f"{PODS}/{name}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def running(self, name: str) -> Json:
        """The pod once it runs."""

        def look() -> Json | None:
            pod = self.pod(name)
            return pod if pod is not None and pod["status"].get("phase") == "Running" else None

        return until(look)

    def clear(self) -> None:
        """Delete all pods and budgets at once, and let the server behave again."""
        self.faults()
        for path in (PODS, "/apis/policy/v1/namespaces/tango/poddisruptionbudgets"):
            for item in self.call("GET", path)["items"]:
                self.call("DELETE", f"{path}/{item['metadata']['name']}", {"gracePeriodSeconds": 0})

    def _nodes_ready(self) -> bool:
        nodes = self.call("GET", "/api/v1/nodes")["items"]
        return bool(nodes) and all(
            any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))
            for node in nodes
        )
