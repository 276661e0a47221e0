"""As much of `kubectl` as docs/operations uses, for clusters that have no OpenAPI document: `python kubectl_stand_in.py ARGUMENTS`.

    [--context C] [--namespace N | -n N]  apply -f FILE · delete -f FILE · delete pods -l SELECTOR
                                          create token NAME --duration HOURSh · config view … -o jsonpath={.clusters[0].cluster.KEY}

The kubeconfig is that of KUBECONFIG. Anything else ends with status 2.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"


class Cluster:
    """The cluster of a context, with the context's user."""

    def __init__(self, context: str) -> None:
        self.config: Json = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        chosen = self._named("contexts", context)["context"]
        self.cluster: Json = self._named("clusters", chosen["cluster"])["cluster"]
        self.token = str(self._named("users", chosen["user"])["user"]["token"])

    def _named(self, kind: str, name: str) -> Json:
        return next(item for item in self.config[kind] if item["name"] == name)

    def call(self, method: str, path: str, body: Json | None = None, *, fine: Sequence[int] = ()) -> Json:
        """One call; an answer with a status of `fine` counts as an empty one. Raises: SystemExit with the server's words."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.cluster["server"] + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: Json = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            if error.code in fine:
                return {}
            raise SystemExit(f"Error from server: {error.code} {error.read().decode()}") from error


def objects(file: str, namespace: str) -> Iterator[tuple[str, str, Json]]:
    """(path of its collection, name, object) of each object of a manifest."""
    for item in yaml.safe_load_all(Path(file).read_text()):
        if not item:
            continue
        group, kind, metadata = item["apiVersion"], item["kind"], item["metadata"]
        root = f"/apis/{group}" if "/" in group else f"/api/{group}"
        of_cluster = kind in ("Namespace", "ClusterRole", "ClusterRoleBinding")
        at = "" if of_cluster else f"/namespaces/{metadata.get('namespace', namespace)}"
        yield f"{root}{at}/{kind.lower()}s", metadata["name"], item


def main(arguments: list[str]) -> None:
    """Do what the arguments say."""
    words, options = list[str](), dict[str, str]()
    flags = ("--raw", "--minify", "--flatten")
    rest = iter(arguments)
    for word in rest:
        if word.startswith("-") and word not in flags:
            options[word] = next(rest)
        elif word not in flags:
            words.append(word)
    cluster, namespace = Cluster(options["--context"]), options.get("--namespace") or options.get("-n") or "default"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    match words:
        case ["apply"]:
            for place, name, item in objects(options["-f"], namespace):
                cluster.call("POST", place, item, fine=(409,))
                print(f"{item['kind'].lower()}/{name} applied")
        case ["delete"]:
            for place, name, item in reversed(list(objects(options["-f"], namespace))):
                cluster.call("DELETE", f"{place}/{name}", fine=(404,))
                print(f"{item['kind'].lower()}/{name} deleted")
        case ["delete", "pods"]:
            for pod in cluster.call("GET", f"{pods}?labelSelector={urllib.parse.quote(options['-l'])}")["items"]:
                cluster.call("DELETE", f"{pods}/{pod['metadata']['name']}", fine=(404,))
        case ["create", "token", name]:
            seconds = int(options["--duration"].removesuffix("h")) * 3600
            asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": seconds}}
            made = cluster.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", asked)
            print(made["status"]["token"])
        case ["config", "view"]:
            print(cluster.cluster.get(options["-o"].removesuffix("}").rpartition(".")[2], ""), end="")
        case _:
            print(f"no stand-in for kubectl {' '.join(arguments)}", file=sys.stderr)
            raise SystemExit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
