"""A run's report as one self-contained HTML page, without scripts and network, for light and dark screens and for print."""

from __future__ import annotations

import datetime
import shlex
from dataclasses import dataclass

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from tango import __version__
from tango.analysis.metrics import RunMetrics
from tango.domain.outcomes import AttemptLosses, Decisions, NodeSamples, RequestPhases, RunOutcomes, ScalingEvents
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.report.charts import (
    ChartFigure,
    decision_figures,
    flow_figure,
    frame_of,
    latency_figure,
    population_figure,
    qos_figure,
    scaling_figure,
    utilization_figures,
)
from tango.report.phase_charts import phase_figures
from tango.report.tables import host_banner, milliseconds, node_pressures, number, percent, summary_rows
from tango.report.verdict import verdict_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: a heading and its charts."""

    title: str
    figures: tuple[ChartFigure, ...]
    query: str = ""
    """The named query that has the rows behind it; empty: none."""

    @property
    def anchor(self) -> str:
        """Where the contents list leads to."""
        return self.title.lower().replace(" ", "-")


def render_report(
    outcomes: RunOutcomes,
    losses: AttemptLosses,
    samples: NodeSamples,
    decisions: Decisions,
    scaling: ScalingEvents,
    metrics: RunMetrics,
    *,
    phases: RequestPhases | None = None,
    saturated_share: float = 1.0,
) -> str:
    """The text of the page. All text that comes from the run is escaped. `phases`: where its requests' time went, if that is known;
    `saturated_share` as in `host_banner`."""
    # StrictUndefined: a name that the template misspells fails a test instead of leaving a gap in the page.
    environment = Environment(
        loader=PackageLoader("tango.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, ms=milliseconds, number=number)
    verdict, sections = verdict_of(outcomes, metrics, phases), _sections(outcomes, samples, decisions, scaling, phases)
    pressures, failures = node_pressures(metrics.details), _failure_rows(outcomes)
    ended_badly = bool(failures or len(losses))
    contents = [
        *([("where-to-look", "Where to look")] if verdict.looks else []),
        ("summary", "Summary"),
        ("services", "Services"),
        *([("nodes", "Nodes")] if pressures else []),
        *((section.anchor, section.title) for section in sections),
        *([("what-did-not-end-well", "What did not end well")] if ended_badly else []),
        ("parameters", "Parameters"),
        ("again", "What if" if outcomes.is_live else "Again"),
    ]
    return environment.get_template("report.html.j2").render(
        run=outcomes,
        version=__version__,
        title=f"Run {outcomes.run_id}" + (f": {outcomes.name}" if outcomes.name else ""),
        banner=host_banner(metrics.details, saturated_share),
        verdict=verdict,
        contents=contents,
        tiles=_tiles(metrics),
        summary=summary_rows(metrics, metrics.details),
        metrics=metrics,
        details=metrics.details,
        pressures=pressures,
        # LC first, the worst on top: what is read first is what is wrong.
        services=sorted(metrics.services, key=lambda s: (s.service_class != ServiceClass.LC.label, s.qos_rate or 0.0)),
        losses=_loss_rows(losses, outcomes.speed),
        failures=failures,
        sections=sections,
        parameters=_parameters(outcomes),
        commands=_commands(outcomes),
    )


def _tiles(metrics: RunMetrics) -> list[tuple[str, str, str]]:
    return [
        ("QoS rate", percent(metrics["lc_qos_rate"]), "LC within target"),
        ("LC p95", milliseconds(metrics["lc_latency_p95_ms"]), f"p99 {milliseconds(metrics['lc_latency_p99_ms'])}"),
        ("BE throughput", number(metrics["be_cpu_seconds_per_s"]), "CPU-seconds per second"),
        ("CPU utilisation", percent(metrics["utilization_cpu"]), "by useful work"),
        ("Evictions", number(metrics["evictions"]), f"{number(metrics['waste_cpu_seconds'])} CPU-s thrown away"),
        ("Resizes", number(metrics["resizes"]), f"p50 {milliseconds(metrics.details['resize_ms_p50'])}"),
    ]


def _sections(
    outcomes: RunOutcomes, samples: NodeSamples, decisions: Decisions, scaling: ScalingEvents, phases: RequestPhases | None
) -> list[Section]:
    frame = frame_of(outcomes)
    present = [c for c in ServiceClass if (outcomes.service_class == c).any()]
    requests = [flow_figure(outcomes, frame, c) for c in present]
    service = [population_figure(outcomes, frame)] if len(outcomes) else []
    quality = [qos_figure(outcomes, frame)] if ServiceClass.LC in present else []
    scaled = scaling_figure(outcomes, scaling, frame)
    latency = latency_figure(outcomes)
    sections = [
        Section(title="Requests", figures=(*requests, *service, *quality), query="qos-per-minute"),
        Section(title="Where the time went", figures=tuple(phase_figures(outcomes, phases) if phases else ()), query="phases"),
        Section(title="Latency and what gave way", figures=tuple(f for f in (latency, scaled) if f is not None), query="slowest"),
        Section(title="Utilisation", figures=tuple(utilization_figures(outcomes, samples, frame)), query="nodes-per-minute"),
        Section(title="Decisions", figures=tuple(decision_figures(decisions, frame, outcomes.speed)), query="decisions"),
    ]
    return [section for section in sections if section.figures]


def _loss_rows(losses: AttemptLosses, speed: float) -> list[tuple[str, int, float]]:
    rows = []
    for code in np.unique(losses.reason):
        mine = losses.reason == code
        rows.append((losses.reasons[code] or "unknown", int(mine.sum()), float(losses.work_lost_s[mine].sum()) * speed))
    return sorted(rows, key=lambda row: -row[1])  # the reason that cost most attempts comes first


def _failure_rows(outcomes: RunOutcomes) -> list[tuple[str, str, int]]:
    rows = []
    for state in (RequestState.FAILED, RequestState.SHED, RequestState.CANCELLED):
        mine = outcomes.in_state(state)
        for code, count in zip(*np.unique(outcomes.reason[mine], return_counts=True), strict=True):
            rows.append((str(state), outcomes.reasons[code] or "unknown", int(count)))
    return rows


def _parameters(outcomes: RunOutcomes) -> list[tuple[str, str]]:
    began = "not yet"
    if outcomes.started_at_s is not None:
        began = datetime.datetime.fromtimestamp(outcomes.started_at_s, tz=datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    rows = [
        ("status", outcomes.status),
        ("began", began),
        ("wall time", f"{outcomes.wall_s:,.1f} s"),
        ("trace", outcomes.trace_source or "unknown"),
        ("trace span", f"{outcomes.span_s:,.1f} s"),
        ("speed", f"{outcomes.speed:g} trace seconds per wall second"),
        ("system", outcomes.system),
        ("network", outcomes.checkpoint or "none"),
        ("QoS re-assurance", "on" if outcomes.reassure else "off"),
        ("seed", str(outcomes.seed)),
        ("fleet", f"{outcomes.fleet}: {len(outcomes.clusters)} clusters, {len(outcomes.nodes)} nodes"),
        ("fleet SHA-256", outcomes.fleet_hash or "unknown"),
    ]
    return [*rows, *((name, str(value)) for name, value in sorted(outcomes.settings.items()))]


def _commands(outcomes: RunOutcomes) -> list[str]:
    looks = [
        f"tango run show {outcomes.run_id} -o json",
        f"tango run requests {outcomes.run_id} --state failed",
        f"tango report {outcomes.run_id}",
    ]
    if outcomes.is_live:
        return [f"tango simulate --run {outcomes.run_id} --system k8s-native", *looks]
    # `TRACE` stands for the file: a run keeps its requests and what the trace was called, not where it lay.
    submit = ["tango", "run", "submit", "TRACE", "--system", outcomes.system, "--fleet", outcomes.fleet]
    submit += ["--speed", f"{outcomes.speed:g}", "--seed", str(outcomes.seed)]
    submit += [*([] if outcomes.reassure else ["--no-reassure"]), "--follow"]
    return [f"tango up --fleet {shlex.quote(outcomes.fleet)} --detach", shlex.join(submit), *looks]
