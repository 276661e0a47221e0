"""`tango bench overload`: what becomes of LC when more is offered than can be served, and afterwards.

One small cluster whose CPU is the bound, not the host: two nodes of one core, requests of 20 ms, so that it serves 100 a second. Every
trial offers half of that, then a burst of so many times the capacity, then half of it again. Goodput counts answers within the target; what
was shed or late counts as missed. The yardstick is the best goodput of the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
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

FLEET = """
apiVersion: tango/v1
kind: Fleet
metadata: {name: overload}
spec:
  clusters:
    - name: c1
      nodes:
        - {name: n1, cpu_millicores: 1000, memory_mib: 4096}
        - {name: n2, cpu_millicores: 1000, memory_mib: 4096}
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, cpu_work_cv: 0.5, memory_mib: 16, target_ms: 250, instance_memory_mib: 1024,
       cpu_request_millicores: 500, cpu_limit_millicores: 1000, shed_after_targets: 1}
"""
CAPACITY_PER_S = 100.0
"""Two cores over 20 ms."""
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
    fleet = parse_fleet(FLEET, "the fleet of this benchmark")
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        home = Path(folder) / "stack"
        file = Path(folder) / "overload.yaml"
        file.write_text(FLEET)
        with running(home, str(file)) as stores:
            _trial(stores, home, fleet, 0.5)  # warm-up: connections, compiled code, caches
            trials = []
            for load in loads:
                trial = _trial(stores, home, fleet, load)
                told(
                    f"{load:g} times the capacity: {trial.goodput_per_s:.0f}/s in time of {trial.offered_per_s:.0f}/s offered, "
                    f"{trial.shed} shed, {trial.late} late, back after {trial.back_after_s:.0f} s, {trial.host_cores:.2f} cores of the host"
                )
                trials.append(trial)
    peak = max(trial.goodput_per_s for trial in trials)
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


def _trial(stores: Stores, home: Path, fleet: Fleet, load: float) -> _Trial:
    trace = _trace(load)
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


def _trace(load: float) -> Trace:
    """Poisson arrivals in three parts."""
    rng = np.random.default_rng(1)
    parts = []
    for begin_s, seconds, times in ((0.0, BEFORE_S, CALM), (BEFORE_S, BURST_S, load), (BEFORE_S + BURST_S, AFTER_S, CALM)):
        n = rng.poisson(times * CAPACITY_PER_S * seconds)
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
