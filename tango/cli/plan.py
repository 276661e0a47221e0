"""`tango plan`: how many nodes of which kind a trace needs for a QoS rate, or which load a fleet bears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.checkpoint_files import checkpoints_of
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say, share
from tango.cli.progress import Advance, progress, slow_start
from tango.cli.simulate import COMPILING
from tango.cli.workloads import rule_options, systems_of, variations_of, workload_options, workloads_of
from tango.domain.seeds import COMPARISON
from tango.errors import UsageError

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult
    from tango.experiments.cells import Cell
    from tango.experiments.planning import CapacityDemand, CapacityPlan, Goal, MakeCell, Search
    from tango.experiments.sweeps import StandingProcesses

_FLEETS = (
    ListColumn("kind", priority=10),
    ListColumn("nodes", justify="right", priority=10),
    ListColumn("cores", justify="right", priority=8),
    ListColumn("memory_gib", title="GiB", show=lambda gib: f"{gib:.0f}", justify="right", priority=5),
    ListColumn("load", show=lambda load: f"{load:.3g}", justify="right", priority=6),
    ListColumn("seeds", justify="right", priority=4),
    ListColumn("qos_rate", title="QoS rate", show=share, justify="right", priority=10),
    ListColumn("qos_low", title="from", show=share, justify="right", priority=9),
    ListColumn("qos_high", title="to", show=share, justify="right", priority=9),
    ListColumn("be_cpu_seconds_per_s", title="BE CPU-s/s", justify="right", priority=7),
)
_BE_SHARES = (
    ListColumn("be_share", title="BE share", show=share, justify="right", priority=10),
    ListColumn("be_share_low", title="from", show=share, justify="right", priority=9),
    ListColumn("be_share_high", title="to", show=share, justify="right", priority=9),
)
_VERDICTS = (
    ListColumn("verdict", priority=10),
    ListColumn("answer", show=lambda is_one: "*" if is_one else "", priority=10),
)


@click.command()
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True, shell_complete=names.TRACES)
@click.option(
    "--fleet",
    "fleet_name",
    default="testbed",
    show_default=True,
    help="Fleet (name or file) whose clusters, network and services are planned for; a --load is a share of its CPU as declared.",
    shell_complete=names.FLEETS,
)
@click.option(
    "--target-qos", type=Real(0, 1, min_open=True), required=True, metavar="SHARE", help="LC requests to be answered in time."
)
@click.option(
    "--be-share", type=Real(0, 1, min_open=True), metavar="SHARE", help="BE work to be done as it comes, of what is offered."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="CPU/MEMORY",
    help="A kind of node, such as 4/16Gi, or `declared` for the fleet's own in their order; default: each kind of the fleet, and these.",
)
@click.option("--beside", is_flag=True, help="Keep the declared nodes, and ask how many are to be added.")
@click.option(
    "--most", type=Whole(min=1), metavar="N", help="Nodes up to which to search; default: until the fleet would be 90 % idle."
)
@click.option("--highest-load", is_flag=True, help="Ask for the highest load of the fleet as declared instead.")
@click.option(
    "--step", type=Real(0.001, 0.5), default=0.05, show_default=True, help="Of --highest-load: loads are multiples of it."
)
@click.option(
    "--system",
    "system_name",
    default="tango",
    show_default=True,
    help="A system, or a mix LC/BE/SHARING.",
    shell_complete=names.SYSTEMS,
)
@click.option(
    "--seeds", type=Whole(min=2), default=5, show_default=True, help="Simulations of each candidate that may meet the target."
)
@click.option("--first-seed", type=Whole(min=0), default=COMPARISON.start, show_default=True, help="The first of them.")
@click.option(
    "--as-recorded", is_flag=True, help="Keep the arrivals of trace files; a seed then draws works, entries and services."
)
@workload_options
@rule_options
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes.")
@click.option("--fresh", is_flag=True, help="Simulate again what was finished before.")
@output_option(formats=("table", "wide", "json", "yaml", "csv"))
def plan(traces: tuple[str, ...], output: str, **options: Any) -> int:
    """Find how many nodes TRACE (files, or a pattern) needs so that LC requests meet their targets.

    \b
        tango plan p3 --fleet testbed --load 0.8 --duration 120 --target-qos 0.99 -j 2
        tango plan calls.csv --fleet my-fleet.yaml --target-qos 0.99 --kind 4/8Gi --kind 4/16Gi   # does memory help?
        tango plan calls.csv --fleet my-fleet.yaml --target-qos 0.99 --kind 8/16Gi --beside       # how many to add
        tango plan p3 --fleet testbed --target-qos 0.95 --be-share 0.9                            # BE work done, too
        tango plan p3 --fleet testbed --target-qos 0.95 --highest-load                            # what the fleet bears

    It exits with 1 where nothing that was asked for meets the target.
    """
    from tango.experiments.planning import CapacityDemand, Goal, carried_out
    from tango.experiments.sweeps import StandingProcesses
    from tango.fleets import load_fleet

    goal = Goal(target_qos=options["target_qos"], be_share=options["be_share"])
    _require_one_question(options)
    fleet = load_fleet(options["fleet_name"])
    workloads = workloads_of(traces, options, resample=not options["as_recorded"])
    variations = variations_of(options)
    if len(workloads) > 1 or len(variations) > 1:
        raise UsageError("a plan is for one load and one world; give --load, --beta and --staleness once")
    seeds = tuple(range(options["first_seed"], options["first_seed"] + options["seeds"]))
    demand = CapacityDemand(workload=workloads[0], fleet=fleet, seeds=seeds)
    make_cell = _cells_of(options, variations[0][1])
    searches = _searches(demand, goal, make_cell, options)
    with (
        StandingProcesses(options["jobs"]) as processes,
        progress("Planning", unit="simulations") as advance,
        slow_start(COMPILING, after_s=20.0) as moving,
    ):
        simulations = _Simulations(processes, advance, moving, fresh=options["fresh"])
        found = carried_out(searches, goal, simulations, of_loads=options["highest_load"])
    _show(found, output)
    return 0 if found.is_met else 1


def _require_one_question(options: dict[str, Any]) -> None:
    """Raises: UsageError for options that have no meaning for what is asked."""
    if not options["highest_load"]:
        return
    for name in ("kinds", "beside", "most", "loads"):
        if options[name]:
            shown = {"kinds": "kind", "loads": "load"}.get(name, name)
            raise UsageError(f"--{shown} has no meaning with --highest-load, which asks for a load of the fleet as declared")


def _cells_of(options: dict[str, Any], changes: dict[str, dict[str, Any]]) -> MakeCell:
    """How the cells of the system look that is planned for."""
    from tango.experiments.cells import Cell
    from tango.experiments.comparison_cells import ComparedSystems

    systems = systems_of(options["system_name"], options)
    if len(systems) > 1:
        raise UsageError(f"a plan is for one system, found {', '.join(system.name for system in systems)}")
    compared = ComparedSystems(systems=systems, checkpoints=checkpoints_of(systems, options), tuned=not options["untuned"])
    (system,) = systems
    settings = compared.settings_of(system, changes)
    checkpoint = compared.checkpoints.get(system.name)

    def cell(workload: Any, fleet: str, seed: int) -> Cell:
        return Cell(workload=workload, fleet=fleet, system=system, seed=seed, settings=settings, bound=False, checkpoint=checkpoint)

    return cell


def _searches(demand: CapacityDemand, goal: Goal, make_cell: MakeCell, options: dict[str, Any]) -> list[Search]:
    from tango.experiments.planning import search_load, search_nodes
    from tango.fleets.sizing import kind_named, usual_kinds

    if options["highest_load"]:
        return [search_load(demand, goal, make_cell, step=options["step"])]
    kinds = [kind_named(text, demand.fleet) for text in dict.fromkeys(options["kinds"])] or usual_kinds(demand.fleet)
    return [
        search_nodes(demand, goal, kind, make_cell, beside=options["beside"], most=options["most"]) for kind in dict.fromkeys(kinds)
    ]


class _Simulations:
    """Simulates the cells of a round, and shows how far they are."""

    def __init__(self, processes: StandingProcesses, advance: Advance, moving: Callable[[], None], *, fresh: bool) -> None:
        from tango.cli.sweep_folder import kept_results

        self._processes = processes
        self._kept = kept_results(fresh=fresh)
        self._advance = advance
        self._moving = moving
        self._asked = 0

    def __call__(self, cells: Sequence[Cell]) -> Sequence[CellResult]:
        from tango.experiments.sweeps import run_cells

        self._asked += len(cells)
        self._advance(0, total=self._asked)

        def done(_cell: Cell, _result: CellResult, _was_kept: bool) -> None:
            self._moving()
            self._advance(1)

        return run_cells(cells, processes=self._processes, kept=self._kept, done=done)


def _show(found: CapacityPlan, output: str) -> None:
    if output in ("json", "yaml"):
        print_mapping(found.as_dict(), output)
        return
    shares = _BE_SHARES if found.goal.be_share is not None or output == "csv" else ()
    print_rows(found.rows(), (*_FLEETS, *shares, *_VERDICTS), output)
    if output == "csv":
        return
    click.echo()
    for sentence in found.sentences():
        click.echo(sentence)
    say("intervals are 95 %, over seeds; * is the answer of a kind")
