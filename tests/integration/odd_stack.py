"""A service for tests on a stack of its own, called through a gateway: its fleet, and how its requests stand."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tango.client import Tango
from tango.client.errors import ClientError
from tests.integration.live_stack import LiveStack
from tests.waiting import until

SERVICE = Path(__file__).parent / "odd_service.py"
FLEET = f"""
apiVersion: tango/v1
kind: Fleet
metadata: {{name: callers}}
spec:
  run: processes
  clusters:
    - name: c1
      nodes:
        - {{name: c1-n1, cpu_millicores: 4000, memory_mib: 8192}}
        - {{name: c1-n2, cpu_millicores: 4000, memory_mib: 8192}}
  services:
    - name: odd
      class: lc
      target_ms: 1000
      cpu_work_s: 0.002
      memory_mib: 4
      template:
        spec:
          containers:
            - name: web
              image: none
              command: [{sys.executable}, {SERVICE}]
              ports: [{{containerPort: 18080, name: http}}]
              resources: {{requests: {{cpu: 200m, memory: 256Mi}}, limits: {{cpu: "2", memory: 512Mi}}}}
"""


def is_served(tango: Tango) -> bool:
    """Whether both instances answer: a request that is turned away at first opens the live run."""
    try:
        return all(tango.request("odd", timeout_s=5.0).is_ok for _ in range(6))
    except ClientError:
        return False


def row(stack: LiveStack, request: str) -> tuple[str, str, int]:
    """(state, reason, attempts) at the centre, once the request has ended there."""
    run_id, request_id = map(int, request.split("-"))
    query = (
        "SELECT state::text, reason, attempt FROM request WHERE run_id = %s AND request_id = %s "
        "AND state IN ('succeeded', 'failed', 'shed', 'cancelled')"
    )
    return tuple(until(lambda: stack.rows(query, (run_id, request_id)))[0])  # type: ignore[return-value]


def goes_on(stack: LiveStack) -> None:
    """Let `/stream` go on after its first part."""
    for address, port in stack.rows("SELECT pod_ip, port FROM instance WHERE service = 'odd' AND ready"):
        urllib.request.urlopen(f"http://{address}:{port}/go", timeout=10.0).close()


def free_port() -> int:
    """One that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process, ended by SIGTERM afterwards."""
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
