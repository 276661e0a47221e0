"""`tango trace`: what is in a trace, Tango's own files from any known format, and generated traces."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from tango.cli.output import output_option, print_mapping, say
from tango.cli.progress import progress
from tango.cli.trace_files import require_other_file
from tango.domain.trace import Trace
from tango.errors import UsageError
from tango.fleets import load_fleet
from tango.traces import FORMATS, Reading, info_of, read_trace, write_trace
from tango.traces.generators import PATTERNS, Recipe, generate
from tango.traces.own_format import ENDINGS
from tango.traces.transforms import forget, rescale_work, select

_format = click.option(
    "--format", "format_", type=click.Choice(FORMATS), help="Format of the files; by default told by their content."
)
_skip_bad = click.option(
    "--skip-bad",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Take the good rows; write the bad ones with their reasons to FILE.",
)
_fleet = click.option("--fleet", help="Also refuse services and clusters that this fleet (name or file) does not have.")
_seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Equal seeds give equal bytes.")


@click.group()
def trace() -> None:
    """Look into, convert and generate traces of requests."""


@trace.command()
@click.argument("files", nargs=-1, required=True)
@_format
@_skip_bad
@_fleet
@output_option()
def info(files: tuple[str, ...], format_: str | None, skip_bad: Path | None, fleet: str | None, output: str) -> None:
    """Count the requests of a trace. FILES are parts of one trace; globs in quotes are expanded."""
    reading = _read(files, format_, skip_bad, fleet)
    _show(reading, output)


@trace.command()
@click.argument("files", nargs=-1, required=True)
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
@_format
@_skip_bad
@click.option(
    "--from", "from_s", type=float, default=0.0, metavar="S", help="Drop arrivals before this trace second, which becomes zero."
)
@click.option("--to", "to_s", type=float, default=float("inf"), metavar="S", help="Drop arrivals from this trace second on.")
@click.option("--thin", "share", type=float, metavar="P", help="Keep each request with this probability.")
@click.option("--work-scale", type=float, default=1.0, metavar="X", help="Multiply known CPU works.")
@click.option("--lc-work-s", type=float, metavar="S", help="Rescale known LC works to this mean.")
@click.option("--be-work-s", type=float, metavar="S", help="Rescale known BE works to this mean.")
@click.option(
    "--forget", "names", type=click.Choice(("service", "cluster")), multiple=True, help="Drop names; mapping assigns them."
)
@_fleet
@_seed
@output_option()
def convert(files: tuple[str, ...], out: Path, output: str, **options: Any) -> None:
    """Write a trace in Tango's own format to OUT (.csv, .csv.gz or .parquet), cut, thinned and rescaled in this order."""
    _check_ending(out)
    require_other_file(out, files)
    reading = _read(files, options["format_"], options["skip_bad"], options["fleet"])
    selection = {name: options[name] for name in ("from_s", "to_s", "share", "seed")}
    changed = select(reading.content, **selection)
    changed = rescale_work(changed, scale=options["work_scale"], lc_work_s=options["lc_work_s"], be_work_s=options["be_work_s"])
    changed = forget(changed, services="service" in options["names"], clusters="cluster" in options["names"])
    _write(changed, out)
    reading = dataclasses.replace(reading, content=changed)
    _show(reading, output)


@trace.command("generate")
@click.argument("pattern", type=click.Choice(PATTERNS))
@click.option("--rate", type=float, default=50.0, show_default=True, metavar="R", help="Requests per second, LC and BE together.")
@click.option("--duration", type=float, default=60.0, show_default=True, metavar="S", help="Seconds of trace time.")
@click.option("--clusters", type=click.IntRange(min=1), help="Entry clusters; by default all of the fleet, or 3.")
@click.option("--lc-share", type=click.FloatRange(0.0, 1.0), default=0.7, show_default=True, help="Share of LC requests, by count.")
@click.option("--lc-work-s", type=float, metavar="S", help="Mean LC work in CPU-seconds; by default the fleet's, or 0.04.")
@click.option("--be-work-s", type=float, metavar="S", help="Mean BE work in CPU-seconds; by default the fleet's, or 3.")
@click.option("--fleet", help="Fleet (name or file) that names clusters and services; without it they are assigned at submit.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help=f"File to write ({', '.join(ENDINGS)})."
)
@_seed
@output_option()
def generate_(pattern: str, out: Path, output: str, **options: Any) -> None:
    """Generate a seeded trace: p1 (LC periodic, BE random), p2 (the reverse), p3 (both random) or borg (bursts as Google's)."""
    _check_ending(out)
    recipe = Recipe(
        pattern=pattern,
        rate_per_s=options["rate"],
        duration_s=options["duration"],
        seed=options["seed"],
        lc_share=options["lc_share"],
        clusters=options["clusters"],
        lc_work_s=options["lc_work_s"],
        be_work_s=options["be_work_s"],
        fleet=load_fleet(options["fleet"]) if options["fleet"] else None,
    )
    made = generate(recipe)
    _write(made, out)
    reading = Reading(made, "tango", (str(out),), len(made))
    _show(reading, output)


def _read(files: tuple[str, ...], format_: str | None, skip_bad: Path | None, fleet: str | None) -> Reading:
    if skip_bad is not None:
        require_other_file(skip_bad, files)
    known = load_fleet(fleet) if fleet else None
    with progress("Reading trace", unit="files") as advance:
        reading = read_trace(
            files, format=format_, skip_bad=skip_bad is not None, fleet=known, progress=lambda _, total: advance(1, total=total)
        )
    if skip_bad is not None:
        reading.refusals.write(skip_bad)
        say(f"{len(reading.refusals)} bad rows skipped, written to {skip_bad}; {reading.rows} good rows taken")
    for note in reading.notes:
        say(f"note: {note}")
    return reading


def _write(made: Trace, out: Path) -> None:
    write_trace(made, out)
    say(f"{len(made)} requests written to {out}")


def _show(reading: Reading, output: str) -> None:
    print_mapping(dataclasses.asdict(info_of(reading)), output)


def _check_ending(out: Path) -> None:
    if not out.name.endswith(ENDINGS):
        raise UsageError(f"cannot tell the format of {out.name!r} by its ending, expected one of {', '.join(ENDINGS)}")
