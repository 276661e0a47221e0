"""`tango run`: submit traces; list, show, follow, cancel, delete and prune runs; list requests."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.amounts import SIZE, SPAN
from tango.cli.bounds import Real, Whole
from tango.cli.confirm import dry_run_option, require_yes, would, yes_option
from tango.cli.output import OUTPUTS, ListColumn, duration, instant, output_option, print_mapping, print_rows, say, share
from tango.cli.progress import RunProgress, spinner
from tango.cli.publishing import publisher
from tango.cli.tenant_names import TenantName
from tango.cli.trace_files import map_of, map_option, require_other_file, say_notes, selection_of
from tango.cli.workloads import named_system, part_options
from tango.domain.near_names import near_name
from tango.domain.runs import RunStatus
from tango.errors import NotInTime, UsageError

if TYPE_CHECKING:
    from tango.analysis.metrics import RunMetrics
    from tango.bootstrap.stores import Stores
    from tango.control.submit import RunOrder
    from tango.domain.fleet import Fleet
    from tango.domain.runs import RunKind
    from tango.traces.reading import Reading

KINDS = ("replayed", "live", "simulated")
STATUSES = tuple(RunStatus)

RUN_COLUMNS = (
    ListColumn("run", priority=10),
    ListColumn("kind", priority=5),
    ListColumn("name", priority=6),
    ListColumn("status", priority=9),
    ListColumn("system", priority=8, show=lambda system: _shown_system(system)),
    ListColumn("fleet", priority=2),
    ListColumn("started_at_s", title="started", show=instant, priority=4),
    ListColumn("duration_s", title="duration", show=duration, justify="right", priority=5),
    ListColumn("accepted", justify="right", priority=7),
    ListColumn("terminal", justify="right", priority=3),
    ListColumn("lc_qos_rate", title="QoS rate", show=share, justify="right", priority=8),
    ListColumn("be_cpu_seconds_per_s", title="BE CPU-s/s", justify="right", priority=7),
    ListColumn("host_full", title="host full", show=share, justify="right", wide=True),
    ListColumn("seed", justify="right", wide=True),
    ListColumn("speed", justify="right", wide=True),
    ListColumn("tenant", wide=True),
)

REQUEST_PRIORITIES = {"request": 10, "state": 9, "latency_ms": 8, "service": 7, "node": 7, "reasons": 6, "words": 4}
"""Which columns go last on a narrow terminal: those that answer how a request fared."""

HOST_FIGURES = ("host", "host_full", "host_used", "host_stolen", "release_ms_p95", "dispatch_ms_p95")
"""Of `RunMetrics.details`, what machine output has of the host of a live run."""

PRUNED_COLUMNS = (
    ListColumn("run", priority=10),
    ListColumn("kind", priority=5),
    ListColumn("name", priority=7),
    ListColumn("ended_at_s", title="ended", show=instant, priority=6),
    ListColumn("accepted", justify="right", priority=6),
    ListColumn("size_bytes", title="size", show=lambda count: _shown_size(count), justify="right", priority=8),
    ListColumn("why", priority=9),
)
NEWEST_KEPT = 20
"""Finished runs of each kind that `prune` keeps where nothing else is said."""

SHARE_COLUMNS = (
    ListColumn("cluster", priority=10),
    ListColumn("lc_requests", title="LC requests", justify="right"),
    ListColumn("lc_terminal", title="terminal at the centre", justify="right"),
    ListColumn("shipped_to", title="shipped to number", justify="right"),
    ListColumn("shipped_at_s", title="shipped at", show=instant, wide=True),
    ListColumn("away_since_s", title="away since", show=instant),
)


def _shown_system(name: str) -> str:
    from tango.systems.policy_files import short_names

    return short_names(name)


def _shown_size(count: float) -> str:
    from tango.domain.retention import size

    return size(count)


def _stores() -> Stores:
    from tango.bootstrap.stores import stores  # slow libraries: only commands that need them pay for them

    return stores()


def _kind(name: str | None) -> RunKind | None:
    from tango.domain.runs import RunKind

    return RunKind(name) if name else None


@click.group()
def run() -> None:
    """Submit traces; list, show, follow, cancel and delete runs.

    \b
        tango run submit trace.csv --follow
        tango run list --status running
        tango run requests 3 --late --slowest
    """


@run.command()
@click.argument("trace", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--system",
    "system_name",
    default="tango",
    show_default=True,
    help="A system, or a mix LC/BE/SHARING.",
    shell_complete=names.SYSTEMS,
)
@part_options
@click.option(
    "--fleet",
    "fleet_name",
    default=None,
    help="Fleet the trace is mapped on; default: the one in force.",
    shell_complete=names.FLEETS,
)
@click.option("--speed", type=Real(), default=1.0, show_default=True, help="Trace seconds per wall second.")
@click.option(
    "--seed",
    type=Whole(min=0),
    default=0,
    show_default=True,
    help="Draws works, entry clusters and services that the trace leaves open.",
)
@click.option("--name", default="", help="A name to find the run by.")
@click.option(
    "--tenant", type=TenantName(), default="default", show_default=True, help="Whose the requests are that name no tenant."
)
@click.option("--from", "from_s", type=Real(), default=None, help="First trace second taken.")
@click.option("--to", "to_s", type=Real(), default=None, help="Trace second before which to stop.")
@click.option("--thin", "share", type=Real(), default=None, help="Keep each request with this probability.")
@click.option("--work-scale", type=Real(), default=1.0, show_default=True, help="Multiply the works that the trace gives.")
@click.option("--lc-work-s", type=Real(), default=None, help="Bring the mean LC work to this.")
@click.option("--be-work-s", type=Real(), default=None, help="Bring the mean BE work to this.")
@click.option("--format", "trace_format", default=None, help="Trace format; default: found by looking.")
@map_option(of="TRACE")
@click.option("--skip-bad", type=click.Path(path_type=Path), default=None, help="Take good rows, write bad ones with reasons here.")
@click.option("--no-reassure", is_flag=True, help="Leave LC instances at their declared size.")
@click.option("--follow", is_flag=True, help="Show progress until the run is done, then its figures.")
@click.option("--wait", is_flag=True, help="The same without the progress, for scripts.")
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, help="Give up waiting after these seconds.")
@click.option(
    "--min-qos",
    type=Real(0, 1),
    default=None,
    metavar="SHARE",
    help="Wait, and exit with 1 where fewer LC requests met their target.",
)
@dry_run_option
@output_option()
def submit(trace: tuple[Path, ...], **options: Any) -> int:
    """Submit a TRACE (one file or several parts) as a run.

    \b
        tango run submit demo.csv --follow
        tango run submit demo.csv --system dss-lc/load-greedy/burst
        tango run submit demo.csv --be place.py:near_home         # a policy of your own decides
        tango run submit demo.csv --wait --min-qos 0.95 -o json   # for scripts: exits with 1 below that
        tango run submit demo.csv --dry-run                       # does it fit this stack?
        tango run submit calls.csv --map "arrival_s=t_ms / 1000,class='lc'"   # any table
    """
    from tango.fleets import load_fleet

    system = named_system(options["system_name"], options)  # an unknown name is refused before the trace is read
    stores = _stores()  # as is a stack that is not there
    fleet = load_fleet(options["fleet_name"]) if options["fleet_name"] else stores.fleet.in_force()
    reading = _read(trace, fleet, options)
    order = order_of(reading, fleet, {**options, "system_name": system.name})
    if options["dry_run"]:
        _would_submit(order)
        return 0
    run_id = submit_order(order)
    if not (options["follow"] or options["wait"] or options["min_qos"] is not None):
        print_mapping({"run": run_id}, options["output"])
        return 0
    return _wait_and_show(
        run_id,
        options["output"],
        display=options["follow"],
        timeout_s=options["timeout_s"],
        min_qos=options["min_qos"],
    )


def _read(trace: Sequence[Path], fleet: Fleet, options: Mapping[str, Any]) -> Reading:
    """The trace; with `skip_bad`, its bad rows are written there instead of being refused."""
    from tango.traces.reading import read_trace

    skip_bad = options["skip_bad"]
    if skip_bad is not None:
        require_other_file(skip_bad, trace)
    with spinner("reading the trace"):
        reading = read_trace(trace, format=options["trace_format"], map=map_of(options), skip_bad=skip_bad is not None, fleet=fleet)
    if skip_bad is not None:
        reading.refusals.write(skip_bad)
        click.echo(f"{len(reading.refusals)} bad rows written to {skip_bad}, {reading.rows} good rows taken", err=True)
    say_notes(reading.notes)
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
        tenant=options["tenant"],
    )


def _would_submit(order: RunOrder) -> None:
    """Map the trace and check the run; say how many requests it would have."""
    from tango.bootstrap.submission import submission_of

    prepared = submission_of(_stores(), publisher()).prepare(order)
    if prepared.warning:
        click.echo(f"warning: {prepared.warning}", err=True)
    of_run = prepared.run
    would(f"submit {len(prepared.requests):,} requests over {duration(of_run.span_s)} of trace under {of_run.system}")


def submit_order(order: RunOrder) -> int:
    """Map the trace, store the run and announce it; give its id."""
    from tango.bootstrap.submission import submission_of

    submission = submission_of(_stores(), publisher())
    prepared = submission.prepare(order)
    if prepared.warning:
        click.echo(f"warning: {prepared.warning}", err=True)
    with spinner(f"storing {len(prepared.requests)} requests"):
        submitted = submission.submit(prepared)
    if not submitted.announced:
        click.echo("warning: the broker is away; the run is stored and begins when the broker is back", err=True)
    return submitted.run_id


def _goes_on(run_id: int) -> str:
    return f"run {run_id} goes on: `tango run follow {run_id}` shows it, `tango run cancel {run_id}` ends it"


def follow_run(stores: Stores, run_id: int, *, timeout_s: float | None = None, display: bool = True) -> None:
    """Wait until a run is done, and show its progress meanwhile. Raises: NotInTime if `timeout_s` passes first."""
    from tango.domain.runs import ENDED

    began_s = time.monotonic()
    with RunProgress(run_id) if display else contextlib.nullcontext() as shown:
        while True:
            info = stores.runs.run(run_id)
            if shown is not None:
                shown.update(stores.records.progress(run_id))
            if info.status in ENDED:
                return
            if timeout_s is not None and time.monotonic() - began_s > timeout_s:
                raise NotInTime(f"not done after {timeout_s:g} s; {_goes_on(run_id)}")
            time.sleep(0.5)


def _wait_and_show(
    run_id: int, output: str, *, display: bool = True, timeout_s: float | None = None, min_qos: float | None = None
) -> int:
    """What `follow` and `submit` that waits do, and the exit status: an interrupt and a timeout end the watching, not the run."""
    try:
        follow_run(_stores(), run_id, timeout_s=timeout_s, display=display)
    except KeyboardInterrupt:
        say(_goes_on(run_id))
        raise
    figures = show_run(_stores(), run_id, output)
    if min_qos is None:
        return 0
    met = figures["lc_qos_rate"]
    if not isinstance(met, float):
        say(f"the QoS rate of run {run_id} is not known, expected {share(min_qos)} or more")
        return 1
    if met < min_qos:
        say(f"the QoS rate of run {run_id} is {share(met)}, expected {share(min_qos)} or more")
        return 1
    return 0


def show_run(stores: Stores, run_id: int, output: str, *, all_figures: bool = False) -> RunMetrics:
    """Print and give a run's figures, those saved at its end or as of now, and how far each cluster has told of its LC requests.

    With `all_figures` also of a large run that goes on, whose requests are then all read.
    """
    from tango.control.cancel_run import requests_left
    from tango.control.run_shares import run_shares
    from tango.domain.patience import UNCLAIMED_AFTER_S
    from tango.domain.why import who_releases
    from tango.report.tables import host_banner, is_saturated, print_run

    kind, left = stores.runs.run(run_id).kind, requests_left(run_id, runs=stores.runs)
    metrics, shares = _figures(stores, run_id, all_figures), run_shares(run_id, stores.shares, stores.fleet)
    unclaimed = stores.records.unclaimed(run_id, after_s=UNCLAIMED_AFTER_S)
    if output in ("table", "wide"):
        print_run(metrics, banner=host_banner(metrics.details, stores.settings.host.saturated_share), wide=output == "wide")
        if shares:
            click.echo()
            print_rows(shares, SHARE_COLUMNS, output)
        if left:
            say(f"run {run_id} is being cancelled: {left:,} of {metrics['accepted']:,} requests are left")
            for share in shares:
                waits = share["lc_requests"] - share["lc_terminal"]
                if waits and share["away_since_s"] is not None:
                    say(f"{share['cluster']} is away since {instant(share['away_since_s'])}: {waits:,} of them may be with it")
        away = {share["cluster"] for share in shares if share["away_since_s"] is not None}
        for service_class, cluster, count in unclaimed:
            if cluster not in away:  # what is away is told with its share
                waited_for = who_releases(service_class, cluster)
                say(f"{count:,} {service_class.label.upper()} requests are overdue and wait for {waited_for}")
    else:
        # A row of CSV has no place for a list.
        overdue = [{"class": of.label, "cluster": cluster or None, "requests": count} for of, cluster, count in unclaimed]
        of_clusters = {} if output == "csv" else {"shares": shares, "unclaimed": overdue}
        of_host = {name: metrics.details.get(name) for name in HOST_FIGURES}
        saturated = is_saturated(of_host["host_full"], stores.settings.host.saturated_share)
        print_mapping(
            {**metrics, "kind": str(kind), "cancel_left": left, **of_host, "host_saturated": saturated, **of_clusters}, output
        )
    return metrics


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
@click.option("--limit", type=Whole(min=1), default=50, show_default=True, help="Newest runs to list.")
@click.option("--kind", type=click.Choice(KINDS), default=None, help="Only runs of this kind.")
@click.option("--status", type=click.Choice([str(s) for s in STATUSES]), default=None, help="Only runs that stand so.")
@click.option("--system", default="", help="Only runs of this system.", shell_complete=names.SYSTEMS_OF_RUNS)
@click.option("--name", default="", metavar="TEXT", help="Only runs whose name has this in it.")
@click.option("--since", type=click.DateTime(), default=None, help="Only runs submitted since, in UTC.")
@output_option(formats=OUTPUTS)
def list_runs(
    limit: int,
    kind: str | None,
    status: str | None,
    system: str,
    name: str,
    since: datetime.datetime | None,
    output: str,
) -> None:
    """List the latest runs with their figures; those of a run that goes on are not there yet.

    \b
        tango run list --kind live --since 2026-11-01
        tango run list -o csv > runs.csv
    """
    from tango.domain.runs import RunKind
    from tango.store.run_lists import RunFilter

    stores = _stores()
    since_s = None if since is None else since.replace(tzinfo=datetime.UTC).timestamp()
    which = RunFilter(kind=_kind(kind), status=status or "", system=system, name=name, since_s=since_s)
    rows = stores.run_lists.runs(which, limit=limit)
    terminal = stores.runs.terminal([row["run"] for row in rows])
    for row in rows:
        row["terminal"] = terminal.get(row["run"], None if row["kind"] == RunKind.SIMULATED else 0)
    print_rows(rows, RUN_COLUMNS, output)
    _say_saturated({row["run"]: row["host_full"] for row in rows}, stores)
    if told := stores.run_lists.deletions():
        say(told)


def _say_saturated(host_full: Mapping[int, object], stores: Stores) -> None:
    """Which runs had a host without CPU left for too long, by the share of their time."""
    from tango.report.tables import is_saturated, percent

    limit = stores.settings.host.saturated_share
    full = [run_id for run_id, share_of in host_full.items() if is_saturated(share_of, limit)]
    if full:
        named = ", ".join(str(run_id) for run_id in sorted(full))
        say(
            f"not the system's figures: run{'s' if len(full) > 1 else ''} {named}, whose host had no CPU left for {percent(limit)} of the "
            "time or more"
        )


@run.command()
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@click.option("--figures", "all_figures", is_flag=True, help="All figures of a large run that goes on too: it takes a minute.")
@output_option()
def show(run_id: int, all_figures: bool, output: str) -> None:
    """Show the figures of a RUN.

    \b
        tango run show 3
        tango run show 3 -o json
    """
    show_run(_stores(), run_id, output, all_figures=all_figures)


@run.command()
@click.argument("run_ids", type=Whole(), metavar="RUN RUN...", nargs=-1, required=True, shell_complete=names.RUNS)
@output_option(formats=OUTPUTS)
def compare(run_ids: tuple[int, ...], output: str) -> None:
    """Put two or more recorded runs side by side, live or simulated, with how each differs from the first.

    One run is one sample: whether a difference is more than chance `tango compare` tells, which simulates many.

    \b
        tango run compare 3 4
        tango run compare 3 4 5 -o csv
    """
    from tango.analysis.run_differences import FACTS, difference_rows, what_differs

    if len(set(run_ids)) < max(2, len(run_ids)):
        raise UsageError(f"found runs {', '.join(map(str, run_ids))}, expected two or more different ones")
    stores = _stores()
    for run_id in run_ids:
        stores.runs.run(run_id)  # an unknown run is told as such
    facts = stores.run_lists.facts(run_ids, FACTS)
    figures = {run_id: _figures(stores, run_id, False) for run_id in run_ids}
    found = difference_rows(list(figures.values()))
    differs = what_differs(facts)
    _say_saturated({run_id: of.details.get("host_full") for run_id, of in figures.items()}, stores)
    if output in ("json", "yaml"):
        print_mapping(
            {
                "runs": list(run_ids),
                "differs": differs,
                "figures": [
                    {
                        "figure": row.metric.name,
                        "service": row.service or None,
                        "unit": row.metric.unit,
                        "values": list(row.values),
                        "differences": [row.difference(k) for k in range(1, len(run_ids))],
                        "verdicts": [row.verdict(k) for k in range(1, len(run_ids))],
                    }
                    for row in found
                ],
            },
            output,
        )
        return
    first, *others = run_ids
    rows = [
        {
            "service": row.service,
            "figure": row.metric.title,
            str(first): row.metric.show(row.values[0]),
            **{str(other): row.metric.show(row.values[k]) for k, other in enumerate(others, 1)},
            **{f"{other}-{first}": row.metric.show_difference(row.difference(k), None) for k, other in enumerate(others, 1)},
            **{f"{other}?": row.verdict(k) for k, other in enumerate(others, 1)},
        }
        for row in found
    ]
    columns = [
        ListColumn("service", priority=6),
        ListColumn("figure", priority=10),
        ListColumn(str(first), title=f"run {first}", justify="right", priority=9),
    ]
    for other in others:
        columns += [
            ListColumn(str(other), title=f"run {other}", justify="right", priority=9),
            ListColumn(f"{other}-{first}", title="difference", justify="right", priority=8),
            ListColumn(f"{other}?", title="is", priority=7),
        ]
    print_rows(rows, columns, output)
    for words in differs:
        say(f"they differ in {_shown_system(words)}")


@run.command()
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, help="Give up after these seconds.")
@output_option()
def follow(run_id: int, timeout_s: float | None, output: str) -> int:
    """Watch a RUN until it is done, then show its figures. Exits with 124 if it is not done by then.

    \b
        tango run follow 3
        tango run follow 3 --timeout 600 -o json
    """
    return _wait_and_show(run_id, output, timeout_s=timeout_s)


@run.command()
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@click.option("--wait", is_flag=True, help="Wait until nothing of it is left.")
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, help="With --wait: no longer than these seconds.")
@dry_run_option
def cancel(run_id: int, wait: bool, timeout_s: float | None, dry_run: bool) -> None:
    """Cancel a RUN: nothing of it is started any more, and what is not finished is given up in the background, pods and all.

    \b
        tango run cancel 3
        tango run cancel 3 --wait --timeout 60
    """
    from tango.domain.runs import ENDED

    if timeout_s is not None and not wait:
        raise UsageError("--timeout is for --wait; give both, or neither")
    runs = _stores().runs
    if dry_run:
        info, counts = runs.run(run_id), runs.counts(run_id)
        if info.status in ENDED:
            would(f"do nothing: run {run_id} is {info.status} already")
        else:
            would(
                f"cancel run {run_id} ({info.name}) with the {counts.accepted - counts.terminal:,} requests that are not finished"
            )
        return
    stopped = runs.cancel(run_id)
    if wait:
        follow_run(_stores(), run_id, timeout_s=timeout_s, display=False)
    info = runs.run(run_id)
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
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@click.option("--state", default=None, help="Only requests in this state, e.g. failed.")
@click.option("--class", "service_class", type=click.Choice(("lc", "be")), default=None, help="Only requests of this class.")
@click.option("--service", default="", help="Only requests of this service.", shell_complete=names.SERVICES)
@click.option(
    "--cluster",
    default="",
    help="Only requests that ran there, or have entered there and run nowhere yet.",
    shell_complete=names.CLUSTERS,
)
@click.option(
    "--node", default="", help="Only requests whose last attempt was there: NODE, or CLUSTER/NODE.", shell_complete=names.NODES
)
@click.option("--late", is_flag=True, help="Only LC requests that missed their target.")
@click.option("--slowest", is_flag=True, help="In order of latency, the longest first.")
@click.option("--limit", type=Whole(min=1), default=100, show_default=True, help="Requests at the most.")
@output_option(formats=OUTPUTS)
def requests(
    run_id: int,
    state: str | None,
    service_class: str | None,
    service: str,
    cluster: str,
    node: str,
    late: bool,
    slowest: bool,
    limit: int,
    output: str,
) -> None:
    """List requests of a RUN with attempts and reasons, and what clusters said that refused them.

    \b
        tango run requests 3 --late --slowest --limit 20
        tango run requests 3 --class be --state pending
        tango run requests 3 --node c1/c1-n2 -o csv
    """
    from tango.domain.requests import RequestState
    from tango.store.run_lists import REQUEST_KEYS, RequestFilter

    known = [s.value for s in RequestState]
    if state is not None and state not in known:
        raise UsageError(f"there is no state {state!r}{near_name(state, known)}; known states: {', '.join(known)}")
    of_cluster, slash, bare = node.rpartition("/")
    if slash and cluster and cluster != of_cluster:
        raise UsageError(f"--node {node} lies in cluster {of_cluster}, --cluster says {cluster}")
    stores = _stores()
    stores.runs.run(run_id)  # an unknown run is told as such, and not as one without requests
    which = RequestFilter(
        state=state,
        service_class=service_class,
        service=service,
        cluster=of_cluster or cluster,
        node=bare,
        late=late,
        slowest=slowest,
    )
    columns = tuple(ListColumn(name, priority=REQUEST_PRIORITIES.get(name, 5)) for name in REQUEST_KEYS)
    rows = stores.run_lists.requests(run_id, which, limit=limit)
    print_rows(rows, columns, output)
    if len(rows) == limit:
        say(f"these are {limit} requests; there may be more (--limit N)")


@run.command()
@click.argument("run_id", type=Whole(), metavar="RUN", shell_complete=names.RUNS)
@dry_run_option
@yes_option
def delete(run_id: int, dry_run: bool, yes: bool) -> None:
    """Delete a RUN with everything recorded under it.

    \b
        tango run delete 3
        tango run delete 3 --dry-run     # what would go
    """
    from tango.domain.runs import require_ended

    runs = _stores().runs
    info = runs.run(run_id)
    require_ended(info)
    what = f"run {run_id} ({info.name}) with its {info.accepted:,} requests and all that is recorded of them"
    if dry_run:
        would(f"delete {what}")
        return
    require_yes(yes, f"delete {what}")
    runs.delete(run_id, why="tango run delete")
    click.echo(f"run {run_id} deleted", err=True)


@run.command()
@click.option(
    "--keep",
    type=Whole(min=0),
    default=None,
    help="Newest finished runs of each kind that stay in any case.  [default: 20; 0 with --older-than or --keep-bytes]",
)
@click.option("--older-than", "older_than_s", type=SPAN, default=None, help="Only runs that ended longer ago, e.g. 30d or 12h.")
@click.option(
    "--keep-bytes", "most_bytes", type=SIZE, default=None, help="Only as many, the oldest first, as leave this, e.g. 20GB."
)
@click.option("--kind", type=click.Choice(KINDS), default=None, help="Only runs of this kind.")
@dry_run_option
@yes_option
@output_option(formats=OUTPUTS)
def prune(
    keep: int | None,
    older_than_s: float | None,
    most_bytes: int | None,
    kind: str | None,
    dry_run: bool,
    yes: bool,
    output: str,
) -> None:
    """Delete old runs: all but the newest finished ones of each kind, or what is too old or too large.

    Prints the runs that it deletes. With both --older-than and --keep-bytes a run goes that is beyond either. The scheduler does the same
    by itself where TANGO_RETENTION_OLDER_THAN_S or TANGO_RETENTION_MOST_GB is set.

    \b
        tango run prune                              # all but the 20 newest of each kind
        tango run prune --older-than 30d --dry-run   # what would go
        tango run prune --older-than 30d --keep 5
        tango run prune --keep-bytes 20GB --kind simulated --yes
    """
    from tango.control.prune_runs import prune_runs, to_prune
    from tango.domain.retention import RetentionRule, size
    from tango.domain.runs import RunKind

    by_number = older_than_s is None and most_bytes is None
    rule = RetentionRule(
        keep=keep if keep is not None else NEWEST_KEPT if by_number else 0,
        older_than_s=older_than_s,
        most_bytes=most_bytes,
        kinds=tuple(RunKind) if kind is None else (RunKind(kind),),
    )
    runs, now_s = _stores().runs, time.time()
    going = to_prune(runs, rule, now_s=now_s)
    rows = [
        {
            "run": one.run.run_id,
            "kind": str(one.run.kind),
            "name": one.run.name,
            "ended_at_s": one.run.ended_at_s,
            "accepted": one.run.accepted,
            "size_bytes": one.run.size_bytes,
            "why": one.why,
        }
        for one in going
    ]
    print_rows(rows, PRUNED_COLUMNS, output, empty="No run goes.")
    if not going:
        return
    what = f"{len(going)} runs, about {size(sum(one.run.size_bytes for one in going))}"
    if dry_run:
        would(f"delete {what}")
        return
    require_yes(yes, f"delete {what}")
    done = prune_runs(runs, rule, now_s=now_s)
    click.echo(f"{done.deleted} runs deleted, {done.kept} left", err=True)
