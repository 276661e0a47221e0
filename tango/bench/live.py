"""`tango bench live`: requests per second that Tango sustains from submit to recorded result, beside plain Celery on the same broker.

The load is pattern `p3` with nine LC requests of 2 ms to one BE pod of 50 ms, on a fleet that is far from busy, so that Tango and not
the fleet is measured. A rate is sustained if every request succeeds and the last result is recorded within `MOST_LAG_S` of the last
arrival. The search raises the rate by half until one is not sustained, then bisects.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tango.bench import celery_yardstick
from tango.bench.figures import Figure, Told
from tango.bench.process_use import CpuMeter
from tango.bench.search import greatest_sustained
from tango.bench.waiting import wait_until
from tango.bootstrap.environment import read_settings
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.fleets import load_fleet
from tango.stack.broker import Broker
from tango.stack.local import LocalStack
from tango.stack.state import ADDRESS_VARIABLES
from tango.traces.generators import Recipe, generate
from workers.app import create_app
from workers.publisher import CeleryPublisher

MOST_LAG_S = 2.0
"""Greatest lag of a rate that counts as sustained, seconds; a longer one means that a queue grows. Chosen, not measured."""
FIRST_RATE = 400.0
"""Requests per second at which the search begins, and the highest rate of the warm-up."""
LC_SHARE = 0.9
"""Share of LC requests by count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTrial:
    """The result of one run at one offered rate."""

    offered_per_s: float
    done_per_s: float
    """Requests that succeeded, over the seconds from the run's zero to the last recorded result."""
    lc_per_s: float
    be_per_s: float
    failed: int
    """Requests that did not succeed, those still open at the end of patience included."""
    lag_s: float
    """Seconds from the last arrival to the last recorded result."""
    lc_added_ms: tuple[float, float, float]
    """p50, p95, p99 of the time from arrival to start of service; NaN if no LC request was started."""
    be_added_ms: tuple[float, float, float]
    """The same of BE requests."""
    cpu_percent: Mapping[str, float]
    """By role of the stack's processes: CPU time in per cent of one core, from the first to the last arrival."""

    @property
    def sustained(self) -> bool:
        """Whether every request succeeded and the lag stayed within `MOST_LAG_S`."""
        return self.failed == 0 and self.lag_s <= MOST_LAG_S


def measure_at(rate: float, *, fleet: str = "bench", seconds: float = 10.0) -> list[Figure]:
    """Measure one offered rate (1/s) without a search, to compare versions or settings of Tango at the same load."""
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, running(Path(folder) / "stack", fleet) as stores:
        _trial(stores, fleet, min(rate, FIRST_RATE), 5.0)  # warm-up: connections, compiled code, caches
        trial = _trial(stores, fleet, rate, seconds)
    done = Figure(
        name="requests per second, end to end", value=trial.done_per_s, unit="1/s", yardstick="offered", yardstick_value=rate
    )
    return [done, Figure(name="behind the last arrival", value=trial.lag_s, unit="s"), *_at_load(trial)]


def measure(*, fleet: str = "bench", seconds: float = 10.0, tasks: int = 6000, told: Told = print) -> list[Figure]:
    """Measure plain Celery over `tasks` tasks, search the highest rate sustained for `seconds`, then measure latency at half of it.

    It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if not even 20 requests per second are
    sustained, or if a run does not end.
    """
    declared = load_fleet(fleet)
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        told("raw Celery on a broker of its own")
        with _broker(Path(folder) / "yardstick") as url:
            rates = celery_yardstick.measure(url, workers=len(declared.clusters), tasks=tasks)
        way, celery_per_s = celery_yardstick.best(rates)
        told(f"{way}: {celery_per_s:.0f} tasks per second")
        with running(Path(folder) / "stack", fleet) as stores:
            _trial(stores, fleet, FIRST_RATE, 5.0)  # warm-up: connections, compiled code, caches
            best = _search(stores, fleet, seconds, told)
            half = _trial(stores, fleet, best.done_per_s / 2, seconds)
    figures = [
        Figure(
            name="requests per second, end to end", value=best.done_per_s, unit="1/s", yardstick=way, yardstick_value=celery_per_s
        ),
        Figure(name="of these LC requests", value=best.lc_per_s, unit="1/s"),
        Figure(name="of these BE pods", value=best.be_per_s, unit="1/s"),
    ]
    return [*figures, *_at_load(half)]


def _at_load(trial: LiveTrial) -> list[Figure]:
    """Figures of one trial: the time that Tango adds before service starts, and the CPU of each role of the stack."""
    at = f"at {trial.offered_per_s:.0f}/s"
    added = [
        Figure(name=f"{label} arrival to start of service, {quantile}, {at}", value=value, unit="ms")
        for label, values in (("LC", trial.lc_added_ms), ("BE", trial.be_added_ms))
        for quantile, value in zip(("p50", "p95", "p99"), values, strict=True)
    ]
    cpu = [Figure(name=f"CPU {at}, {role}", value=percent, unit="% of a core") for role, percent in trial.cpu_percent.items()]
    return added + cpu


def _search(stores: Stores, fleet: str, seconds: float, told: Told) -> LiveTrial:
    def tried(rate: float) -> LiveTrial:
        trial = _trial(stores, fleet, rate, seconds)
        verdict = "sustained" if trial.sustained else f"not sustained ({trial.failed} failed, {trial.lag_s:.1f} s behind)"
        told(f"{rate:.0f} requests per second offered: {trial.done_per_s:.0f} done, {verdict}")
        return trial

    return greatest_sustained(tried, first=FIRST_RATE, least=20.0)


def _trial(stores: Stores, fleet: str, rate: float, seconds: float) -> LiveTrial:
    """Submit one run at `rate` for `seconds`, wait for its end, read its result and delete it.

    A run that takes much longer than its arrivals is cancelled; its open requests count as failed.
    Raises: TangoError if the cancelled run does not end.
    """
    declared = load_fleet(fleet)
    recipe = Recipe(
        pattern="p3",
        rate_per_s=rate,
        duration_s=seconds,
        clusters=len(declared.clusters),
        lc_share=LC_SHARE,
        lc_work_s=0.002,
        be_work_s=0.050,
        fleet=declared,
        seed=1,
    )
    trace = generate(recipe)
    home = Path(stores.settings.kubeconfig).parent
    submission = submission_of(stores, CeleryPublisher(create_app(stores.settings)))
    order = RunOrder(trace=trace, fleet=declared, system="tango", name=f"bench {rate:.0f}/s", seed=1)
    run_id = submission.submit(submission.prepare(order)).run_id
    begun_s = time.monotonic()
    meter, cpu_percent = CpuMeter(home), dict[str, float]()
    give_up_s = begun_s + 6 * seconds + 60  # far beyond `MOST_LAG_S`, so that the lag of an overload is still measured
    while not stores.runs.all_terminal(run_id):
        if not cpu_percent and time.monotonic() - begun_s > seconds + stores.settings.replay.lead_s:
            cpu_percent = meter.percent()
        if time.monotonic() > give_up_s:
            stores.runs.cancel(run_id)
            break
        time.sleep(0.1)
    trial = _outcome(stores, run_id, rate, cpu_percent or meter.percent())
    # The reconciler ends the run within a tick; only then may it be deleted.
    wait_until(
        lambda: not stores.runs.active_runs() and not stores.runs.cancelling_runs(),
        timeout_s=60,
        every_s=0.2,
        failure=f"run {run_id} at {rate:.0f} requests per second did not end within 60 s after its last request",
    )
    stores.runs.delete(run_id)
    return trial


def _outcome(stores: Stores, run_id: int, rate: float, cpu_percent: Mapping[str, float]) -> LiveTrial:
    rows = stores.database.rows(
        "SELECT class, count(*), count(*) FILTER (WHERE state <> 'succeeded'), max(due_s), max(finished_s), "
        "percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY started_s - due_s) FROM request WHERE run_id = %s GROUP BY class",
        (run_id,),
    )
    by_class = {row[0]: row for row in rows}
    span_s = max(row[4] or 0.0 for row in rows) or float("inf")
    done = {kind: (row[1] - row[2]) / span_s for kind, row in by_class.items()}
    added = {kind: added_ms(row[5]) for kind, row in by_class.items()}
    return LiveTrial(
        offered_per_s=rate,
        done_per_s=sum(done.values()),
        lc_per_s=done.get("lc", 0.0),
        be_per_s=done.get("be", 0.0),
        failed=sum(row[2] for row in rows),
        lag_s=span_s - max(row[3] for row in rows),
        lc_added_ms=added.get("lc", added_ms(None)),
        be_added_ms=added.get("be", added_ms(None)),
        cpu_percent=cpu_percent,
    )


def added_ms(quantiles_s: Sequence[float] | None) -> tuple[float, float, float]:
    """p50, p95, p99 in milliseconds of what PostgreSQL gives in seconds; NaN for its NULL, when no request of a class was started."""
    p50, p95, p99 = (1e3 * value for value in quantiles_s) if quantiles_s else (math.nan,) * 3
    return p50, p95, p99


@contextlib.contextmanager
def _broker(home: Path) -> Iterator[str]:
    home.mkdir(mode=0o700)
    broker = Broker(home, password=secrets.token_urlsafe(16))
    broker.start()
    try:
        yield broker.url
    finally:
        broker.stop()


@contextlib.contextmanager
def running(home: Path, fleet: str, *, line_rtt_ms: float | None = None) -> Iterator[Stores]:
    """The stores of a stack of its own in a state folder, which stops with the block; `line_rtt_ms` as `LocalStack` takes it."""
    environment = {**{k: v for k, v in os.environ.items() if k not in ADDRESS_VARIABLES}, "TANGO_HOME": str(home)}
    stack = LocalStack(home, load_fleet(fleet), environment=environment, line_rtt_ms=line_rtt_ms)
    try:
        stack.start()
        yield Stores(read_settings(environment))
    finally:
        stack.stop()
