"""`tango simulate`: run one trace under one system on a simulated fleet, and print the figures of the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.analysis.compared_metrics import SHARES
from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.checkpoint_files import checkpoints_of
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say, share
from tango.cli.progress import progress, slow_start
from tango.cli.tenant_columns import TENANT_COLUMNS
from tango.cli.workloads import fleet_text, rule_options, systems_of, variations_of, workload_options, workloads_of
from tango.errors import UsageError

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult
    from tango.experiments.cells import Cell

COMPILING = "Compiling the engine: once after an installation, for about a minute"
"""Printed when a simulation does not move yet: numba compiles the engine at its first use and keeps the result on disk."""

SERVICE_COLUMNS = (
    ListColumn("service", priority=10),
    ListColumn("service_class", title="class", priority=8),
    ListColumn("arrived", justify="right", priority=7),
    ListColumn("qos_rate", title="QoS rate", show=share, justify="right", priority=9),
    ListColumn("target_ms", justify="right", priority=6),
    ListColumn("latency_p50_ms", title="p50 ms", justify="right", priority=5),
    ListColumn("latency_p95_ms", title="p95 ms", justify="right", priority=5),
    ListColumn("latency_p99_ms", title="p99 ms", justify="right", priority=6),
    ListColumn("latency_p999_ms", title="p99.9 ms", justify="right", wide=True),
    ListColumn("cpu_seconds_per_s", title="CPU-s/s", justify="right", priority=7),
)


@click.command()
@click.argument("trace", nargs=-1, shell_complete=names.TRACES)
@click.option("--fleet", "fleet_name", default="demo", show_default=True, help="Fleet (name or file).", shell_complete=names.FLEETS)
@click.option(
    "--system",
    "system_name",
    default="tango",
    show_default=True,
    help="A system, or a mix LC/BE/SHARING.",
    shell_complete=names.SYSTEMS,
)
@click.option("--seed", type=Whole(min=0), default=0, show_default=True, help="Draws all that the trace leaves open.")
@click.option("--resample", is_flag=True, help="Draw the arrivals of trace files anew from their blocks, as `compare` does.")
@workload_options
@rule_options
@click.option(
    "--tenants",
    "tenant_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights and quotas of tenants, as `tango tenant apply` takes them, for TRACEs with a column `tenant`, or in place of what "
    "is declared now for --run.",
)
@click.option("--no-bound", is_flag=True, help="Do not solve the offline bound.")
@click.option(
    "--run",
    "run_id",
    type=Whole(),
    help="Replay a recorded live run's requests on its fleet, and show both.",
    shell_complete=names.RUNS,
)
@output_option()
def simulate(
    trace: tuple[str, ...],
    fleet_name: str,
    system_name: str,
    seed: int,
    resample: bool,
    tenant_file: Path | None,
    no_bound: bool,
    run_id: int | None,
    output: str,
    **options: Any,
) -> None:
    """Simulate TRACE (files in any known format, or a pattern: p1, p2, p3, borg) under one system on a fleet.

    \b
        tango simulate p3 --fleet paper --system tango --load 0.8 --seed 1
        tango simulate my.csv --fleet my-fleet.yaml --system load-greedy
        tango simulate p3 --lc dss-lc --be load-greedy --sharing ceres      # any mix of parts
        tango simulate teams.csv --tenants tenants.yaml                     # what each tenant gets
        tango simulate calls.csv --map "arrival_s=t_ms / 1000,class='lc'"   # any table (docs/traces.md)
    """
    from tango.fleets import load_tenants

    if run_id is not None:
        from tango.cli.replayed import show_replayed

        if trace:
            raise UsageError("--run takes the requests of the run; leave TRACE out")
        # What was named on the command line replaces the run's own; a default does not.
        named = {name for name in ("system_name", "fleet_name") if _is_named(name)}
        show_replayed(
            run_id,
            system_name if "system_name" in named else None,
            fleet_name if "fleet_name" in named else None,
            options,
            output,
            tenants=None if tenant_file is None else load_tenants(tenant_file),
        )
        return
    if not trace:
        raise UsageError("no TRACE is given, expected trace files or a pattern: p1, p2, p3, borg")
    from tango.experiments.cells import Cell
    from tango.experiments.tuning import merged, tuned_settings

    tenants = () if tenant_file is None else load_tenants(tenant_file)
    variations = variations_of(options)
    systems = systems_of(system_name, options)
    workloads = workloads_of(trace, options, resample=resample)
    if len(variations) > 1 or len(systems) > 1 or len(workloads) > 1:
        raise UsageError("more than one simulation is asked for; `tango compare` makes many")
    cell = Cell(
        workload=workloads[0],
        fleet=fleet_text(fleet_name),
        system=systems[0],
        seed=seed,
        settings=variations[0][1] if options["untuned"] else merged(tuned_settings(systems[0]), variations[0][1]),
        variation=variations[0][0],
        bound=not no_bound,
        checkpoint=checkpoints_of(systems, options).get(systems[0].name),
        tenants=tenants,
    )
    result = _run(cell)
    if strangers := sorted({t.name for t in tenants} - {str(row["tenant"]) for row in result.tenants}):
        say(f"note: no BE request is of {', '.join(strangers)}; whose each is says the trace's column `tenant`")
    show(result, output)


def _is_named(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is not None and source not in (click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)


def _run(cell: Cell) -> CellResult:
    from tango.experiments.cells import run_cell
    from tango.sim.warm import warm_up

    with progress("Simulating", total=100) as advance, slow_start(COMPILING) as moving:
        shown = 0.0

        def moved(share: float, _now_s: float) -> None:
            nonlocal shown
            moving()
            advance(100 * share - shown)
            shown = 100 * share

        warm_up()  # so that compiling is no part of the time that the simulation took
        result = run_cell(cell, progress=moved, end_when_stuck=False)
        moved(1.0, 0.0)
        return result


def show(result: CellResult, output: str) -> None:
    """Print the figures of a simulated run, under the same keys as `tango run show` prints those of a live one."""
    for note in result.notes:
        say(f"note: {note}")
    bound = {f"{name}_bound": value for name, value in result.bound.items()}
    figures = {**result.figures, **bound}
    if output in ("json", "yaml"):
        print_mapping(
            {
                **figures,
                "fleet_hash": result.fleet_hash,
                "services": list(result.services),
                "tenants": list(result.tenants),
                "details": dict(result.details),
                "notes": list(result.notes),
            },
            output,
        )
        return
    shares = [name for name in figures if name.removesuffix("_bound") in SHARES]
    print_mapping({"scenario": result.scenario, **figures, "fleet_hash": result.fleet_hash[:12]}, output, shares=shares)
    print_rows(list(result.services), SERVICE_COLUMNS, output)
    if result.tenants:
        print_rows(list(result.tenants), TENANT_COLUMNS, output)
