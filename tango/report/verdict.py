"""A run's answer in one line, and where to look first: the worst service, node and time, and where the time of late requests went.

A service is in target when at least `SharingSettings.quantile` of its requests are answered within it, the share that re-assurance
works for: its tail latency is within the target then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import LcOutcomes, RunMetrics, lc_outcomes_of
from tango.domain.outcomes import PHASES, RequestPhases, RunOutcomes
from tango.domain.services import ServiceClass
from tango.report.phase_charts import WORDS
from tango.report.series import Floats
from tango.report.svg import time_label
from tango.report.tables import number, percent
from tango.settings import SharingSettings

JUDGED = 20
"""Requests of a node or time below which its rate is left out: of fewer, one more or less in time moves it by more than 5 %."""
PER_MINUTE_FROM_S = 180.0
"""Length of a run from which its times are minutes; of shorter ones they are ten seconds."""


class PlaceToLook(NamedTuple):
    """One place to look at first."""

    what: str
    name: str
    figure: str
    """What is remarkable there."""
    is_bad: bool
    query: str
    """The named query that shows more of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunVerdict:
    """How a run went, in one line, and where to look first."""

    line: str
    is_good: bool
    wanted: float
    """Share of a service's requests that are to be answered within its target."""
    looks: tuple[PlaceToLook, ...]


def verdict_of(outcomes: RunOutcomes, metrics: RunMetrics, phases: RequestPhases | None) -> RunVerdict:
    """Of the LC requests of the measured span, and in a second sentence of BE."""
    wanted = SharingSettings().quantile
    lc = lc_outcomes_of(outcomes)
    rates = {s.service: s.qos_rate for s in metrics.services if s.qos_rate is not None}
    below = sorted((rate, name) for name, rate in rates.items() if rate < wanted)
    if not rates:
        said = "No LC request was due in the measured span."
    elif below:
        named = ", ".join(f"{name} ({percent(rate)})" for rate, name in below[:3])
        more = f" and {len(below) - 3} more" if len(below) > 3 else ""
        said = f"{percent(metrics['lc_qos_rate'])} of LC requests were in time. Below {percent(wanted)}: {named}{more}."
    else:
        said = f"{percent(metrics['lc_qos_rate'])} of LC requests were in time, and each service is at {percent(wanted)} or above."
    be = outcomes.service_class == ServiceClass.BE
    if be.any():
        said += f" {number(metrics['be_completed'])} BE requests were completed, {number(metrics['evictions'])} attempts evicted."
    if (live := metrics["live"]) and live != metrics["accepted"]:
        said += f" {number(live)} requests have not ended yet."
    return RunVerdict(line=said, is_good=not below, wanted=wanted, looks=tuple(_looks(outcomes, lc, phases, wanted)))


def _looks(outcomes: RunOutcomes, lc: LcOutcomes, phases: RequestPhases | None, wanted: float) -> Iterator[PlaceToLook]:
    if not lc.decided.any():
        return
    service, rate = _worst(lc, outcomes.service, len(outcomes.services), least=1)
    if service is not None:
        yield PlaceToLook("service", outcomes.services[service], f"{percent(rate)} in time", rate < wanted, "qos")
    node, rate = _worst(lc, outcomes.node, len(outcomes.nodes), least=JUDGED)
    if node is not None:
        yield PlaceToLook("node", str(outcomes.node_keys[node]), f"{percent(rate)} in time", rate < wanted, "misses")
    step_s = 60.0 if outcomes.span_s >= PER_MINUTE_FROM_S else 10.0
    bins = np.floor(outcomes.due_s * outcomes.speed / step_s).astype(np.int64)
    at, rate = _worst(lc, bins, int(bins.max(initial=0)) + 1, least=JUDGED)
    if at is not None:
        what = "minute" if step_s == 60.0 else "10 seconds"
        yield PlaceToLook(what, f"from {time_label(at * step_s)}", f"{percent(rate)} in time", rate < wanted, "qos-per-minute")
    late = lc.decided & ~lc.met & ~np.isnan(outcomes.finished_s)
    if phases is not None and late.any():
        shares = _shares(phases, late)
        if shares is not None:
            part = int(shares.argmax())
            yield PlaceToLook(
                "time of late requests", WORDS[ServiceClass.LC][part], f"{percent(shares[part])} of it", False, "phases"
            )


def _worst(lc: LcOutcomes, of: NDArray[np.integer], count: int, *, least: int) -> tuple[int | None, float]:
    """(index, rate) of what has the lowest share in time, of those with at least so many requests; (None, 1) where there is none."""
    among = lc.decided & (of >= 0)
    decided = np.bincount(of[among], minlength=count)
    met = np.bincount(of[among & lc.met], minlength=count)
    rates: Floats = np.where(decided >= least, met / np.maximum(decided, 1), np.inf)
    worst = int(rates.argmin()) if len(rates) else 0
    return (worst, float(rates[worst])) if len(rates) and np.isfinite(rates[worst]) else (None, 1.0)


def _shares(phases: RequestPhases, among: NDArray[np.bool_]) -> Floats | None:
    """Share of each of `PHASES` in the whole time of these requests; None where nothing of it is known."""
    sums: Floats = np.array([np.nansum(np.clip(getattr(phases, name)[among], 0.0, None)) for name in PHASES])
    return sums / sums.sum() if sums.sum() > 0 else None
