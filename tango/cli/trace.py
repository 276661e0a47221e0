"""`tango trace`: describe a trace, convert it to Tango's own format, generate one, or compose one of two sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.confirm import force_option, require_free
from tango.cli.output import output_option, print_mapping, say
from tango.cli.progress import progress
from tango.cli.trace_files import map_of, map_option, require_other_file, say_notes, selection_of
from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import UsageError
from tango.fleets import load_fleet
from tango.traces import FORMATS, Reading, info_of, read_trace, write_trace
from tango.traces.generators import PATTERNS, Recipe, generate
from tango.traces.hotspots import FACTOR, Hotspots
from tango.traces.own_format import ENDINGS
from tango.traces.trace_sources import notes_of
from tango.traces.transforms import forget
from tango.traces.workload_defaults import one_source
from tango.traces.workloads import LC_LOAD_SHARE, Workload, draw_requests, is_pattern, offered_load, trace_of

_format = click.option(
    "--format", "format_", type=click.Choice(tuple(FORMATS)), help="Format of the files; by default told by their content."
)
_skip_bad = click.option(
    "--skip-bad",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the good rows; write the bad ones with their reasons to FILE.",
)
_fleet = click.option(
    "--fleet", help="Also refuse services and clusters that this fleet (name or file) does not have.", shell_complete=names.FLEETS
)
_out = click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help=f"File to write ({', '.join(ENDINGS)})."
)
_lc_load_share = click.option(
    "--lc-load-share",
    type=Real(0.0, 1.0),
    default=LC_LOAD_SHARE,
    show_default=True,
    metavar="S",
    help="Part of the load that LC offers.",
)
_hotspots = click.option("--hotspots", type=Whole(min=1), metavar="K", help="Clusters that are hot at a time; they change.")
_hotspot_factor = click.option(
    "--hotspot-factor",
    type=Real(1.0),
    default=FACTOR,
    show_default=True,
    metavar="F",
    help="Arrivals at a hot cluster over those at another.",
)
_seed = click.option("--seed", type=Whole(min=0), default=0, show_default=True, help="Equal seeds give equal bytes.")


@click.group()
def trace() -> None:
    """Describe, convert, generate and compose traces of requests.

    \b
        tango trace generate p3 --rate 50 --duration 60 --out trace.csv
        tango trace info trace.csv
    """


@trace.command()
@click.argument("files", nargs=-1, required=True, shell_complete=names.TRACES)
@_format
@map_option()
@_skip_bad
@_fleet
@output_option()
def info(files: tuple[str, ...], output: str, **options: Any) -> None:
    """Count the requests of a trace. FILES are parts of one trace; globs in quotes are expanded.

    \b
        tango trace info trace.csv
        tango trace info "part-?.csv.gz" --fleet testbed
        tango trace info calls.parquet --map "arrival_s=start_ms / 1000,cpu_work_s=length_ms / 1000"
    """
    reading = _read(files, options)
    _show(reading, output)


@trace.command()
@click.argument("files", nargs=-1, required=True, shell_complete=names.TRACES)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@_format
@map_option()
@_skip_bad
@click.option(
    "--from", "from_s", type=Real(), default=0.0, metavar="S", help="Drop arrivals before this trace second, which becomes zero."
)
@click.option("--to", "to_s", type=Real(), metavar="S", help="Drop arrivals from this trace second on.")
@click.option("--thin", "share", type=Real(), metavar="P", help="Keep each request with this probability.")
@click.option("--work-scale", type=Real(), default=1.0, metavar="X", help="Multiply known CPU works.")
@click.option("--lc-work-s", type=Real(), metavar="S", help="Rescale known LC works to this mean.")
@click.option("--be-work-s", type=Real(), metavar="S", help="Rescale known BE works to this mean.")
@click.option(
    "--forget",
    "names",
    type=click.Choice(("service", "cluster", "tenant")),
    multiple=True,
    help="Drop names; mapping assigns services and clusters.",
)
@_fleet
@_seed
@force_option
@output_option()
def convert(files: tuple[str, ...], out: Path, output: str, **options: Any) -> None:
    """Write a trace in Tango's own format to OUT (.csv, .csv.gz or .parquet), cut, thinned and rescaled in this order.

    \b
        tango trace convert task_events.csv.gz first20min.parquet --from 600 --to 1800 --be-work-s 3
        tango trace convert trace.csv tenth.csv --thin 0.1
        tango trace convert jobs.csv jobs.parquet --map "arrival_s=seconds(created),class='be',cpu_work_s=cores * hours * 3600"
    """
    _check_ending(out)
    require_other_file(out, files)
    require_free(out, options["force"])
    reading = _read(files, options)
    changed = selection_of(options).of(reading.content, seed=options["seed"])
    forgotten = options["names"]
    changed = forget(changed, services="service" in forgotten, clusters="cluster" in forgotten, tenants="tenant" in forgotten)
    _write(changed, out)
    reading = dataclasses.replace(reading, content=changed)
    _show(reading, output)


@trace.command("generate")
@click.argument("pattern", type=click.Choice(PATTERNS))
@click.option("--rate", type=Real(), default=50.0, show_default=True, metavar="R", help="Requests per second, LC and BE together.")
@click.option("--load", type=Real(), metavar="L", help="In place of --rate: offered CPU work over the CPU of the fleet.")
@_lc_load_share
@click.option("--duration", type=Real(), default=60.0, show_default=True, metavar="S", help="Seconds of trace time.")
@click.option("--clusters", type=Whole(min=1), help="Entry clusters; by default all of the fleet, or 3.")
@click.option("--lc-share", type=Real(0.0, 1.0), default=0.7, show_default=True, help="Share of LC requests, by count.")
@click.option("--lc-work-s", type=Real(), metavar="S", help="Mean LC work in CPU-seconds; by default the fleet's, or 0.04.")
@click.option("--be-work-s", type=Real(), metavar="S", help="Mean BE work in CPU-seconds; by default the fleet's, or 3.")
@click.option(
    "--fleet",
    help="Fleet (name or file) that names clusters and services; without it they are assigned at submit.",
    shell_complete=names.FLEETS,
)
@_hotspots
@_hotspot_factor
@_out
@_seed
@force_option
@output_option()
def generate_(pattern: str, out: Path, output: str, **options: Any) -> None:
    """Generate a seeded trace: p1 (LC periodic, BE random), p2 (the reverse), p3 (both random) or borg (bursts as Google's).

    \b
        tango trace generate p3 --rate 50 --duration 60 --clusters 3 --seed 9 --out trace.csv
        tango trace generate borg --fleet testbed --load 0.8 --duration 300 --out borg.parquet
    """
    _check_ending(out)
    require_free(out, options["force"])
    fleet = load_fleet(options["fleet"]) if options["fleet"] else None
    if options["load"] is not None:
        # Rates and works follow from the load and the fleet's services; an option that changed nothing would be taken for obeyed.
        _refuse_given("with --load", ("rate", "clusters", "lc_share", "lc_work_s", "be_work_s"))
        if fleet is None:
            raise UsageError("--load is a share of a fleet's CPU, expected also --fleet NAME")
        _write_drawn(_workload((pattern,), (pattern,), options), fleet, options["seed"], out, output)
        return
    _refuse_given("without --load", ("lc_load_share",))
    recipe = Recipe(
        pattern=pattern,
        rate_per_s=options["rate"],
        duration_s=options["duration"],
        seed=options["seed"],
        lc_share=options["lc_share"],
        clusters=options["clusters"],
        lc_work_s=options["lc_work_s"],
        be_work_s=options["be_work_s"],
        fleet=fleet,
        hotspots=_hotspots_of(options),
    )
    made = generate(recipe)
    _write(made, out)
    _show(Reading(made, "tango", (str(out),), len(made)), output, fleet, recipe.duration_s)


@trace.command()
@click.option(
    "--lc",
    multiple=True,
    metavar="SOURCE",
    help=f"Source of LC requests: {', '.join(PATTERNS)}, or files (repeatable).",
    shell_complete=names.TRACES,
)
@click.option(
    "--be",
    multiple=True,
    metavar="SOURCE",
    help="Source of BE requests, likewise; one file for both keeps its mix.",
    shell_complete=names.TRACES,
)
@click.option(
    "--fleet",
    required=True,
    help="Fleet (name or file) whose clusters the requests enter and whose services they are of.",
    shell_complete=names.FLEETS,
)
@click.option("--load", type=Real(), metavar="L", help="Offered CPU work over the CPU of the fleet; by default as the files are.")
@_lc_load_share
@click.option("--duration", type=Real(), default=300.0, show_default=True, metavar="S", help="Seconds of trace time.")
@click.option(
    "--from", "from_s", type=Real(), default=0.0, metavar="S", help="Begin so many seconds after the files' first arrival."
)
@click.option("--be-from", "be_from_s", type=Real(), metavar="S", help="The same for BE files of their own.")
@click.option("--as-recorded", is_flag=True, help="Keep the order of arrivals; by default the seed draws blocks of them anew.")
@map_option(of="--lc, and of one source for both")
@map_option("--be-map", of="--be")
@_hotspots
@_hotspot_factor
@_out
@_seed
@force_option
@output_option()
def compose(lc: tuple[str, ...], be: tuple[str, ...], out: Path, output: str, **options: Any) -> None:
    """Compose a trace from a source of LC and one of BE requests, scaled to a load of a fleet and redrawn by the seed.

    \b
        tango trace compose --lc p2 --be borg --fleet testbed --load 0.9 --duration 300 --out mixed.parquet
    """
    _check_ending(out)
    require_other_file(out, [*lc, *be])
    require_free(out, options["force"])
    if options["load"] is None:
        _refuse_given("without --load", ("lc_load_share",))
    workload = _workload(lc, be, options)
    _write_drawn(workload, load_fleet(options["fleet"]), options["seed"], out, output)
    for source, map in dict.fromkeys(((workload.lc, workload.lc_map), (workload.be, workload.be_map))):
        say_notes(() if not source or is_pattern(source) else notes_of(source, map))


def _workload(lc: tuple[str, ...], be: tuple[str, ...], options: dict[str, Any]) -> Workload:
    be = one_source(lc, be)
    lc_map, be_map = (map_of(options, name) if name in options else "" for name in ("map", "be_map"))
    return Workload(
        lc=lc,
        be=be,
        lc_map=lc_map,
        be_map=be_map or (lc_map if be == lc else ""),
        duration_s=options["duration"],
        load=options["load"],
        lc_load_share=options["lc_load_share"],
        from_s=options.get("from_s", 0.0),
        be_from_s=options.get("be_from_s"),
        resample=not options.get("as_recorded", False),
        hotspots=_hotspots_of(options),
    )


def _hotspots_of(options: dict[str, Any]) -> Hotspots | None:
    if options["hotspots"] is None:
        _refuse_given("without --hotspots", ("hotspot_factor",))
        return None
    return Hotspots(clusters=options["hotspots"], factor=options["hotspot_factor"])


def _refuse_given(where: str, names: tuple[str, ...]) -> None:
    """Raises: UsageError if one of the options `names` is on the command line; `where` says why it has no effect, "with --load" say."""
    context = click.get_current_context()
    for name in names:
        # By its source and not its value: an option that is given with its default value has no effect either.
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(f"--{name.replace('_', '-')} has no meaning {where}")


def _write_drawn(workload: Workload, fleet: Fleet, seed: int, out: Path, output: str) -> None:
    made = trace_of(draw_requests(workload, fleet, seed), workload.label)
    _write(made, out)
    _show(Reading(made, "tango", (str(out),), len(made)), output, fleet, workload.duration_s)


def _read(files: tuple[str, ...], options: dict[str, Any]) -> Reading:
    skip_bad, fleet = options["skip_bad"], options["fleet"]
    if skip_bad is not None:
        require_other_file(skip_bad, files)
    known = load_fleet(fleet) if fleet else None
    with progress("Reading trace", unit="files") as advance:
        reading = read_trace(
            files,
            format=options["format_"],
            map=map_of(options),
            skip_bad=skip_bad is not None,
            fleet=known,
            progress=lambda _, total: advance(1, total=total),
        )
    if skip_bad is not None:
        reading.refusals.write(skip_bad)
        say(f"{len(reading.refusals)} bad rows skipped, written to {skip_bad}; {reading.rows} good rows taken")
    say_notes(reading.notes)
    return reading


def _write(made: Trace, out: Path) -> None:
    write_trace(made, out)
    say(f"{len(made)} requests written to {out}")


def _show(reading: Reading, output: str, fleet: Fleet | None = None, duration_s: float = 0.0) -> None:
    # A load is given only where a fleet is known: it is a share of that fleet's CPU.
    figures: dict[str, Any] = dataclasses.asdict(info_of(reading))
    if fleet:
        figures["offered_load"] = round(offered_load(reading.trace, fleet, duration_s), 6)
        for service_class in ServiceClass:
            load = offered_load(reading.trace, fleet, duration_s, service_class)
            figures[f"{service_class.label}_load"] = round(load, 6)
    print_mapping(figures, output)


def _check_ending(out: Path) -> None:
    if not out.name.endswith(ENDINGS):
        raise UsageError(f"cannot tell the format of {out.name!r} by its ending, expected one of {', '.join(ENDINGS)}")
