"""`tango compare`: simulate several systems on the same requests and compare their figures, paired by seed."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.checkpoint_files import checkpoints_of
from tango.cli.confirm import force_option, require_free_page
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say
from tango.cli.progress import progress, slow_start
from tango.cli.simulate import COMPILING
from tango.cli.workloads import (
    built_in_systems,
    fleet_text,
    require_folder,
    rule_options,
    systems_of,
    variations_of,
    workload_options,
    workloads_of,
)
from tango.domain.near_names import near_name
from tango.domain.seeds import COMPARISON
from tango.errors import UsageError
from tango.files import write_whole

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult, TableColumn
    from tango.analysis.verdicts import Verdicts
    from tango.experiments.cells import Cell

FIRST_SEED = COMPARISON.start
"""Seeds of comparisons begin here: training and tuning use lower ones (docs/results.md)."""


@click.command()
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True, shell_complete=names.TRACES)
@click.option(
    "--fleet", "fleet_name", default="testbed", show_default=True, help="Fleet (name or file).", shell_complete=names.FLEETS
)
@click.option(
    "--systems",
    default=built_in_systems,
    show_default="all built-in systems",
    help="Systems, or mixes LC/BE/SHARING, separated by commas.",
    shell_complete=names.SYSTEM_LISTS,
)
@click.option("--baseline", help="What the others are compared with; default: the first system.", shell_complete=names.SYSTEMS)
@click.option("--judge", "judged", metavar="SYSTEM", help="Judge this one against all others: margins, and claims after Holm.")
@click.option("--seeds", type=Whole(min=1), default=5, show_default=True, help="How many seeds.")
@click.option("--first-seed", type=Whole(min=0), default=FIRST_SEED, show_default=True, help="The first of them.")
@click.option(
    "--as-recorded", is_flag=True, help="Keep the arrivals of trace files; a seed then draws works, entries and services."
)
@workload_options
@rule_options
@click.option(
    "--tenants",
    "tenant_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Weights and quotas of tenants, as `tango tenant apply` takes them, for TRACEs with a column `tenant`.",
)
@click.option("--no-bound", is_flag=True, help="Do not solve the offline bound.")
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes.")
@click.option(
    "--on",
    type=click.Choice(("here", "celery")),
    default="here",
    show_default=True,
    help="Where: processes here, or the stack's workers.",
)
@click.option("--record", is_flag=True, help="With --on celery: keep the request rows of every run as well.")
@click.option("--fresh", is_flag=True, help="Simulate again what was finished before.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the page with the plots here.")
@force_option
@output_option()
def compare(traces: tuple[str, ...], output: str, **options: Any) -> None:
    """Compare systems on the same requests, paired by seed. Each TRACE (a file or a pattern) with each --load is a scenario.

    \b
        tango compare p1 p2 p3 --fleet paper --load 0.6 --load 0.8 --seeds 5 -j 2 --report compare.html
        tango compare p1 p3 --fleet paper --load 0.8 --load 1 --seeds 20 --judge tango     # does it hold against each?
        tango compare lc.csv --be-trace be.csv --fleet testbed --load 0.9 --systems load-greedy,tango
        tango compare p3 --systems dss-lc/load-greedy/burst,tango           # what learning adds
        tango compare teams.csv --tenants tenants.yaml --systems k8s-native,tango    # what each tenant gets under either
    """
    # Everything that can be wrong with the command line is found before the first cell, since cells may take hours.
    began_s = time.monotonic()
    require_folder(options["report"])
    require_free_page(options["report"], options["force"])
    cells = _cells(traces, options)
    systems = list(dict.fromkeys(cell.system.name for cell in cells))
    baseline = options["baseline"] or systems[0]
    if baseline not in systems:
        raise UsageError(f"the baseline {baseline!r}{near_name(baseline, systems)} is not among the systems: {', '.join(systems)}")
    if options["judged"] and (options["judged"] not in systems or len(systems) == 1):
        raise UsageError(f"the system {options['judged']!r} to be judged needs others beside it, found: {', '.join(systems)}")
    if options["record"] and options["on"] != "celery":
        raise UsageError("--record keeps rows in the stack's database: it goes with --on celery")
    results = _results(cells, options)

    from tango.analysis.comparison import compare as compared
    from tango.analysis.comparison import comparison_table, tenant_table
    from tango.analysis.verdicts import judge

    comparison = compared(results, baseline)
    verdicts = judge(comparison, options["judged"]) if options["judged"] else None
    command = shlex.join(["tango", *sys.argv[1:]])
    if options["report"]:
        from tango.report.comparison_page import comparison_page

        page = comparison_page(
            comparison,
            title=f"{' '.join(traces)} on {results[0].fleet}",
            command=command,
            fleet_hash=results[0].fleet_hash,
            notes=list(comparison.notes),
            verdicts=verdicts,
        )
        write_whole(options["report"], page)
        say(f"page written to {options['report']}")
    if strangers := sorted({t.name for t in cells[0].tenants} - {str(row["tenant"]) for row in comparison.tenants()}):
        say(f"note: no BE request is of {', '.join(strangers)}; whose each is says the trace's column `tenant`")
    for note in (*comparison.notes, *(verdicts.notes if verdicts else ())):
        say(f"note: {note}")
    if output in ("json", "yaml"):
        judged = verdicts.as_dict() if verdicts else {}
        print_mapping({**comparison.as_dict(), **judged, "command": command, "fleet_hash": results[0].fleet_hash}, output)
        return
    _print_table(comparison_table(comparison), output)
    if comparison.tenants():
        _print_table(tenant_table(comparison), output)
    if verdicts:
        _print_verdicts(verdicts, output)
    sizes = sorted({int(r.figures["simulated_requests"] or 0) for r in results})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    took = f"{time.monotonic() - began_s:.0f} s"
    say(f"{len(results)} cells of {size} requests in {took}; fleet {results[0].fleet_hash[:12]}")
    say(f"again: {command}")


def _print_table(table: tuple[list[TableColumn], list[dict[str, str]]], output: str) -> None:
    columns, rows = table
    shown = [
        ListColumn(c.key, title=c.title, priority=c.priority, justify="right" if c.right else "left", wide=c.wide) for c in columns
    ]
    print_rows(rows, shown, output)


def _print_verdicts(verdicts: Verdicts, output: str) -> None:
    from tango.report.verdict_tables import relative_table, verdict_table

    click.echo()
    if verdicts.summary()["tests"]:
        _print_table(verdict_table(verdicts), output)
        click.echo("* the best of the others in the scenario, by its mean over the seeds in common\n")
        _print_table(relative_table(verdicts), output)
        click.echo("mean over the scenarios, and from the least to the most of them\n")
    for sentence in verdicts.sentences():
        click.echo(sentence)


def _cells(traces: tuple[str, ...], options: dict[str, Any]) -> list[Cell]:
    """The cells that the command line asks for. Raises: UsageError for options that contradict each other or name something twice."""
    from tango.experiments.comparison_cells import ComparedSystems, comparison_cells
    from tango.fleets import load_tenants

    systems = systems_of(options["systems"], options)
    compared = ComparedSystems(systems=systems, checkpoints=checkpoints_of(systems, options), tuned=not options["untuned"])
    return comparison_cells(
        compared,
        [w for trace in traces for w in workloads_of((trace,), options, resample=not options["as_recorded"])],
        fleet=fleet_text(options["fleet_name"]),
        seeds=range(options["first_seed"], options["first_seed"] + options["seeds"]),
        variations=variations_of(options),
        bound=not options["no_bound"],
        tenants=() if options["tenant_file"] is None else load_tenants(options["tenant_file"]),
    )


def _results(cells: list[Cell], options: dict[str, Any]) -> list[CellResult]:
    from tango.cli.sweep_folder import kept_results
    from tango.experiments.sweeps import run_cells

    kept = kept_results(fresh=options["fresh"])
    found = 0
    # The bar moves only when a cell is done, so compiling is suspected later than in `simulate`, whose bar moves within a cell.
    with progress("Simulating", total=len(cells), unit="cells") as advance, slow_start(COMPILING, after_s=20.0) as moving:

        def done(_cell: Cell, _result: CellResult, was_kept: bool) -> None:
            nonlocal found
            found += was_kept
            moving()
            advance(1)

        if options["on"] == "celery":
            from tango.cli.sweeps_on_workers import run_on_workers

            results = run_on_workers(cells, record=options["record"], fresh=options["fresh"], kept=kept, done=done)
        else:
            results = run_cells(cells, processes=options["jobs"], kept=kept, done=done)
    if found:
        say(f"{found} of {len(cells)} cells were finished before and not run again (--fresh does)")
    return results
