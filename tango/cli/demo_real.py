"""The second part of `tango demo`: a real HTTP service and a real job on the stack, called as anybody would call them."""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tango.errors import TangoError

if TYPE_CHECKING:
    from tango.client import Tango
    from tango.domain.services import Service

GREET, PRIMES = "greet", "count-primes"
CALLS = 20
BELOW = 2_000_000
READY_WITHIN_S = 30.0
"""Seconds in which an instance has to be there. Python starts in a tenth of one; a machine that is busy takes longer."""


def show_real_work(url: str, token: str) -> None:
    """Declare both services, call one, wait for the other, and print what they said. Raises: TangoError where they do not come."""
    from tango.bootstrap.stores import stores
    from tango.client import Tango

    click.echo("\nReal work on the same stack: a service and a job, as processes of this machine.", err=True)
    stores().fleet.put_services(_services())
    with Tango(url, token=token) as tango:
        _await_instances(tango)
        took_ms, said = [], ""
        for k in range(CALLS):
            begun_s = time.perf_counter()
            said = tango.request(GREET, "/", body=f"caller {k + 1}".encode(), timeout_s=5.0).body.decode().strip()
            took_ms.append((time.perf_counter() - begun_s) * 1e3)
        job = tango.submit(PRIMES, args=[str(BELOW)])
        state = job.wait(timeout_s=60.0).state
        log = job.logs().strip()
    click.echo(
        f"\n{GREET:14}{CALLS} requests through the gateway, {statistics.median(took_ms):.0f} ms in the median; the last: {said}"
    )
    click.echo(f"{PRIMES:14}job {job.id} {state}: {log}")


def _services() -> tuple[Service, ...]:
    from tango.emulation import real
    from tango.fleets import load_services

    folder = Path(next(iter(real.__path__)))
    with tempfile.TemporaryDirectory(prefix="tango-demo-") as place:
        of_both: dict[str, dict[str, object]] = {GREET: {"class": "lc", "target_ms": 100}, PRIMES: {"class": "be"}}
        for name, of_class in of_both.items():
            program = folder / {GREET: "greet.py", PRIMES: "primes.py"}[name]
            resources = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
            container: dict[str, object] = {
                "name": name,
                "image": "python:3.12-slim",
                "command": [sys.executable, str(program)],
                "resources": resources,
            }
            if name == GREET:
                container["ports"] = [{"name": "http", "containerPort": 8080}]
            spec = of_class | {"template": {"spec": {"containers": [container]}}}
            document = {"apiVersion": "tango/v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}
            (Path(place) / f"{name}.yaml").write_text(json.dumps(document))  # JSON is YAML
        return load_services(place)


def _await_instances(tango: Tango) -> None:
    until_s = time.monotonic() + READY_WITHIN_S
    while not any(found["service"] == GREET and found["ready_instances"] for found in tango.services()):
        if time.monotonic() > until_s:
            raise TangoError(f"no instance of {GREET} is ready after {READY_WITHIN_S:.0f} s; `tango status` and the logs tell why")
        time.sleep(0.2)
