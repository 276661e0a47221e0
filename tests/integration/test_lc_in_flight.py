"""Hundreds of LC requests under way in one cluster, and the Celery slots free beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.live_stack import LiveStack, active_tasks
from tests.waiting import until

pytestmark = [pytest.mark.timeout(300), pytest.mark.long]

FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: burst}
spec:
  beta: 0.0
  clusters:
    - name: s1
      nodes: [{name: s1-n1, cpu_millicores: 4000, memory_mib: 8192}, {name: s1-n2, cpu_millicores: 4000, memory_mib: 8192}]
  services:
    - name: web
      class: lc
      cpu_work_s: 0.040
      cpu_work_cv: 0.0
      target_ms: 5000
      memory_mib: 16
      instance_memory_mib: 512
      cpu_request_millicores: 200
      cpu_limit_millicores: 1000
    - {name: batch, class: be, cpu_work_s: 1.0, memory_mib: 64, cpu_request_millicores: 200, cpu_limit_millicores: 2000}
"""
REQUESTS = 900
"""Eighteen seconds of work for two instances of one core, far more than a busy machine needs to start them: as many are in flight at
once as the stack lets through, and far less than the ten targets after which a call is given up."""


@pytest.fixture(
    params=[
        pytest.param("1", id="started where dispatched"),
        pytest.param("0", id="through the exec queue"),
    ]
)
def stack(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LiveStack]:
    """One cluster, whose worker starts what it dispatches itself, or sends it through `exec.s1` to itself."""
    (tmp_path / "burst.yaml").write_text(FLEET)
    stack = LiveStack(tmp_path / "home", {"TANGO_LC_START_HERE": request.param})
    try:
        stack.start(tmp_path / "burst.yaml")
        yield stack
    finally:
        stack.stop()


def test_five_hundred_are_in_flight_and_their_slots_are_free(stack: LiveStack, tmp_path: Path) -> None:
    """Calls under way hold a lease and no slot: with 500 of them running, no task of the worker is active; then all succeed."""
    trace = tmp_path / "burst.csv"
    rows = "".join(f"{k / 2000:.4f},lc,web,s1,0.040\n" for k in range(REQUESTS))
    trace.write_text("arrival_s,class,service,cluster,cpu_work_s\n" + rows)

    # Beforehand: what is in flight becomes less with each second.
    told = stack.json("env")
    run_id = stack.submit(trace, "--no-reassure")
    running = "SELECT count(*) FROM request WHERE run_id = %s AND state = 'running'"
    until(lambda: stack.rows(running, (run_id,))[0][0] >= 500)
    active = active_tasks(told)
    still = stack.rows(running, (run_id,))[0][0]
    shown = stack.ended(run_id, within_s=120.0)

    assert active == []
    assert still > 100
    assert shown["succeeded"] == REQUESTS
