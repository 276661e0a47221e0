"""`tango bench twin`: ten different runs, each done twice live and simulated from what was recorded of it: how far apart are they?

The yardstick is in the same stack: what two live runs of the same requests differ by, no simulation can foresee. A run passes in a figure
if its simulation errs by no more than `MOST_ERROR` there, or by no more than the two live runs differ.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tango.analysis.metrics import RunMetrics
from tango.analysis.twin import STATISTICS, mean_absolute_errors, service_errors
from tango.bench.figures import Told
from tango.bench.live import running
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.finish_run import figures_now
from tango.control.submit import RunOrder
from tango.domain.fleet import Fleet
from tango.domain.outcomes import RunOutcomes
from tango.experiments.recorded_runs import with_sharing_of
from tango.experiments.replaying import LiveDelays, live_delays, replay
from tango.fleets import load_fleet
from tango.report.tables import is_saturated
from tango.systems import system
from tango.traces.generators import Recipe, generate
from workers.app import create_app
from workers.publisher import CeleryPublisher

MOST_ERROR = {"mean": 0.05, "p50": 0.05, "p90": 0.05, "p99": 0.10, "resizes": 0.10}
"""Mean absolute relative error of a run's figure over its LC services, and the relative error of its resizes, that is asked for."""
LONGEST_WAIT_S = 120.0
"""Seconds after its last arrival in which a run has to have ended."""
REST_WITHIN_S = 60.0
"""Seconds in which instances have to have their declared size again between two runs."""
LC_SHARE = 0.7
"""Share of LC requests by count, as in the demo."""


class Twin(NamedTuple):
    """One of the runs."""

    pattern: str
    rate_per_s: float
    """Requests a second of trace time, all clusters together."""
    system: str
    speed: float = 1.0

    @property
    def load(self) -> str:
        """Pattern, rate and speed, for tables."""
        return f"{self.pattern}, {self.rate_per_s:g}/s" + (f", speed {self.speed:g}" if self.speed != 1.0 else "")

    @property
    def text(self) -> str:
        """The whole run, for tables."""
        return f"{self.system}, {self.load}"


TWINS = (
    Twin("p1", 50.0, "tango"),
    Twin("p2", 50.0, "tango"),
    Twin("p3", 50.0, "tango"),
    Twin("p3", 70.0, "tango"),
    Twin("p1", 50.0, "load-greedy"),
    Twin("p3", 70.0, "load-greedy"),
    Twin("p3", 50.0, "scoring"),
    Twin("p2", 40.0, "k8s-native"),
    Twin("p3", 40.0, "ceres"),
    Twin("p3", 30.0, "load-greedy", 2.0),
)
"""Patterns, loads, systems with every sharing rule, and a run that is sped up: what a user's runs differ by."""


WARM_UP = Twin("p3", 20.0, "tango")
"""Done before anything is measured."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TwinFigure:
    """One figure of one run."""

    run: str
    figure: str
    """`mean`, `p50`, `p90`, `p99` of latencies, or `resizes`."""
    error: float
    """Of the simulations, each against the live run that it is of: mean of both, relative."""
    between: float
    """What the two live runs differ by, in the same measure."""
    most: float
    """What was asked for: `MOST_ERROR`, or `between` where that is larger."""
    live: str
    """Of both live runs, in milliseconds as means over services, or as counts."""
    simulated: str
    passed: bool


class _Done(NamedTuple):
    """One live run and its simulation."""

    live: RunOutcomes
    live_metrics: RunMetrics
    simulated: RunOutcomes
    simulated_metrics: RunMetrics


def measure(
    *, fleet: str = "demo", seconds: float = 60.0, twins: Sequence[Twin] = TWINS, told: Told = print
) -> Iterator[list[TwinFigure]]:
    """The figures of one run after the other, of `seconds` of arrivals (of trace time) each.

    It starts a stack of its own in a temporary folder and touches no other. A run on a saturated host (`HostSettings.saturated_share`) is
    told and left out: its figures are the machine's. Raises: TangoError if a run does not end.
    """
    declared = load_fleet(fleet)
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, running(Path(folder) / "stack", fleet) as stores:
        run_live(stores, declared, WARM_UP, 5.0, seed=0)  # warm-up: connections, compiled code, caches
        for k, twin in enumerate(twins):
            both = [_done(stores, declared, twin, seconds, seed=k + 1) for _ in range(2)]
            full = [done.live_metrics.details.get("host_full") for done in both]
            if any(is_saturated(share, stores.settings.host.saturated_share) for share in full):
                told(
                    f"{twin.text}: left out, since the host had no CPU left for {max(float(s or 0) for s in full):.0%} of the time"
                )
                continue
            found = compared(twin.text, *both)
            told(f"{twin.text}: " + ", ".join(f"{f.figure} {f.error:.1%} ({f.between:.1%})" for f in found))
            yield found


def compared(name: str, first: _Done, second: _Done) -> list[TwinFigure]:
    """The figures of a run that was done twice."""
    errors = [service_errors(done.live, done.simulated) for done in (first, second)]
    of_both = [mean_absolute_errors(found) for found in errors]
    apart = mean_absolute_errors(service_errors(first.live, second.live))
    found = []
    for figure in STATISTICS:
        if any(figure not in of for of in (*of_both, apart)):
            continue
        live = [sum(e.live[figure] for e in of) / len(of) for of in errors]
        simulated = [sum(e.simulated[figure] for e in of) / len(of) for of in errors]
        error = sum(of[figure] for of in of_both) / 2
        found.append(_figure(name, figure, error, apart[figure], [f"{v:.1f}" for v in live], [f"{v:.1f}" for v in simulated]))
    live_counts = [int(done.live_metrics["resizes"] or 0) for done in (first, second)]
    counts = [int(done.simulated_metrics["resizes"] or 0) for done in (first, second)]
    error = sum(abs(made - was) / max(was, 1) for made, was in zip(counts, live_counts, strict=True)) / 2
    between = abs(live_counts[0] - live_counts[1]) / max(*live_counts, 1)
    return [*found, _figure(name, "resizes", error, between, [str(v) for v in live_counts], [str(v) for v in counts])]


def _figure(name: str, figure: str, error: float, between: float, live: list[str], simulated: list[str]) -> TwinFigure:
    most = max(MOST_ERROR[figure], between)
    return TwinFigure(
        run=name,
        figure=figure,
        error=error,
        between=between,
        most=most,
        live=" / ".join(live),
        simulated=" / ".join(simulated),
        passed=error <= most,
    )


def run_live(stores: Stores, fleet: Fleet, twin: Twin, seconds: float, *, seed: int) -> int:
    """Submit a run, wait for its end, and give its number. Raises: TangoError if it does not end."""
    recipe = Recipe(
        pattern=twin.pattern,
        rate_per_s=twin.rate_per_s,
        duration_s=seconds,
        clusters=len(fleet.clusters),
        lc_share=LC_SHARE,
        fleet=fleet,
        seed=seed,
    )
    # A simulation begins with the declared sizes. One run right after another begins with those that the other left, and spends its first
    # resizes on them: 83 of them after a run of another sharing rule, where the same run had 1 from rest (30 November 2026).
    wait_until(
        lambda: _is_at_rest(stores),
        timeout_s=REST_WITHIN_S,
        every_s=0.5,
        failure=f"instances did not have their declared size again within {REST_WITHIN_S:g} s",
    )
    submission = submission_of(stores, CeleryPublisher(create_app(stores.settings)))
    order = RunOrder(trace=generate(recipe), fleet=fleet, system=twin.system, name=twin.text, seed=seed, speed=twin.speed)
    run_id = submission.submit(submission.prepare(order)).run_id
    wait_until(
        lambda: not stores.runs.active_runs(),
        timeout_s=seconds / twin.speed + LONGEST_WAIT_S,
        every_s=0.5,
        failure=f"the run {twin.text} did not end within {LONGEST_WAIT_S:g} s of its last arrival",
    )
    return run_id


def _is_at_rest(stores: Stores) -> bool:
    """Whether every LC instance has the size that its service declares."""
    declared = {s.name: (s.cpu_limit_millicores, s.cpu_request_millicores) for s in stores.fleet.services()}
    return all(
        (i.cpu_limit_millicores, i.cpu_request_millicores) == declared[i.service]
        for _, i in stores.fleet.instances()
        if i.service in declared
    )


class Recorded(NamedTuple):
    """A live run's rows, and what they say of the path that it took."""

    outcomes: RunOutcomes
    delays: LiveDelays


def recorded(stores: Stores, fleet: Fleet, run_id: int) -> Recorded:
    """What a replay needs of a run that has completed."""
    records = stores.records
    outcomes = records.outcomes(run_id)
    delays = live_delays(
        outcomes,
        records.decisions(run_id),
        records.scaling_events(run_id),
        fleet,
        stores.settings,
        phases=records.phases(run_id),
    )
    return Recorded(outcomes, delays)


def _done(stores: Stores, fleet: Fleet, twin: Twin, seconds: float, *, seed: int) -> _Done:
    run_id = run_live(stores, fleet, twin, seconds, seed=seed)
    outcomes, delays = recorded(stores, fleet, run_id)
    run, simulated = replay(outcomes, delays, fleet, with_sharing_of(outcomes, system(twin.system)), stores.settings, {})
    return _Done(outcomes, figures_now(run_id, records=stores.records), run.outcomes, simulated)
