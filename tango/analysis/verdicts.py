"""Verdicts on one system against every other of a comparison: whether it holds within fixed margins, and which claims are significant.

    Comparison ─► judge(system) ─► Verdicts: (scenario x other system x metric), paired by seed ─► tables, page, JSON

A system *holds* (non-inferiority) if the lower end of the 95 % interval of the paired difference lies above minus the margin. That it
holds everywhere needs no correction for multiple testing, since all statements must be true at once (the intersection-union test:
Berger, Technometrics 24 (1982), 295-300). *Better* and *worse* are claims of which any could be false by chance, so their p values are
adjusted by Holm's method over all scenarios, systems and metrics together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tango.analysis.compared_metrics import METRICS, ComparedMetric
from tango.analysis.comparison import Comparison, Difference, difference_of
from tango.analysis.intervals import CONFIDENCE, holm
from tango.errors import UsageError

ALPHA = 0.05
"""Family-wise error rate: the chance of any false claim in a whole comparison."""


class Judged(NamedTuple):
    """A metric by which a system is judged."""

    metric: ComparedMetric
    margin: float | None
    """Largest loss with which the system still holds: in the metric's unit, or, if `relative`, as a share of the other's mean.

    None: any loss is accepted."""
    relative: bool
    """Whether differences are given in per cent of the other's mean, and not in percentage points."""


def _metric(key: str) -> ComparedMetric:
    return next(metric for metric in METRICS if metric.name == key)


JUDGED = (
    Judged(_metric("lc_qos_rate"), 0.005, relative=False),
    Judged(_metric("be_cpu_seconds_per_s"), 0.01, relative=True),
    Judged(_metric("utilization_cpu"), None, relative=True),
)
"""Metrics and margins, fixed here so that no comparison chooses its own. Utilisation has none, since it follows from the other two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The judged system against one other system, in one scenario and one metric; all judged metrics are better if higher."""

    judged: Judged
    baseline: str
    """The other system."""
    difference: Difference
    """Judged system minus other system."""
    best: bool = False
    """Whether the other system has the highest mean of all others, over the seeds in common with the judged system."""
    p_holm: float | None = None
    """p value of the paired t test, adjusted by Holm's method over all verdicts; None without an interval."""

    @property
    def scenario(self) -> str:
        """The scenario of the difference."""
        return self.difference.scenario

    @property
    def size(self) -> float | None:
        """The reference of relative differences: the absolute mean of the other system over the pairs; None if it is 0 or missing."""
        return abs(self.difference.baseline_value) if self.difference.baseline_value else None

    @property
    def margin(self) -> float | None:
        """The margin in the metric's unit; None if there is none."""
        if self.judged.margin is None or not self.judged.relative:
            return self.judged.margin
        return self.judged.margin * (self.size or 0.0)

    @property
    def holds(self) -> bool | None:
        """Whether the interval's lower end lies above minus the margin; None without an interval or a margin."""
        low, margin = self.difference.paired.low, self.margin
        return None if low is None or margin is None else low >= 0.0 or low > -margin

    @property
    def claim(self) -> str:
        """`better` or `worse` if the adjusted p value is at most `ALPHA`, else empty."""
        mean = self.difference.paired.mean
        if mean is None or self.p_holm is None or self.p_holm > ALPHA:
            return ""
        return "better" if mean > 0.0 else "worse"

    def shown(self, value: float | None) -> float | None:
        """A difference in percentage points, or in per cent of the other's mean if the metric is judged so."""
        if not value:
            return value
        if not self.judged.relative:
            return 100.0 * value
        return 100.0 * value / self.size if self.size else None

    def as_dict(self) -> dict[str, Any]:
        """The row of `verdicts` in JSON; `mean low high` are in the metric's unit, `relative_…` shares of the other's mean."""
        paired, size = self.difference.paired, self.size
        shares = {name: None if value is None or not size else value / size for name, value in zip(_ENDS, paired[:3], strict=True)}
        return {
            "scenario": self.scenario,
            "system": self.difference.system,
            "baseline": self.baseline,
            "best": self.best,
            "metric": self.judged.metric.name,
            "unit": self.judged.metric.unit,
            "baseline_value": self.difference.baseline_value,
            "mean": paired.mean,
            "low": paired.low,
            "high": paired.high,
            **{f"relative_{name}": share for name, share in shares.items()},
            "pairs": paired.pairs,
            "p": paired.p,
            "p_holm": self.p_holm,
            "margin": self.margin,
            "holds": self.holds,
            "claim": self.claim or None,
        }


_ENDS = ("mean", "low", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """All verdicts on one system, one for each scenario, other system and metric of `JUDGED`."""

    system: str
    rows: tuple[Verdict, ...]
    notes: tuple[str, ...] = ()
    """Pairs of scenario and system that could not be judged, as sentences."""

    @property
    def pairs(self) -> dict[tuple[str, str], tuple[Verdict, ...]]:
        """By (scenario, other system): the verdicts, one for each metric."""
        found: dict[tuple[str, str], tuple[Verdict, ...]] = {}
        for row in self.rows:
            found[row.scenario, row.baseline] = (*found.get((row.scenario, row.baseline), ()), row)
        return found

    def as_dict(self) -> dict[str, Any]:
        """The keys that `tango compare --judge` adds to its JSON: `verdicts judged`."""
        return {"verdicts": [row.as_dict() for row in self.rows], "judged": self.summary()}

    def summary(self) -> dict[str, Any]:
        """The object `judged` in JSON: counts of pairs and scenarios in which the system holds, counts of claims, relative differences."""
        holding = {pair: _all_hold(rows) for pair, rows in self.pairs.items()}
        scenarios = {scenario: all(holds for (s, _), holds in holding.items() if s == scenario) for scenario, _ in holding}
        figures = [judged.metric.name for judged in JUDGED]
        return {
            "system": self.system,
            "margins": {j.metric.name: {"margin": j.margin, "relative": j.relative} for j in JUDGED if j.margin is not None},
            "alpha": ALPHA,
            "pairs": len(holding),
            "pairs_held": sum(holding.values()),
            "scenarios": len(scenarios),
            "scenarios_held": sum(scenarios.values()),
            "tests": sum(row.p_holm is not None for row in self.rows),
            "better": {name: self._claims(name, "better") for name in figures},
            "worse": {name: self._claims(name, "worse") for name in figures},
            "relative": {
                other: {name: dict(zip(("mean", "least", "most"), spread, strict=True)) for name, spread in figures_of.items()}
                for other, figures_of in self.relative().items()
            },
            "notes": list(self.notes),
        }

    def _claims(self, metric: str, claim: str) -> int:
        return sum(row.claim == claim for row in self.rows if row.judged.metric.name == metric)

    def sentences(self) -> list[str]:
        """The summary as sentences without a full stop."""
        facts = self.summary()
        if not facts["tests"]:
            return [
                f"{self.system} is not judged: no other system has two seeds in common with it, and without there are no intervals"
            ]
        by_figure = ", ".join(
            f"{j.metric.title} {facts['better'][j.metric.name]} / {facts['worse'][j.metric.name]}" for j in JUDGED
        )
        better, worse = (sum(facts[claim].values()) for claim in ("better", "worse"))
        scenarios = f"{facts['scenarios']} {'scenario' if facts['scenarios'] == 1 else 'scenarios'}"
        return [
            f"{self.system} holds against {facts['pairs_held']} of {facts['pairs']} (each scenario with each other system), "
            f"and against all others in {facts['scenarios_held']} of {scenarios}",
            f"It holds where the {CONFIDENCE * 100:g} % interval of the difference lies above {_margins_in_words()}",
            f"After Holm over {facts['tests']} tests it is better in {better} and worse in {worse} ({by_figure})",
        ]

    def relative(self) -> dict[str, dict[str, tuple[float, float, float]]]:
        """By other system and metric: (mean, least, greatest) over scenarios of the difference as a share of the other's mean."""
        found: dict[str, dict[str, tuple[float, float, float]]] = {}
        for other in dict.fromkeys(row.baseline for row in self.rows):
            for judged in JUDGED:
                mine = [row for row in self.rows if row.baseline == other and row.judged is judged]
                shares = [share for row in mine if (share := row.difference.paired.relative) is not None]
                if shares:
                    spread = (math.fsum(shares) / len(shares), min(shares), max(shares))
                    found.setdefault(other, {})[judged.metric.name] = spread
        return found


def _margins_in_words() -> str:
    """The margins as text: `-0.5 points of QoS rate and -1 % of BE throughput`."""
    return " and ".join(
        f"-{judged.margin * 100:g} {'%' if judged.relative else 'points'} of {judged.metric.title}"
        for judged in JUDGED
        if judged.margin is not None
    )


def judge(comparison: Comparison, system: str) -> Verdicts:
    """The verdicts on a system against every other that has cells in the same scenarios.

    Raises: UsageError for a system that the comparison does not have, or that is alone in it.
    """
    others = [name for name in comparison.systems if name != system]
    if system not in comparison.systems or not others:
        raise UsageError(f"the system {system!r} to be judged is not among the systems, or alone: {', '.join(comparison.systems)}")
    rows = [
        row
        for scenario in comparison.scenarios
        for judged in JUDGED
        for row in _against_all(comparison, scenario, system, others, judged)
    ]
    tested = [place for place, row in enumerate(rows) if row.difference.paired.p is not None]
    adjusted = holm([p for place in tested if (p := rows[place].difference.paired.p) is not None])
    for place, p in zip(tested, adjusted, strict=True):
        rows[place] = dataclasses.replace(rows[place], p_holm=p)
    place_of = {name: place for place, name in enumerate(others)}
    rows.sort(key=lambda row: (comparison.scenarios.index(row.scenario), place_of[row.baseline]))
    return Verdicts(system=system, rows=tuple(rows), notes=tuple(_not_judged(rows)))


def _against_all(comparison: Comparison, scenario: str, system: str, others: Iterable[str], judged: Judged) -> list[Verdict]:
    mine = {cell.seed: cell for cell in comparison.of(scenario, system)}
    rows = []
    for other in others:
        theirs = {cell.seed: cell for cell in comparison.of(scenario, other)}
        if mine and theirs:
            found = difference_of(scenario, system, judged.metric, mine, theirs)
            rows.append(Verdict(judged=judged, baseline=other, difference=found))
    known = [row for row in rows if row.difference.paired.pairs]
    best = max(known, key=lambda row: row.difference.baseline_value or 0.0, default=None)
    return [dataclasses.replace(row, best=row is best) for row in rows]


def _not_judged(rows: Sequence[Verdict]) -> list[str]:
    """A sentence for each scenario and other system with fewer than two seeds in common.

    Empty if that is so for all, which `sentences` says once.
    """
    if all(row.p_holm is None for row in rows):
        return []
    few = dict.fromkeys((row.scenario, row.baseline) for row in rows if row.difference.paired.low is None)
    return [f"{scenario}: no interval against {other}, expected two seeds or more with all figures" for scenario, other in few]


def _all_hold(rows: Iterable[Verdict]) -> bool:
    """Whether every metric with a margin holds; one that could not be judged counts as not held."""
    return all(row.holds for row in rows if row.judged.margin is not None)
