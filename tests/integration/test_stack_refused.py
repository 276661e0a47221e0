"""A running stack whose cluster refuses: an expired token, roles that are lost, a full quota, a node that throws its pods out.

One run goes through all of it. No request may lose an attempt, and what the server said must be seen where an operator looks.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.live_stack import LiveStack

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: refused}
spec:
  beta: 0.0
  clusters:
    - name: r1
      nodes:
        - {name: r1-n1, cpu_millicores: 4000, memory_mib: 8192}
        - {name: r1-n2, cpu_millicores: 4000, memory_mib: 8192}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, cpu_work_cv: 0.0, target_ms: 1000, memory_mib: 16, instance_memory_mib: 512,
       cpu_request_millicores: 200, cpu_limit_millicores: 1000}
    - {name: batch, class: be, cpu_work_s: 1.0, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 1000}
"""
SPAN_S = 45
LC_PER_S, BE_PER_S = 10, 2
WITHIN_S = 40.0
"""Seconds in which what was caused must be seen. The stack looks every second or so; a busy machine is slower."""
PODS = "/api/v1/namespaces/tango/pods"
QUOTAS = "/api/v1/namespaces/tango/resourcequotas"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """The stack with a run under way, and its cluster's administrator."""

    stack: LiveStack
    run_id: int
    server: str
    token: str

    def call(self, method: str, path: str, body: Any = None) -> Json:
        """One call of the administrator's."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.server + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found = json.loads(answer.read() or b"{}")
        return found if isinstance(found, dict) else {"items": found}

    def given_to(self, node: str, *, since: Json) -> set[str]:
        """Names of the pods that a node was given since the list `since` was read, those too that are gone: by the watch, which has all of
        the collection's history."""
        known = {pod["metadata"]["uid"] for pod in since["items"]}
        query = f"watch=1&timeoutSeconds=1&resourceVersion={since['metadata']['resourceVersion']}"
        request = urllib.request.Request(f"{self.server}{PODS}?{query}", headers={"Authorization": f"Bearer {self.token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            pods = [json.loads(line)["object"] for line in answer]
        return {
            pod["metadata"]["name"]
            for pod in pods
            if pod["metadata"].get("uid") not in known and (pod.get("spec") or {}).get("nodeName") == node
        }

    def seen(self, look: Callable[[], Any]) -> Any:
        """What `look` gives once it gives something; fails when it does not in time."""
        deadline_s = time.monotonic() + WITHIN_S
        while not (found := look()):
            assert time.monotonic() < deadline_s, "it was not seen in time"
            time.sleep(0.2)
        return found

    def kinds(self) -> set[str]:
        """Of all refusals that stand."""
        return {kind for (kind,) in self.stack.rows("SELECT kind FROM refusal")}

    def told(self, *command: str, kind: str) -> list[str]:
        """The server's words of this kind, as a list of clusters or services has them."""
        rows = self.stack.json(*command)
        return [r["words"] for row in rows for r in row["refusals"] if r["kind"] == kind]

    def words_of_requests(self) -> list[str]:
        """What `tango run requests` says of those that wait."""
        rows = self.stack.json("run", "requests", str(self.run_id), "--state", "pending", "--limit", "1000")
        return [row["words"] for row in rows if row["words"]]


@pytest.fixture(scope="module")
def refused(stack_of: Callable[[str], LiveStack], tmp_path_factory: pytest.TempPathFactory) -> Refused:
    """LC and BE, steadily, for as long as the tests take; they take turns with the cluster."""
    stack = stack_of(FLEET)
    config = yaml.safe_load((stack.home / "kubeconfig").read_text())
    server = next(c["cluster"]["server"] for c in config["clusters"] if c["name"] == "r1")
    token = next(u["user"]["token"] for u in config["users"] if u["name"] == "r1-admin")
    rows = [(k / LC_PER_S, "lc", "web", 0.02) for k in range(LC_PER_S * SPAN_S)]
    rows += [(k / BE_PER_S, "be", "batch", 1.0) for k in range(BE_PER_S * SPAN_S)]
    trace = tmp_path_factory.mktemp("trace") / "steady.csv"
    lines = [f"{at:.4f},{kind},{service},r1,{work}" for at, kind, service, work in sorted(rows)]
    trace.write_text("arrival_s,class,service,cluster,cpu_work_s\n" + "\n".join(lines) + "\n")
    run_id = stack.submit(trace, "--system", "tango")
    return Refused(stack, run_id, server, token)


def test_an_expired_token_pauses_the_cluster(refused: Refused) -> None:
    """`tango cluster list` has the server's word, and the refusal goes when the token is good again."""
    refused.seen(lambda: refused.stack.rows("SELECT 1 FROM request WHERE class = 'be' AND state = 'running' LIMIT 1"))
    refused.call("PUT", "/__faults", [{"fault": "401", "user": "tango", "verb": "create"}])

    refused.seen(lambda: "credentials" in refused.kinds())
    assert "Unauthorized" in refused.told("cluster", "list", kind="credentials")
    refused.call("DELETE", "/__faults")
    refused.seen(lambda: "credentials" not in refused.kinds())


def test_roles_that_are_lost_pause_the_cluster(refused: Refused) -> None:
    """In the authorizer's words, which name what is forbidden."""
    refused.call("PUT", "/__faults", [{"fault": "rbac", "verb": "create", "path": "/pods"}])

    refused.seen(lambda: "permission" in refused.kinds())
    assert any("cannot create resource" in words for words in refused.told("cluster", "list", kind="permission"))
    refused.call("DELETE", "/__faults")
    refused.seen(lambda: "permission" not in refused.kinds())


def test_a_server_that_answers_403_at_first_after_a_restart_leaves_no_request_behind(refused: Refused) -> None:
    """All watches are cut and for some seconds nobody may do anything, kubelets included: what ended meanwhile is told afterwards, and the
    last test finds every request served."""
    refused.seen(lambda: refused.stack.rows("SELECT 1 FROM request WHERE class = 'be' AND state = 'running' LIMIT 1"))
    refused.call("PUT", "/__faults", [{"fault": "rbac", "seconds": 4}, {"fault": "cut-watches"}])

    refused.seen(lambda: "permission" in refused.kinds())
    refused.seen(lambda: "permission" not in refused.kinds())
    refused.call("DELETE", "/__faults")


def test_a_full_quota_pauses_the_service_and_its_requests_tell_why(refused: Refused) -> None:
    """`tango service list` and `tango run requests` have the quota's name."""
    refused.call("POST", QUOTAS, {"metadata": {"name": "full"}, "spec": {"hard": {"pods": "1"}}})

    refused.seen(lambda: "quota" in refused.kinds())
    assert any("exceeded quota: full" in words for words in refused.told("service", "list", kind="quota"))
    assert any("exceeded quota: full" in words for words in refused.seen(refused.words_of_requests))
    refused.call("DELETE", f"{QUOTAS}/full")
    refused.seen(lambda: "quota" not in refused.kinds())


def test_a_node_that_throws_its_pods_out_gets_no_more_of_them(refused: Refused) -> None:
    """By a NoExecute taint: its instances end, and stand again when it is gone. Requests go to the other node meanwhile.

    From when the taint is known on no pod is made for that node, however often agent and scheduler look.
    """
    path = "/api/v1/nodes/r1-n1"
    before = refused.call("GET", path)["spec"].get("taints") or []
    broken = {"key": "broken", "value": "yes", "effect": "NoExecute"}

    def instances() -> set[str]:
        return {node for (node,) in refused.stack.rows("SELECT node FROM instance WHERE ready")}

    refused.call("PATCH", path, {"spec": {"taints": [*before, broken]}})
    refused.seen(lambda: instances() == {"r1-n2"})
    decided = refused.call("GET", PODS)
    refused.seen(lambda: len(refused.given_to("r1-n2", since=decided)) >= 2)  # what was decided before is made by now
    since = refused.call("GET", PODS)
    refused.seen(
        lambda: len(refused.given_to("r1-n2", since=since)) >= 6
    )  # the scheduler has placed, and the agent looked as often
    given = refused.given_to("r1-n1", since=since)
    refused.call("PATCH", path, {"spec": {"taints": before}})

    assert given == set()

    refused.seen(lambda: instances() == {"r1-n1", "r1-n2"})


def test_a_node_is_drained_as_kubectl_does_it(refused: Refused, tmp_path: Path) -> None:
    """Cordoned, its instances serve on; every pod of it has a controller, without which drain refuses, and goes when it is evicted; nothing
    new comes until it is uncordoned."""
    path, trace = "/api/v1/nodes/r1-n2", tmp_path / "meanwhile.csv"
    trace.write_text("arrival_s,class,service,cluster,cpu_work_s\n" + "0.0,be,batch,r1,0.3\n" * 8)

    def there() -> dict[str, Json]:
        pods = refused.call("GET", f"{PODS}?fieldSelector=spec.nodeName%3Dr1-n2")["items"]
        return {pod["metadata"]["name"]: pod for pod in pods if pod["status"].get("phase") in ("Pending", "Running")}

    def nodes() -> set[str]:
        return {node for (node,) in refused.stack.rows("SELECT node FROM instance WHERE service = 'web' AND ready")}

    refused.call("PATCH", path, {"spec": {"unschedulable": True}})
    refused.seen(lambda: refused.stack.rows("SELECT 1 FROM node WHERE name = 'r1-n2' AND NOT schedulable"))
    since = refused.call("GET", PODS)
    refused.stack.ended(refused.stack.submit(trace, "--system", "tango"), within_s=120.0)
    cordoned, pods = nodes(), there()
    for name in pods:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        with contextlib.suppress(urllib.error.HTTPError):  # a BE pod that has ended meanwhile
            refused.call("POST", f"{PODS}/{name}/eviction", body)
    refused.seen(lambda: not there())
    refused.seen(lambda: nodes() == {"r1-n1"})
    given = refused.given_to("r1-n2", since=since)
    refused.call("PATCH", path, {"spec": {"unschedulable": None}})

    assert cordoned == {"r1-n1", "r1-n2"}
    owners = [[(o["kind"], o["name"], o["controller"]) for o in pod["metadata"]["ownerReferences"]] for pod in pods.values()]
    assert owners == [[("Node", "r1-n2", True)]] * len(pods)
    assert "lc-web-r1-n2-0" in pods
    assert given == set()
    refused.seen(lambda: nodes() == {"r1-n1", "r1-n2"})


def test_no_request_has_lost_an_attempt(refused: Refused) -> None:
    """Every one was served, each at its first attempt, however often it had to go elsewhere."""
    stack, run = refused.stack, (refused.run_id,)
    stack.ended(refused.run_id, within_s=120.0)

    states = stack.rows("SELECT state::text, max(attempt), count(*) FROM request WHERE run_id = %s GROUP BY 1", run)
    outcomes = {outcome for (outcome,) in stack.rows("SELECT DISTINCT outcome FROM attempt WHERE run_id = %s", run)}
    returned = {
        reason for (reason,) in stack.rows("SELECT DISTINCT reason FROM attempt WHERE run_id = %s AND outcome = 'returned'", run)
    }
    assert states == [("succeeded", 1, (LC_PER_S + BE_PER_S) * SPAN_S)]
    assert outcomes == {"succeeded", "returned"}
    assert returned >= {"cluster-refused"}


LATE = """
apiVersion: tango/v1
kind: Service
metadata: {name: late}
spec: {class: lc, cpu_work_s: 0.02, memory_mib: 16, target_ms: 1000, instance_memory_mib: 512, cpu_request_millicores: 3500,
       cpu_limit_millicores: 3900}
"""


def test_best_effort_gives_way_for_a_service_that_is_new(refused: Refused, tmp_path: Path) -> None:
    """Its instances fit on no node before: none is made that a kubelet would refuse, BE goes until there is room, and says for whom."""
    stack, trace, service = refused.stack, tmp_path / "full.csv", tmp_path / "late.yaml"
    lines = ["0.0,be,batch,r1,600"] * 60
    trace.write_text("arrival_s,class,service,cluster,cpu_work_s\n" + "\n".join(lines) + "\n")
    service.write_text(LATE)
    run_id = stack.submit(trace, "--system", "tango")
    held = "SELECT node FROM request WHERE run_id = %s AND state = 'running' GROUP BY 1 HAVING count(*) >= 5"
    refused.seen(lambda: len(stack.rows(held, (run_id,))) == 2)

    done = stack.tango("service", "apply", "-f", str(service))
    refused.seen(lambda: stack.rows("SELECT count(*) FROM instance WHERE service = 'late' AND ready") == [(2,)])

    assert done.returncode == 0, done.stderr
    why = {
        reason for (reason,) in stack.rows("SELECT DISTINCT reason FROM scaling_event WHERE kind = 'evict' AND outcome = 'done'")
    }
    ends = set(stack.rows("SELECT DISTINCT outcome, reason FROM attempt WHERE run_id = %s", (run_id,)))
    assert "evicted: room for an instance of late" in why
    assert ends == {("returned", "evicted")}
    assert stack.rows("SELECT count(*) FROM refusal WHERE service = 'late'") == [(0,)]
    assert stack.tango("run", "cancel", str(run_id)).returncode == 0


BOOSTED = """
apiVersion: tango/v1
kind: Service
metadata: {name: boosted}
spec: {class: lc, cpu_work_s: 0.02, memory_mib: 16, target_ms: 1000, instance_memory_mib: 64, cpu_request_millicores: 50,
       cpu_limit_millicores: 500, startup_cpu_limit_millicores: 2000}
"""


def test_an_instance_has_more_cpu_until_it_is_ready(refused: Refused, tmp_path: Path) -> None:
    """It is made with the limit for its start, and resized in place to the declared one."""
    service = tmp_path / "boosted.yaml"
    service.write_text(BOOSTED)

    done = refused.stack.tango("service", "apply", "-f", str(service))
    limits = "SELECT DISTINCT cpu_limit_millicores FROM instance WHERE service = 'boosted' AND ready"
    refused.seen(lambda: refused.stack.rows(limits) == [(500,)])

    assert done.returncode == 0, done.stderr
    pods = refused.call("GET", "/api/v1/namespaces/tango/pods?labelSelector=tango/service%3Dboosted")["items"]
    assert len(pods) == 2
    assert all(pod["metadata"]["generation"] > 1 for pod in pods)


THERE = """
apiVersion: tango/v1
kind: Service
metadata: {name: there}
spec: {class: lc, namespace: team-a, cpu_work_s: 0.02, memory_mib: 16, target_ms: 1000, instance_memory_mib: 64,
       cpu_request_millicores: 50, cpu_limit_millicores: 500}
---
apiVersion: tango/v1
kind: Service
metadata: {name: batch-there}
spec: {class: be, namespace: team-a, cpu_work_s: 0.2, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 1000}
"""
ROLE = Path(__file__).parents[2] / "deploy" / "rbac" / "service-namespace.yaml"
TEAM_A = "/api/v1/namespaces/team-a/pods"


def test_a_service_in_a_namespace_of_its_own_waits_for_its_owner_and_then_serves_there(refused: Refused, tmp_path: Path) -> None:
    """Until he has applied the role it is refused by itself, and the cluster is not; then LC and BE run there, and it can move away."""
    stack, services, trace = refused.stack, tmp_path / "there.yaml", tmp_path / "there.csv"
    refused.call("POST", "/api/v1/namespaces", {"metadata": {"name": "team-a"}})
    services.write_text(THERE)
    lines = [f"{0.1 * k:.1f},{'be,batch-there' if k % 5 == 0 else 'lc,there'},r1,0.05" for k in range(20)]
    trace.write_text("\n".join(["arrival_s,class,service,cluster,cpu_work_s", *lines, ""]))
    ready = "SELECT count(*) FILTER (WHERE pod LIKE 'team-a/lc-there-%%'), count(*) FROM instance WHERE service = 'there' AND ready"

    applied = stack.tango("service", "apply", "-f", str(services))
    words = refused.seen(lambda: refused.told("service", "list", kind="permission"))
    scopes = stack.rows("SELECT DISTINCT service FROM refusal WHERE kind = 'permission'")
    for item in yaml.safe_load_all(ROLE.read_text()):
        refused.call("POST", f"/apis/{item['apiVersion']}/namespaces/team-a/{item['kind'].lower()}s", item)
    refused.seen(lambda: stack.rows(ready) == [(2, 2)])
    shown = stack.ended(stack.submit(trace, "--system", "tango"), within_s=120.0)
    named = {pod for (pod,) in stack.rows("SELECT pod FROM attempt WHERE service = 'batch-there'")}
    services.write_text(THERE.replace("namespace: team-a, ", ""))
    moved = stack.tango("service", "apply", "-f", str(services))
    refused.seen(lambda: stack.rows(ready) == [(0, 2)])

    assert (applied.returncode, moved.returncode) == (0, 0)
    assert all('in the namespace "team-a"' in said for said in words)
    assert scopes == [("there",)]
    assert (shown["accepted"], shown["succeeded"]) == (20, 20)
    assert all(pod.startswith("team-a/be-r") for pod in named)
    assert len(named) == 4
    refused.seen(lambda: refused.call("GET", TEAM_A)["items"] == [])
