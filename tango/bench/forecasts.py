"""`tango bench forecast`: which of two systems will do better on traffic that was recorded? The simulation says so first, then both run.

A run is recorded live under the first system of a pair. From its rows both systems are simulated, and the gap between the two simulations,
with its interval, is the forecast. Then the same requests run live under the second system. Where the forecast gap exceeds its interval,
its sign has to be that of the live gap; where it does not, nothing was forecast.

The second live run meets the delays of the machine at other moments than the first. So does its simulation: it has the recorded delays
half a run later, which puts what two live runs of one system differ by into the interval.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tango.analysis.gaps import Gap, gaps
from tango.bench.figures import Told
from tango.bench.live import running
from tango.bench.twin import WARM_UP, Recorded, Twin, recorded, run_live
from tango.bootstrap.stores import Stores
from tango.control.finish_run import figures_now
from tango.domain.services import ServiceClass
from tango.experiments.replaying import LiveDelays, replay
from tango.fleets import load_fleet
from tango.report.tables import is_saturated
from tango.systems import system


class Pair(NamedTuple):
    """A run, and the system that would take its place."""

    first: Twin
    second: str

    @property
    def text(self) -> str:
        """For tables."""
        return f"{self.first.system} or {self.second}, {self.first.load}"


PAIRS = (
    Pair(Twin("p3", 90.0, "k8s-native"), "tango"),
    Pair(Twin("p3", 80.0, "load-greedy"), "tango"),
    Pair(Twin("p2", 80.0, "scoring"), "tango"),
    Pair(Twin("p1", 80.0, "tango"), "ceres"),
    Pair(Twin("p3", 90.0, "tango"), "dss-lc/dcg-be/static"),
    Pair(Twin("p3", 90.0, "tango"), "dss-lc/k8s-packed/burst"),
    Pair(Twin("p2", 80.0, "scoring"), "load-greedy"),
    Pair(Twin("p1", 80.0, "envoy"), "tango"),
    Pair(Twin("p3", 80.0, "round-robin/load-greedy/burst"), "c3"),
    Pair(Twin("p3", 40.0, "load-greedy", 2.0), "tango"),
)
"""Systems, LC policies, placements and sharing rules, near to each other and far apart: what a user would ask about. At loads that fill the
fleet of `demo`, whose cores 78 requests a second take: below, each of them serves everything in time."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """One figure of one pair: the second system's less the first's."""

    pair: str
    figure: str
    forecast: float
    low: float
    high: float
    live: float
    outcome: str
    """`right` or `wrong`; `open` where the gap that was forecast does not exceed its interval, so that nothing was said."""


def measure(
    *, fleet: str = "demo", seconds: float = 60.0, pairs: Sequence[Pair] = PAIRS, told: Told = print
) -> Iterator[list[Forecast]]:
    """The figures of one pair after the other, of `seconds` of arrivals (of trace time) each.

    It starts a stack of its own in a temporary folder and touches no other. A pair of which a run was on a saturated host
    (`HostSettings.saturated_share`) is told and left out: its figures are the machine's. Raises: TangoError if a run does not end.
    """
    declared = load_fleet(fleet)
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, running(Path(folder) / "stack", fleet) as stores:
        run_live(stores, declared, WARM_UP, 5.0, seed=0)
        for k, pair in enumerate(pairs):
            first_id = run_live(stores, declared, pair.first, seconds, seed=k + 1)
            first = recorded(stores, declared, first_id)
            simulated = [
                replay(first.outcomes, delays, declared, system(name), stores.settings, {})[0].outcomes
                for name, delays in ((pair.first.system, first.delays), (pair.second, half_a_run_later(first)))
            ]
            forecast = gaps(*simulated)
            second_id = run_live(stores, declared, pair.first._replace(system=pair.second), seconds, seed=k + 1)
            full = max(_host_full(stores, run_id) for run_id in (first_id, second_id))
            if is_saturated(full, stores.settings.host.saturated_share):
                told(f"{pair.text}: left out, since the host had no CPU left for {full:.0%} of the time")
                continue
            found = beside_live(pair.text, forecast, gaps(first.outcomes, recorded(stores, declared, second_id).outcomes))
            told(f"{pair.text}: " + ", ".join(f"{one.figure} {one.forecast:+.3g} ({one.live:+.3g}) {one.outcome}" for one in found))
            yield found


def half_a_run_later(run: Recorded) -> LiveDelays:
    """The delays of a run with those of LC requests moved on by half of them, round the end."""
    way_s, lc = run.delays.lc_way_s.copy(), np.flatnonzero(run.outcomes.service_class == ServiceClass.LC)
    way_s[lc] = np.roll(way_s[lc], len(lc) // 2)
    return dataclasses.replace(run.delays, lc_way_s=way_s)


def beside_live(pair: str, forecast: dict[str, Gap], live: dict[str, Gap]) -> list[Forecast]:
    """The figures that both have, with what became of the forecast."""
    found = []
    for figure, gap in forecast.items():
        if figure not in live or gap.low is None or gap.high is None:
            continue
        outcome = "open"
        if gap.exceeds_its_interval:
            outcome = "right" if gap.mean * live[figure].mean > 0.0 else "wrong"
        found.append(
            Forecast(
                pair=pair,
                figure=figure,
                forecast=gap.mean,
                low=gap.low,
                high=gap.high,
                live=live[figure].mean,
                outcome=outcome,
            )
        )
    return found


def _host_full(stores: Stores, run_id: int) -> float:
    return float(figures_now(run_id, records=stores.records).details.get("host_full") or 0.0)
