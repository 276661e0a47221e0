"""`tango bench overload`: what becomes of LC when more is offered than can be served, and afterwards.

One small cluster whose CPU is the bound, not the host: two nodes of one core, requests of 20 ms, so that it serves 100 a second. Every
trial offers half of that, then a burst of so many times the capacity, then half of it again. Goodput counts answers within the target; what
was shed or late counts as missed. The yardstick is the best goodput of the same run.

`measure_host` is the other case: a fleet far larger than the host, which itself is the bound. What it serves is found first, by raising the
burst until it is not answered in time any more.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango.bench.figures import Figure, Told
from tango.bench.live import running
from tango.bench.process_use import CpuMeter
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.fleets.catalog import parse_fleet
from workers.app import create_app
from workers.publisher import CeleryPublisher

_FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {{name: overload}}
spec:
  clusters:
    - name: c1
      nodes:
        - {{name: n1, cpu_millicores: {node_millicores}, memory_mib: 16384}}
        - {{name: n2, cpu_millicores: {node_millicores}, memory_mib: 16384}}
  services:
    - {{name: web, class: lc, cpu_work_s: {work_s}, cpu_work_cv: 0.5, memory_mib: {memory_mib}, target_ms: 250,
        instance_memory_mib: {instance_mib}, cpu_request_millicores: 500, cpu_limit_millicores: {limit_millicores},
        shed_after_targets: 1}}
"""
SMALL = _FLEET.format(node_millicores=1000, work_s=0.02, memory_mib=16, instance_mib=1024, limit_millicores=1000)
"""A fleet whose CPU is the bound."""
LARGE = _FLEET.format(node_millicores=64_000, work_s=0.002, memory_mib=4, instance_mib=8192, limit_millicores=32_000)
"""A fleet that serves 32,000 requests a second, and takes as many at once as the host can send."""
CAPACITY_PER_S = 100.0
"""Two cores over 20 ms."""
HOST_FIRST_PER_S, HOST_STEP, IN_TIME = 600.0, 1.5, 0.9
"""The search for what the host serves: its first rate, the factor to the next, and the share in time below which it ends."""
CALM, BEFORE_S, BURST_S, AFTER_S = 0.5, 5.0, 15.0, 25.0
"""Load in units of the capacity beside the burst, and the seconds of the three parts of a trial."""
SETTLED_S = 3.0
"""Seconds of a burst that are left out: goodput is that of the overload, and not of the queue as it fills."""
BACK_AT = 0.95
"""Share of answers in time at which the fleet counts as back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What a burst of so many times the capacity gave."""

    load: float
    offered_per_s: float
    goodput_per_s: float
    shed: int
    late: int
    failed: int
    back_after_s: float
    """Seconds after the burst from which on answers are in time; infinity: not within the trial."""
    host_cores: float
    """CPU cores that the stack used, from the first to the last arrival."""


def measure(*, loads: Sequence[float] = (0.5, 1.0, 1.5, 3.0, 10.0), told: Told = print) -> list[Figure]:
    """Goodput in a burst of each load, what was offered, shed and late, and the seconds until all is well again.

    It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if a run does not end.
    """
    with _bench(SMALL) as bench:
        bench.trial(0.5, CAPACITY_PER_S)  # warm-up: connections, compiled code, caches
        trials = [_told(bench.trial(load, CAPACITY_PER_S), told) for load in loads]
    return _figures(trials)


def measure_host(*, loads: Sequence[float] = (1.5, 3.0), told: Told = print) -> list[Figure]:
    """The same in bursts of so many times what the host itself serves in time, which is measured first; it stands in the first figure."""
    with _bench(LARGE) as bench:
        bench.trial(0.5, HOST_FIRST_PER_S, after_s=0.0)
        rate, best_per_s = HOST_FIRST_PER_S, 0.0
        while True:
            trial = bench.trial(1.0, rate, after_s=0.0)
            told(f"{trial.offered_per_s:.0f}/s offered: {trial.goodput_per_s:.0f}/s in time")
            best_per_s = max(best_per_s, trial.goodput_per_s)
            if trial.goodput_per_s < IN_TIME * trial.offered_per_s:
                break
            rate *= HOST_STEP
        trials = [_told(bench.trial(load, best_per_s), told) for load in loads]
    return [Figure(name="in time on this host at the best", value=best_per_s, unit="1/s"), *_figures(trials, best_per_s)]


def _told(trial: _Trial, told: Told) -> _Trial:
    told(
        f"{trial.load:g} times the capacity: {trial.goodput_per_s:.0f}/s in time of {trial.offered_per_s:.0f}/s offered, "
        f"{trial.shed} shed, {trial.late} late, back after {trial.back_after_s:.0f} s, {trial.host_cores:.2f} cores of the host"
    )
    return trial


def _figures(trials: Sequence[_Trial], best_per_s: float = 0.0) -> list[Figure]:
    peak = max(best_per_s, *(trial.goodput_per_s for trial in trials))
    figures = []
    for trial in trials:
        at = f"{trial.load:g} times the capacity"
        figures += [
            Figure(
                name=f"goodput at {at}", value=trial.goodput_per_s, unit="1/s", yardstick="best of the run", yardstick_value=peak
            ),
            Figure(name=f"offered at {at}", value=trial.offered_per_s, unit="1/s"),
            Figure(name=f"shed at {at}", value=trial.shed, unit="requests"),
            Figure(name=f"late at {at}", value=trial.late, unit="requests"),
            Figure(name=f"failed at {at}", value=trial.failed, unit="requests"),
            Figure(name=f"in time again after {at}", value=trial.back_after_s, unit="s"),
            Figure(name=f"cores of the host at {at}", value=trial.host_cores, unit="cores"),
        ]
    return figures


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """A stack under test."""

    stores: Stores
    home: Path
    fleet: Fleet

    def trial(self, load: float, capacity_per_s: float, *, after_s: float = AFTER_S) -> _Trial:
        """One burst of so many times the capacity, and `after_s` of the calm behind it. Raises: TangoError if the run does not end."""
        return _trial(self.stores, self.home, self.fleet, load, _trace(load, capacity_per_s, after_s))


@contextlib.contextmanager
def _bench(fleet: str) -> Iterator[_Bench]:
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        home, file = Path(folder) / "stack", Path(folder) / "overload.yaml"
        file.write_text(fleet)
        with running(home, str(file)) as stores:
            yield _Bench(stores=stores, home=home, fleet=parse_fleet(fleet, "the fleet of this benchmark"))


def _trial(stores: Stores, home: Path, fleet: Fleet, load: float, trace: Trace) -> _Trial:
    submission = submission_of(stores, CeleryPublisher(create_app(stores.settings)))
    order = RunOrder(trace=trace, fleet=fleet, system="tango", name=f"overload {load:g}", seed=1)
    meter = CpuMeter(home)
    run_id = submission.submit(submission.prepare(order)).run_id
    wait_until(
        lambda: not stores.runs.active_runs(),
        timeout_s=BEFORE_S + BURST_S + AFTER_S + 120,
        every_s=0.5,
        failure=f"the run at {load:g} times the capacity did not end",
    )
    host_cores = sum(meter.percent().values()) / 100
    rows = stores.database.rows(
        "SELECT due_s, coalesce(finished_s - due_s <= target_s, false), state::text FROM request WHERE run_id = %s ORDER BY due_s",
        (run_id,),
    )
    due_s = np.array([row[0] for row in rows])
    in_time = np.array([row[1] for row in rows], np.bool_)
    states = [row[2] for row in rows]
    counted = (due_s >= BEFORE_S + SETTLED_S) & (due_s < BEFORE_S + BURST_S)
    seconds = BURST_S - SETTLED_S
    return _Trial(
        load=load,
        offered_per_s=float(counted.sum() / seconds),
        goodput_per_s=float((counted & in_time).sum() / seconds),
        shed=states.count("shed"),
        late=states.count("succeeded") - int(in_time.sum()),
        failed=states.count("failed"),
        back_after_s=_back_after_s(due_s - BEFORE_S - BURST_S, in_time),
        host_cores=host_cores,
    )


def _back_after_s(after_s: NDArray[np.float64], in_time: NDArray[np.bool_]) -> float:
    """Seconds after the burst from which on, second by second, answers are in time."""
    seconds = np.floor(after_s)
    bad = [k for k in range(int(AFTER_S)) if (seconds == k).any() and in_time[seconds == k].mean() < BACK_AT]
    if not bad:
        return 0.0
    return float("inf") if bad[-1] >= AFTER_S - 2 else float(bad[-1] + 1)


def _trace(load: float, capacity_per_s: float, after_s: float) -> Trace:
    """Poisson arrivals in three parts."""
    rng = np.random.default_rng(1)
    parts = []
    for begin_s, seconds, times in ((0.0, BEFORE_S, CALM), (BEFORE_S, BURST_S, load), (BEFORE_S + BURST_S, after_s, CALM)):
        n = rng.poisson(times * capacity_per_s * seconds)
        parts.append(begin_s + np.sort(rng.uniform(0.0, seconds, n)))
    arrival_s = np.round(np.concatenate(parts), 6).astype(np.float64)
    n = len(arrival_s)
    return Trace(
        arrival_s=arrival_s,
        service_class=np.full(n, int(ServiceClass.LC), np.int8),
        service=np.zeros(n, np.int32),
        cluster=np.zeros(n, np.int32),
        cpu_work_s=np.full(n, np.nan),
        memory_mib=np.full(n, np.nan),
        services=("web",),
        clusters=("c1",),
        source="tango bench overload",
    )
