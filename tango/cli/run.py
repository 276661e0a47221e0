"""`tango run`: submit traces; list, show, follow, cancel, delete and prune runs; list requests."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli.output import Column, instant, output_option, print_mapping, print_rows, say
from tango.cli.progress import RunProgress, spinner
from tango.cli.trace_files import require_other_file, selection_of
from tango.domain.near_names import near_name
from tango.errors import RequestRejected, UsageError

if TYPE_CHECKING:
    from tango.analysis.metrics import RunMetrics
    from tango.bootstrap.stores import Stores
    from tango.control.submit import RunOrder
    from tango.domain.fleet import Fleet
    from tango.domain.runs import RunKind
    from tango.traces.reading import Reading

KINDS = ("replayed", "live", "simulated")

RUN_COLUMNS = (
    Column("run"),
    Column("kind"),
    Column("name"),
    Column("status"),
    Column("system"),
    Column("fleet"),
    Column("accepted", justify="right"),
    Column("terminal", justify="right"),
    Column("seed", justify="right", wide=True),
    Column("speed", justify="right", wide=True),
)


SHARE_COLUMNS = (
    Column("cluster", priority=10),
    Column("lc_requests", title="LC requests", justify="right"),
    Column("lc_terminal", title="terminal at the centre", justify="right"),
    Column("shipped_to", title="shipped to number", justify="right"),
    Column("shipped_at_s", title="shipped at", show=instant, wide=True),
    Column("away_since_s", title="away since", show=instant),
)


def _stores() -> Stores:
    from tango.bootstrap.stores import stores  # slow libraries: only commands that need them pay for them

    return stores()


def _kind(name: str | None) -> RunKind | None:
    from tango.domain.runs import RunKind

    return RunKind(name) if name else None


@click.group()
def run() -> None:
    """Submit traces; list, show, follow, cancel and delete runs."""


@run.command()
@click.argument("trace", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--system", "system_name", default="tango", show_default=True, help="LC policy, BE policy and sharing rule.")
@click.option("--fleet", "fleet_name", default=None, help="Fleet the trace is mapped on; default: the one in force.")
@click.option("--speed", default=1.0, show_default=True, help="Trace seconds per wall second.")
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Draws works, entry clusters and services that the trace leaves open.",
)
@click.option("--name", default="", help="A name to find the run by.")
@click.option("--from", "from_s", type=float, default=None, help="First trace second taken.")
@click.option("--to", "to_s", type=float, default=None, help="Trace second before which to stop.")
@click.option("--thin", "share", type=float, default=None, help="Keep each request with this probability.")
@click.option("--work-scale", default=1.0, show_default=True, help="Multiply the works that the trace gives.")
@click.option("--lc-work-s", type=float, default=None, help="Bring the mean LC work to this.")
@click.option("--be-work-s", type=float, default=None, help="Bring the mean BE work to this.")
@click.option("--format", "trace_format", default=None, help="Trace format; default: found by looking.")
@click.option("--skip-bad", type=click.Path(path_type=Path), default=None, help="Take good rows, write bad ones with reasons here.")
@click.option("--no-reassure", is_flag=True, help="Leave LC instances at their declared size.")
@click.option("--follow", is_flag=True, help="Show progress until the run is done, then its figures.")
@output_option()
def submit(trace: tuple[Path, ...], **options: Any) -> None:
    """Submit a TRACE (one file or several parts) as a run."""
    from tango.fleets import load_fleet
    from tango.systems import system

    system(options["system_name"])  # an unknown name is refused before the trace is read
    stores = _stores()  # as is a stack that is not there
    fleet = load_fleet(options["fleet_name"]) if options["fleet_name"] else stores.fleet.in_force()
    reading = _read(trace, fleet, options["trace_format"], options["skip_bad"])
    run_id = submit_order(order_of(reading, fleet, options))
    if options["follow"]:
        _follow_and_show(run_id, options["output"])
    else:
        print_mapping({"run": run_id}, options["output"])


def _read(trace: Sequence[Path], fleet: Fleet, trace_format: str | None, skip_bad: Path | None) -> Reading:
    """The trace; with `skip_bad`, its bad rows are written there instead of being refused."""
    from tango.traces.reading import read_trace

    if skip_bad is not None:
        require_other_file(skip_bad, trace)
    with spinner("reading the trace"):
        reading = read_trace(trace, format=trace_format, skip_bad=skip_bad is not None, fleet=fleet)
    if skip_bad is not None:
        reading.refusals.write(skip_bad)
        click.echo(f"{len(reading.refusals)} bad rows written to {skip_bad}, {reading.rows} good rows taken", err=True)
    return reading


def order_of(reading: Reading, fleet: Fleet, options: Mapping[str, Any]) -> RunOrder:
    """What `submit` asks for. Counts are cut and thinned as counts: only what is left of them has to be few enough to be written out."""
    from tango.control.submit import RunOrder

    return RunOrder(
        trace=selection_of(options).of(reading.content, seed=options["seed"]),
        fleet=fleet,
        system=options["system_name"],
        name=options["name"],
        seed=options["seed"],
        speed=options["speed"],
        reassure=not options["no_reassure"],
    )


def submit_order(order: RunOrder) -> int:
    """Map the trace, store the run and announce it; give its id."""
    from tango.bootstrap.submission import submission_of
    from workers.app import app
    from workers.publisher import CeleryPublisher

    submission = submission_of(_stores(), CeleryPublisher(app))
    prepared = submission.prepare(order)
    if prepared.warning:
        click.echo(f"warning: {prepared.warning}", err=True)
    with spinner(f"storing {len(prepared.requests)} requests"):
        submitted = submission.submit(prepared)
    if not submitted.announced:
        click.echo("warning: the broker is away; the run is stored and begins when the broker is back", err=True)
    return submitted.run_id


def follow_run(stores: Stores, run_id: int, *, timeout_s: float | None = None) -> None:
    """Show a run's progress until it is done. Raises: RequestRejected if `timeout_s` passes first."""
    from tango.domain.runs import ENDED

    began_s = time.monotonic()
    with RunProgress(run_id) as display:
        while True:
            info, progress = stores.runs.run(run_id), stores.records.progress(run_id)
            display.update(progress)
            if info.status in ENDED:
                return
            if timeout_s is not None and time.monotonic() - began_s > timeout_s:
                raise RequestRejected(f"run {run_id} is not done after {timeout_s:.0f} s; see `tango run show {run_id}`")
            time.sleep(0.5)


def _follow_and_show(run_id: int, output: str) -> None:
    """What `follow` and `submit --follow` do: an interrupt ends the watching, not the run."""
    try:
        follow_run(_stores(), run_id)
    except KeyboardInterrupt:
        click.echo(f"run {run_id} goes on: `tango run follow {run_id}` shows it, `tango run cancel {run_id}` ends it", err=True)
        raise
    show_run(_stores(), run_id, output)


def show_run(stores: Stores, run_id: int, output: str, *, all_figures: bool = False) -> None:
    """Print a run's figures, those saved at its end or as of now, and how far each cluster has told of its LC requests.

    With `all_figures` also of a large run that goes on, whose requests are then all read.
    """
    from tango.control.cancel_run import requests_left
    from tango.control.run_shares import run_shares
    from tango.report.tables import print_run

    kind, left = stores.runs.run(run_id).kind, requests_left(run_id, runs=stores.runs)
    metrics, shares = _figures(stores, run_id, all_figures), run_shares(run_id, stores.shares, stores.fleet)
    if output in ("table", "wide"):
        print_run(metrics, wide=output == "wide")
        if shares:
            click.echo()
            print_rows(shares, SHARE_COLUMNS, output)
        if left:
            say(f"run {run_id} is being cancelled: {left:,} of {metrics['accepted']:,} requests are left")
            for share in shares:
                waits = share["lc_requests"] - share["lc_terminal"]
                if waits and share["away_since_s"] is not None:
                    say(f"{share['cluster']} is away since {instant(share['away_since_s'])}: {waits:,} of them may be with it")
    else:
        # A row of CSV has no place for a list.
        of_clusters = {} if output == "csv" else {"shares": shares}
        print_mapping({**metrics, "kind": str(kind), "cancel_left": left, **of_clusters}, output)


def _figures(stores: Stores, run_id: int, all_figures: bool) -> RunMetrics:
    """The figures of a run; why a simulated run failed, or why there are only counts, is said beside them."""
    from tango.control.run_figures import MOST_NOW, RunFigures

    for state in stores.simulations.states([run_id]):
        if state.failure:
            say(f"run {run_id} failed: {state.failure}")
    figures = RunFigures(runs=stores.runs, figures=stores.figures, simulations=stores.simulations, records=stores.records)
    found = figures.of(run_id, most_now=sys.maxsize if all_figures else MOST_NOW)
    if found["wall_s"] is None:
        failure = stores.figures.failure(run_id)
        when = f"could not be computed ({failure})" if failure else "are computed when it has ended"
        say(f"run {run_id} has {found['accepted']:,} requests: its other figures {when}; `--figures` computes them now")
    return found


@run.command(name="list")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest runs to list.")
@click.option("--kind", type=click.Choice(KINDS), default=None, help="Only runs of this kind.")
@output_option()
def list_runs(limit: int, kind: str | None, output: str) -> None:
    """List the latest runs."""
    from tango.domain.runs import RunKind

    runs = _stores().runs
    found = runs.runs(limit=limit, kind=_kind(kind))
    terminal = runs.terminal([r.run_id for r in found])
    rows = [
        {
            "run": r.run_id,
            "kind": str(r.kind),
            "name": r.name,
            "status": str(r.status),
            "system": r.system,
            "fleet": r.fleet,
            "accepted": r.accepted,
            "terminal": terminal.get(r.run_id, None if r.kind is RunKind.SIMULATED else 0),
            "seed": r.seed,
            "speed": r.speed,
        }
        for r in found
    ]
    print_rows(rows, RUN_COLUMNS, output)


@run.command()
@click.argument("run_id", type=int, metavar="RUN")
@click.option("--figures", "all_figures", is_flag=True, help="All figures of a large run that goes on too: it takes a minute.")
@output_option()
def show(run_id: int, all_figures: bool, output: str) -> None:
    """Show the figures of a RUN."""
    show_run(_stores(), run_id, output, all_figures=all_figures)


@run.command()
@click.argument("run_id", type=int, metavar="RUN")
@output_option()
def follow(run_id: int, output: str) -> None:
    """Watch a RUN until it is done, then show its figures."""
    _follow_and_show(run_id, output)


@run.command()
@click.argument("run_id", type=int, metavar="RUN")
def cancel(run_id: int) -> None:
    """Cancel a RUN: nothing of it is started any more, and what is not finished is given up in the background, pods and all."""
    from tango.domain.runs import ENDED

    runs = _stores().runs
    stopped, info = runs.cancel(run_id), runs.run(run_id)
    if not stopped:
        click.echo(f"run {run_id} is {info.status} already", err=True)
    elif info.status in ENDED:
        click.echo(f"run {run_id} cancelled", err=True)
    else:
        click.echo(
            f"run {run_id} is stopped; its unfinished requests are cancelled in the background, `tango run show {run_id}` tells how "
            "many are left",
            err=True,
        )


@run.command()
@click.argument("run_id", type=int, metavar="RUN")
@click.option("--state", default=None, help="Only requests in this state, e.g. failed.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Requests at the most.")
@output_option()
def requests(run_id: int, state: str | None, limit: int, output: str) -> None:
    """List requests of a RUN with attempts and reasons, and what clusters said that refused them."""
    from tango.domain.requests import RequestState
    from tango.store.run_records import REQUEST_COLUMNS

    known = [s.value for s in RequestState]
    if state is not None and state not in known:
        raise UsageError(f"there is no state {state!r}{near_name(state, known)}; known states: {', '.join(known)}")
    stores = _stores()
    stores.runs.run(run_id)  # an unknown run is told as such, and not as one without requests
    columns = tuple(Column(name, priority=4 if name == "words" else 5) for name in REQUEST_COLUMNS)
    print_rows(stores.records.requests(run_id, state=state, limit=limit), columns, output)


@run.command()
@click.argument("run_id", type=int, metavar="RUN")
def delete(run_id: int) -> None:
    """Delete a RUN with everything recorded under it."""
    _stores().runs.delete(run_id)
    click.echo(f"run {run_id} deleted", err=True)


@run.command()
@click.option(
    "--keep", type=click.IntRange(min=0), default=20, show_default=True, help="Newest finished runs of each kind to keep."
)
@click.option("--kind", type=click.Choice(KINDS), default=None, help="Only runs of this kind.")
def prune(keep: int, kind: str | None) -> None:
    """Delete all but the newest finished runs of each kind."""
    from tango.control.prune_runs import prune_runs
    from tango.domain.runs import RunKind

    done = prune_runs(_stores().runs, keep=keep, kinds=tuple(RunKind) if kind is None else (RunKind(kind),))
    click.echo(f"{done.deleted} runs deleted, {done.kept} kept", err=True)
