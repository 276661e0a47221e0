"""`tango simulate --run`: simulate a recorded live run's requests and print both runs' figures and the gaps between them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tango.cli.checkpoint_files import checkpoints_of
from tango.cli.output import ListColumn, print_mapping, print_rows, say
from tango.cli.progress import progress
from tango.cli.tenant_columns import TENANT_COLUMNS
from tango.cli.workloads import systems_of, variations_of
from tango.errors import UsageError

if TYPE_CHECKING:
    from tango.analysis.twin import ServiceError
    from tango.domain.outcomes import RunOutcomes
    from tango.domain.tenants import Tenant
    from tango.systems import System


class Compared(NamedTuple):
    """A figure that is printed for the live and for the simulated run."""

    key: str
    title: str
    unit: str
    """Unit of the gap. `points`: the figure is a share, the gap is in percentage points; `percent`: the gap is relative to the live
    figure; else the gap is a plain difference in that unit."""


COMPARED = (
    Compared("lc_qos_rate", "QoS rate", "points"),
    Compared("be_cpu_seconds_per_s", "BE throughput, CPU-s/s", "percent"),
    Compared("utilization_cpu", "utilisation, CPU", "points"),
    Compared("utilization_memory", "utilisation, memory", "points"),
    Compared("lc_latency_p50_ms", "LC latency p50, ms", "ms"),
    Compared("lc_latency_p95_ms", "LC latency p95, ms", "ms"),
    Compared("lc_latency_p99_ms", "LC latency p99, ms", "ms"),
    Compared("be_completed", "BE completed", "percent"),
    Compared("evictions", "evictions", ""),
    Compared("resizes", "resizes", ""),
)
COLUMNS = (
    ListColumn("figure", priority=10),
    ListColumn("live", justify="right", priority=10),
    ListColumn("simulated", justify="right", priority=10),
    ListColumn("gap", justify="right", priority=10),
)

SERVICE_COLUMNS = (
    ListColumn("service", priority=10),
    ListColumn("requests", justify="right", priority=4),
    ListColumn("mean", title="mean, ms", justify="right", priority=8),
    ListColumn("p50", title="p50, ms", justify="right", priority=7),
    ListColumn("p90", title="p90, ms", justify="right", priority=7),
    ListColumn("p99", title="p99, ms", justify="right", priority=9),
)


def show_replayed(
    run_id: int,
    system_name: str | None,
    fleet_name: str | None,
    options: Mapping[str, Any],
    output: str,
    *,
    tenants: Sequence[Tenant] | None = None,
) -> None:
    """Simulate a recorded live run from its stored rows and print the figures of both runs.

    `system_name` and `fleet_name` replace the run's own system and fleet, `tenants` what is declared of tenants now; None keeps them.
    Raises: UsageError for a run that is simulated or has not completed, or whose fleet cannot be found.
    """
    from tango.analysis.tenant_figures import tenant_figures
    from tango.analysis.twin import mean_absolute_errors, service_errors
    from tango.bootstrap.stores import stores
    from tango.control.finish_run import figures_now
    from tango.experiments.recorded_runs import fleet_of_run, require_replayable
    from tango.experiments.replaying import live_delays, replay
    from tango.report.tables import host_banner

    here = stores()
    require_replayable(here.runs.run(run_id))
    variations = variations_of(options)
    if len(variations) > 1:
        raise UsageError("more than one simulation is asked for; --run takes one --beta and one --staleness")
    records = here.records
    outcomes, samples = records.outcomes(run_id), records.node_samples(run_id)
    fleet = fleet_of_run(outcomes, samples, in_force=here.fleet, named=fleet_name)
    system = _system_of(system_name, outcomes, options)
    # Without --checkpoint the replay decides by the file that this stack is set to, which need not be the one that decided live.
    settings = here.settings
    if file := checkpoints_of((system,), options).get(system.name):
        settings = dataclasses.replace(settings, checkpoint=file.path, checkpoint_policy=file.policy)
    delays = live_delays(
        outcomes,
        records.decisions(run_id),
        records.scaling_events(run_id),
        fleet,
        here.settings,
        phases=records.phases(run_id),
    )
    with progress("Simulating", total=100, unit="%") as advance:
        shown = 0.0

        def moved(share: float, _now_s: float) -> None:
            nonlocal shown
            advance(100 * share - shown)
            shown = 100 * share

        run, simulated = replay(
            outcomes,
            delays,
            fleet,
            system,
            settings,
            variations[0][1],
            owners=records.tenants(run_id),
            tenants=here.tenants.declared() if tenants is None else {tenant.name: tenant for tenant in tenants},
            progress=moved,
        )
    got = [] if run.tenants is None else [of_one.as_dict() for of_one in tenant_figures(run.outcomes, run.tenants)]
    for note in run.notes:
        say(f"note: {note}")
    # From the rows and not as saved at the run's end: both sides by the definitions of today.
    live = figures_now(run_id, records=records)
    errors = service_errors(outcomes, run.outcomes)
    if banner := host_banner(live.details, here.settings.host.saturated_share):
        say(banner)
    gaps = {figure.key: _gap(live[figure.key], simulated[figure.key], figure.unit) for figure in COMPARED}
    if output in ("json", "yaml"):
        found = {**simulated, "digest": run.digest, "events": run.events, "wall_s": run.took_s, "simulated_requests": len(outcomes)}
        document = {
            "live": dict(live),
            "simulated": found,
            "gap": gaps,
            "services": [error.as_dict() for error in errors],
            "mape": mean_absolute_errors(errors),
            "tenants": got,
            "delays": delays.as_dict(),
            "fleet_hash": fleet.source_hash,
        }
        print_mapping(document, output)
        return
    rows = [
        {
            "figure": figure.title,
            "live": _figure(live[figure.key], figure.unit),
            "simulated": _figure(simulated[figure.key], figure.unit),
            "gap": _difference(gaps[figure.key], figure.unit),
        }
        for figure in COMPARED
    ]
    print_rows(rows, COLUMNS, output)
    if errors:
        print_rows(_service_rows(errors), SERVICE_COLUMNS, output)
    if len(got) > 1 or tenants is not None:
        print_rows(got, TENANT_COLUMNS, output)
    say(
        f"run {run_id} under {system.name}: LC windows of {delays.lc_window_s * 1e3:g} ms, {delays.lc_dispatch_s * 1e3:.1f} ms from there "
        f"to the call, {delays.be_cycle_s * 1e3:.1f} ms a BE cycle, {delays.pod_start_s * 1e3:.0f} ms to start a pod, as in the live run"
    )


def _service_rows(errors: Sequence[ServiceError]) -> list[dict[str, Any]]:
    """`live → simulated (error)` of each statistic, and the mean of the absolute errors."""
    from tango.analysis.twin import STATISTICS, mean_absolute_errors

    rows: list[dict[str, Any]] = [
        {"service": error.service, "requests": f"{error.requests:,}"}
        | {name: f"{error.live[name]:.3g} → {error.simulated[name]:.3g} ({100 * error.error[name]:+.1f} %)" for name in STATISTICS}
        for error in errors
    ]
    means = mean_absolute_errors(errors)
    return [*rows, {"service": "mean error", "requests": ""} | {name: f"{100 * means[name]:.1f} %" for name in STATISTICS}]


def _system_of(name: str | None, outcomes: RunOutcomes, options: Mapping[str, Any]) -> System:
    """The named system, else the run's own; with the run's own sharing unless a system or a sharing rule is named."""
    from tango.experiments.recorded_runs import with_sharing_of

    systems = systems_of(name or outcomes.system, options)
    if len(systems) > 1:
        raise UsageError("more than one system is named; --run simulates one")
    return systems[0] if name or options.get("sharing") else with_sharing_of(outcomes, systems[0])


def _gap(live: Any, simulated: Any, unit: str) -> float | None:
    """Simulated minus live, in the unit of the figure."""
    if live is None or simulated is None:
        return None
    if unit == "percent":
        return 100 * (simulated - live) / live if live else None
    return float((simulated - live) * (100 if unit == "points" else 1))


def _figure(value: Any, unit: str) -> str:
    if value is None:
        return "–"
    if unit == "points":
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if unit == "ms" else f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def _difference(gap: float | None, unit: str) -> str:
    if gap is None:
        return "–"
    return f"{gap:+.1f}{ {'points': ' points', 'percent': ' %', 'ms': ' ms'}.get(unit, '') }" if unit else f"{gap:+g}"
