"""`tango bench gateway`: what a gateway adds to a request of a caller, beside the same request sent straight to the pod in the same run.

The instance is a real process that answers after a fixed time and says how long it took. What is added is the caller's time to the first
byte of the answer less that. A rate is sustained if every request is answered well, 99 of 100 within their target, and the last one
within `MOST_LAG_S` of the last arrival; at half of the highest such rate latencies are measured. Arrivals are Poisson's, and do not wait
for answers.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from tango.bench import timed_service
from tango.bench.figures import Figure, Told
from tango.bench.live import MOST_LAG_S, running
from tango.bench.process_use import CpuMeter
from tango.bench.search import greatest_sustained
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.errors import TangoError
from tango.stack.state import read_stack

SERVICE = "timed"
FIRST_RATE = 100.0
"""Requests per second at which the search begins."""
STRAIGHT_PER_S = 20.0
"""Requests per second that go straight to the pod meanwhile: enough for percentiles, too few to be a load."""
TARGET_MS = 1000
PATIENCE_MS = 5000
"""Milliseconds that a request is waited for. Far beyond what a sustained rate takes."""
FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {{name: bench-gateway}}
spec:
  run: processes
  clusters:
    - name: c1
      x_km: 0
      y_km: 0
      nodes:
        - {{name: c1-n1, cpu_millicores: 8000, memory_mib: 16384}}
  services:
    - name: {service}
      class: lc
      target_ms: {target_ms}
      cpu_work_s: 0.001
      memory_mib: 2
      template:
        spec:
          containers:
            - name: timed
              image: none
              command: {command}
              ports: [{{containerPort: {port}, name: http}}]
              readinessProbe: {{httpGet: {{path: /, port: http}}, periodSeconds: 1}}
              resources: {{requests: {{cpu: "1", memory: 1Gi}}, limits: {{cpu: "4", memory: 2Gi}}}}
"""


class Place(NamedTuple):
    """Where a request goes."""

    url: str
    headers: dict[str, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RateTrial:
    """One offered rate for some seconds."""

    offered_per_s: float
    answered_per_s: float
    failed: int
    """Requests that were not answered with 200."""
    lag_s: float
    """Seconds from the last arrival to the last answer."""
    added_ms: tuple[float, float]
    """p50, p99 of what was added through the gateway; NaN where nothing was answered."""
    straight_ms: tuple[float, float]
    """The same of requests that went straight to the pod."""
    cpu_percent: dict[str, float]

    @property
    def sustained(self) -> bool:
        """Whether every request was answered well and in time."""
        return self.failed == 0 and self.lag_s <= MOST_LAG_S and self.added_ms[1] <= TARGET_MS


def measure(*, seconds: float = 10.0, rate: float | None = None, told: Told = print) -> list[Figure]:
    """The sustained rate, and what is added at half of it; with `rate` (1/s) only what is added at that one.

    It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if not even 10 a second are sustained.
    """
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        fleet = Path(folder) / "fleet.yaml"
        command = [sys.executable, timed_service.__file__]
        fleet.write_text(FLEET.format(service=SERVICE, target_ms=TARGET_MS, command=command, port=timed_service.PORT))
        home = Path(folder) / "stack"
        with running(home, str(fleet)) as stores:
            through, straight = _places(stores, home)
            asyncio.run(_trial(home, through, straight, FIRST_RATE, 3.0))  # warm-up: connections, compiled code, caches
            best = None if rate is not None else _search(home, through, straight, seconds, told)
            at = rate if best is None else best.answered_per_s / 2
            half = asyncio.run(_trial(home, through, straight, at or FIRST_RATE, seconds))
    return _figures(best, half)


def _figures(best: RateTrial | None, half: RateTrial) -> list[Figure]:
    at = f"at {half.offered_per_s:.0f}/s"
    found = []
    if best is not None:
        found.append(Figure(name="requests per second through the gateway", value=best.answered_per_s, unit="1/s"))
    else:
        found.append(Figure(name=f"requests not answered, {at}", value=half.failed, unit="requests"))
    found += [
        Figure(
            name=f"added latency {at}, {quantile}", value=value, unit="ms", yardstick="straight to the pod", yardstick_value=beside
        )
        for quantile, value, beside in zip(("p50", "p99"), half.added_ms, half.straight_ms, strict=True)
    ]
    return found + [
        Figure(name=f"CPU {at}, {role}", value=percent, unit="% of a core") for role, percent in half.cpu_percent.items()
    ]


def _places(stores: Stores, home: Path) -> tuple[Place, Place]:
    """(through the gateway, straight to the pod), once both answer. Raises: TangoError."""
    info = read_stack(home)
    if info is None:
        raise TangoError(f"the stack in {home} has ended")
    through = Place(
        f"{info.gateways['c1']}/s/{SERVICE}/",
        {"Authorization": f"Bearer {info.token}", "Tango-Timeout-Ms": str(PATIENCE_MS)},
    )
    wait_until(
        lambda: any(instance.ready for _, instance in stores.fleet.instances()),
        timeout_s=60,
        every_s=0.1,
        failure="the service's instance was not ready after 60 s",
    )
    (pod,) = [instance for _, instance in stores.fleet.instances()]
    straight = Place(f"http://{pod.pod_ip}:{pod.port}/", {})
    for place in (straight, through):
        wait_until(
            lambda place=place: asyncio.run(_answers(place)),  # type: ignore[misc]
            timeout_s=60,
            every_s=0.5,
            failure=f"{place.url} did not answer within 60 s",
        )
    return through, straight


async def _answers(place: Place) -> bool:
    async with aiohttp.ClientSession() as session:
        return not math.isnan(await _added_ms(session, place))


def _search(home: Path, through: Place, straight: Place, seconds: float, told: Told) -> RateTrial:
    def tried(rate: float) -> RateTrial:
        trial = asyncio.run(_trial(home, through, straight, rate, seconds))
        verdict = "sustained" if trial.sustained else f"not sustained ({trial.failed} failed, {trial.lag_s:.1f} s behind)"
        told(
            f"{rate:.0f} requests per second offered: {trial.answered_per_s:.0f} answered, p99 +{trial.added_ms[1]:.0f} ms, {verdict}"
        )
        return trial

    return greatest_sustained(tried, first=FIRST_RATE, least=10.0)


async def _trial(home: Path, through: Place, straight: Place, rate: float, seconds: float) -> RateTrial:
    """Offer `rate` requests a second through the gateway, and a few beside it."""
    meter = CpuMeter(home)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        began_s = time.monotonic()
        offered, beside = await asyncio.gather(
            _offered(session, through, rate, seconds, seed=1), _offered(session, straight, STRAIGHT_PER_S, seconds, seed=2)
        )
        cpu_percent = meter.percent()
        added = np.array(await asyncio.gather(*offered))
        ended_s = time.monotonic()
        straight_ms = np.array(await asyncio.gather(*beside))
    answered = added[~np.isnan(added)]
    return RateTrial(
        offered_per_s=rate,
        answered_per_s=len(answered) / max(ended_s - began_s, seconds),
        failed=len(added) - len(answered),
        lag_s=max(ended_s - began_s - seconds, 0.0),
        added_ms=_quantiles(answered),
        straight_ms=_quantiles(straight_ms[~np.isnan(straight_ms)]),
        cpu_percent=cpu_percent,
    )


async def _offered(
    session: aiohttp.ClientSession, place: Place, rate: float, seconds: float, *, seed: int
) -> list[asyncio.Task[float]]:
    """Begin requests at Poisson's times; gives them, ended or not."""
    draw, began_s, due_s = random.Random(seed), time.monotonic(), 0.0
    tasks = []
    while (due_s := due_s + draw.expovariate(rate)) < seconds:
        if (pause_s := began_s + due_s - time.monotonic()) > 0:
            await asyncio.sleep(pause_s)
        tasks.append(asyncio.create_task(_added_ms(session, place)))
    await asyncio.sleep(max(0.0, began_s + seconds - time.monotonic()))
    return tasks


async def _added_ms(session: aiohttp.ClientSession, place: Place) -> float:
    """Milliseconds to the first byte of the answer beyond what the instance took; NaN where it was not answered well."""
    began_s = time.perf_counter()
    try:
        async with session.post(place.url, data=b"x" * 100, headers=place.headers) as response:
            first_s = time.perf_counter() - began_s
            await response.read()
            if response.status != 200:
                return math.nan
            return 1e3 * (first_s - float(response.headers[timed_service.TOOK]))
    except (aiohttp.ClientError, TimeoutError, KeyError):
        return math.nan


def _quantiles(values_ms: Sequence[float] | np.ndarray) -> tuple[float, float]:
    if len(values_ms) == 0:
        return math.nan, math.nan
    p50, p99 = np.quantile(values_ms, (0.5, 0.99))
    return float(p50), float(p99)
