"""Two embedded clusters made from one template: both have a node `worker-1`, and pods of the same names on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.live_stack import LiveStack

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: twins}
spec:
  beta: 0.0
  clusters:
    - name: calm
      nodes: [{name: worker-1, cpu_millicores: 8000, memory_mib: 8192}]
    - name: busy
      nodes: [{name: worker-1, cpu_millicores: 2000, memory_mib: 8192}]
  services:
    - name: web
      class: lc
      cpu_work_s: 0.040
      cpu_work_cv: 0.0
      target_ms: 250
      memory_mib: 16
      instance_memory_mib: 512
      cpu_request_millicores: 200
      cpu_limit_millicores: 500
    - {name: batch, class: be, cpu_work_s: 0.5, memory_mib: 64, cpu_request_millicores: 100, cpu_limit_millicores: 500}
"""
SPAN_S = 8
CALM_PER_S, BUSY_PER_S = 2, 25
"""LC requests: at 25 a second an instance of half a core has twice the work that it can do, at 2 a second a sixth."""
BE_PER_S = 1


@pytest.fixture(scope="module")
def stack(stack_of: Callable[[str], LiveStack]) -> LiveStack:
    """The two clusters."""
    return stack_of(FLEET)


@pytest.fixture(scope="module")
def run_id(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> int:
    """A run of `ceres`, which keeps every request in the cluster that it entered, and grows who is late. All BE enters at `busy`."""
    rows = [(k / CALM_PER_S, "lc", "web", "calm", 0.040) for k in range(CALM_PER_S * SPAN_S)]
    rows += [(k / BUSY_PER_S, "lc", "web", "busy", 0.040) for k in range(BUSY_PER_S * SPAN_S)]
    rows += [(k / BE_PER_S, "be", "batch", "busy", 0.5) for k in range(BE_PER_S * SPAN_S)]
    path = tmp_path_factory.mktemp("trace") / "twins.csv"
    lines = [f"{at:.4f},{kind},{service},{cluster},{work}" for at, kind, service, cluster, work in sorted(rows)]
    path.write_text("arrival_s,class,service,cluster,cpu_work_s\n" + "\n".join(lines) + "\n")
    run_id = stack.submit(path, "--system", "ceres")
    stack.ended(run_id, within_s=150.0)
    return run_id


def _by_cluster(stack: LiveStack, query: str, run_id: int) -> dict[str, float]:
    return {cluster: float(value) for cluster, value in stack.rows(query, (run_id,))}


def test_requests_are_served_by_the_pod_that_the_plan_named(stack: LiveStack, run_id: int) -> None:
    """Every succeeded request was planned for its entry's `worker-1`, and each node measured the CPU of what was planned for it."""
    places = stack.rows(
        "SELECT DISTINCT class::text, cluster, target_cluster, node, state::text FROM request WHERE run_id = %s ORDER BY 1, 2",
        (run_id,),
    )
    planned_s = _by_cluster(stack, "SELECT target_cluster, sum(cpu_work_s) FROM request WHERE run_id = %s GROUP BY 1", run_id)
    used = _by_cluster(
        stack,
        "SELECT s.cluster, avg(s.cpu_used_millicores) FROM node_sample s, run r "
        "WHERE r.run_id = %s AND s.at BETWEEN r.started_at AND r.ended_at GROUP BY 1",
        run_id,
    )

    assert places == [
        ("be", "busy", "busy", "worker-1", "succeeded"),
        ("lc", "busy", "busy", "worker-1", "succeeded"),
        ("lc", "calm", "calm", "worker-1", "succeeded"),
    ]
    # A directory that knew nodes by name alone would have sent half of all LC work to each.
    assert used["calm"] / sum(used.values()) == pytest.approx(planned_s["calm"] / sum(planned_s.values()), abs=0.05)


def test_be_pods_run_on_the_node_that_the_plan_named(stack: LiveStack, run_id: int) -> None:
    """Pods were seen in `busy` and never in `calm`."""
    pods = _by_cluster(
        stack,
        "SELECT s.cluster, max(s.be_pods) FROM node_sample s, run r "
        "WHERE r.run_id = %s AND s.at BETWEEN r.started_at AND r.ended_at GROUP BY 1",
        run_id,
    )

    assert pods["busy"] >= 1
    assert pods["calm"] == 0


def test_the_late_instance_grows_and_its_namesake_stays_as_it_is(stack: LiveStack, run_id: int) -> None:
    """Late answers are of `busy/worker-1` alone; the pod of the same name in `calm` is never touched."""
    grown = stack.rows(
        "SELECT DISTINCT s.cluster, s.node, s.pod FROM scaling_event s, run r WHERE r.run_id = %s AND s.at >= r.submitted_at "
        "AND s.kind = 'resize' AND s.reason = 'grow' AND s.outcome = 'done'",
        (run_id,),
    )
    touched = stack.rows(
        "SELECT count(*) FROM scaling_event s, run r WHERE r.run_id = %s AND s.at >= r.submitted_at AND s.cluster = 'calm'",
        (run_id,),
    )
    met = _by_cluster(
        stack,
        "SELECT cluster, avg((finished_s - due_s <= target_s)::int) FROM request WHERE run_id = %s AND class = 'lc' GROUP BY 1",
        run_id,
    )

    assert grown == [("busy", "worker-1", "lc-web-worker-1-0")]
    assert touched == [(0,)]
    assert met["calm"] > met["busy"]


def test_what_people_see_names_the_cluster(stack: LiveStack, run_id: int, tmp_path: Path) -> None:
    """`run requests` and the page tell the two nodes apart."""
    listed = stack.json("run", "requests", str(run_id), "--limit", "1000")
    made = stack.tango("report", str(run_id), "--out", str(tmp_path / "run.html"))

    assert {(row["target_cluster"], row["node"]) for row in listed} == {("busy", "worker-1"), ("calm", "worker-1")}
    assert made.returncode == 0, made.stderr
    page = (tmp_path / "run.html").read_text()
    assert ">calm/worker-1<" in page
    assert ">busy/worker-1<" in page
