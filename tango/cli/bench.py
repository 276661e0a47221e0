"""`tango bench`: measure, each figure beside its yardstick in the same run."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.output import ListColumn, output_option, print_rows, say
from tango.cli.progress import spinner
from tango.errors import UsageError
from tango.files import write_whole

if TYPE_CHECKING:
    from tango.bench.figures import Figure

COLUMNS = (
    ListColumn("name", priority=10),
    ListColumn("value", justify="right", priority=9),
    ListColumn("unit", priority=8),
    ListColumn("yardstick", priority=5),
    ListColumn("yardstick_value", justify="right", priority=6),
    ListColumn("ratio", justify="right", priority=7),
)

STUDY_COLUMNS = (
    ListColumn("workload", priority=10),
    ListColumn("policy", priority=10),
    ListColumn("seeds", justify="right", priority=2),
    ListColumn("allocated", title="allocated %", show=lambda value: f"{value:.2f}", justify="right", priority=9),
    ListColumn("published", title="published %", show=lambda value: f"{value:.2f}", justify="right", priority=8),
    ListColumn("difference", show=lambda value: f"{value:+.2f}", justify="right", priority=7),
    ListColumn("alike", justify="right", priority=4),
    ListColumn("over_fgd", show=lambda value: f"{value:+.2f}", justify="right", priority=6),
    ListColumn("low", show=lambda value: f"{value:+.2f}", justify="right", priority=5),
    ListColumn("high", show=lambda value: f"{value:+.2f}", justify="right", priority=5),
    ListColumn("seconds", show=lambda value: f"{value:.2f}", justify="right", priority=3),
)

T = TypeVar("T")

TWIN_COLUMNS = (
    ListColumn("run", priority=10),
    ListColumn("figure", priority=10),
    ListColumn("live", justify="right", priority=5),
    ListColumn("simulated", justify="right", priority=5),
    ListColumn("error", show=lambda value: f"{value:.1%}", justify="right", priority=9),
    ListColumn("between", title="between live runs", show=lambda value: f"{value:.1%}", justify="right", priority=8),
    ListColumn("most", title="at most", show=lambda value: f"{value:.1%}", justify="right", priority=6),
    ListColumn("passed", show=lambda value: "yes" if value else "no", priority=9),
)


FORECAST_COLUMNS = (
    ListColumn("pair", priority=10),
    ListColumn("figure", priority=9),
    ListColumn("forecast", show=lambda value: f"{value:+.4g}", justify="right", priority=8),
    ListColumn("low", show=lambda value: f"{value:+.4g}", justify="right", priority=5),
    ListColumn("high", show=lambda value: f"{value:+.4g}", justify="right", priority=5),
    ListColumn("live", show=lambda value: f"{value:+.4g}", justify="right", priority=8),
    ListColumn("outcome", priority=10),
)


@click.group()
def bench() -> None:
    """Measure against a yardstick in the same run.

    \b
        tango bench live -o json
        tango bench store --requests 1000000
    """


@bench.command()
@click.option(
    "--fleet",
    default="bench",
    show_default=True,
    help="Fleet to start; it must stay at most half busy.",
    shell_complete=names.FLEETS,
)
@click.option("--seconds", type=Real(1), default=10.0, show_default=True, help="Length of each trial.")
@click.option("--tasks", type=Whole(min=1), default=6000, show_default=True, help="No-op tasks of the yardstick.")
@click.option("--rate", type=Real(1, 100_000), help="Offer this rate once, without yardstick and search.")
@output_option()
def live(fleet: str, seconds: float, tasks: int, rate: float | None, output: str) -> None:
    """Requests per second sustained end to end, beside raw Celery; and the added latency at half of that.

    \b
        tango bench live
        tango bench live --rate 1500 --seconds 20
    """
    from tango.bench.live import measure, measure_at

    if rate is not None:
        _print(measure_at(rate, fleet=fleet, seconds=seconds), output)
        return
    _print(measure(fleet=fleet, seconds=seconds, tasks=tasks, told=say), output)


@bench.command()
@click.option("--load", "loads", type=Real(0.1, 50), multiple=True, help="Times the capacity; may be repeated.")
@click.option("--host", is_flag=True, help="Overload the host itself, in place of a small fleet on it.")
@output_option()
def overload(loads: tuple[float, ...], host: bool, output: str) -> None:
    """Goodput of LC in bursts of 0.5 to 10 times what a small fleet can serve, and how soon all is well again.

    \b
        tango bench overload --load 2 --load 10
    """
    from tango.bench.overload import measure, measure_host

    of_bound = measure_host if host else measure
    _print(of_bound(loads=loads, told=say) if loads else of_bound(told=say), output)


@bench.command()
@click.option("--requests", type=Whole(1000), default=20_000, show_default=True, help="Requests on either side.")
@output_option()
def journal(requests: int, output: str) -> None:
    """What a cluster's journal costs for each LC request, beside a PostgreSQL that takes the same steps.

    \b
        tango bench journal --requests 50000
    """
    from tango.bench.journal import measure

    _print(measure(requests=requests, told=say), output)


@bench.command()
@click.option("--requests", type=Whole(1000), default=20_000, show_default=True, help="Requests for each ratio.")
@output_option()
def tracing(requests: int, output: str) -> None:
    """What distributed traces cost for each LC request, beside the same steps without them.

    \b
        tango bench tracing --requests 5000
    """
    from tango.bench.tracing import measure

    _print(measure(requests=requests, told=say), output)


@bench.command()
@click.option("--fleet", default="demo", show_default=True, help="Fleet to start.", shell_complete=names.FLEETS)
@click.option("--rate", type=Real(1, 10_000), default=20.0, show_default=True, help="LC requests a second.")
@click.option("--seconds", type=Real(1), default=20.0, show_default=True, help="Length of each run.")
@click.option("--rounds", type=Whole(1), default=3, show_default=True, help="Runs at each distance.")
@output_option()
def edge(fleet: str, rate: float, seconds: float, rounds: int, output: str) -> None:
    """What LC requests wait, from arrival to start, at 0, 10, 30 and 60 ms of round trip to the centre.

    \b
        tango bench edge --rate 20 --seconds 10
    """
    from tango.bench.edge import measure

    _print(measure(fleet=fleet, rate=rate, seconds=seconds, rounds=rounds, told=say), output)


@bench.command()
@click.option("--seconds", type=Real(1), default=10.0, show_default=True, help="Length of each trial.")
@click.option("--rate", type=Real(1, 100_000), help="Offer this rate once, without a search.")
@output_option()
def gateway(seconds: float, rate: float | None, output: str) -> None:
    """What a gateway adds to the latency of requests at half of what it sustains, beside the pod itself.

    \b
        tango bench gateway --seconds 10
    """
    from tango.bench.gateway import measure

    _print(measure(seconds=seconds, rate=rate, told=say), output)


@bench.command()
@click.option(
    "--kernel",
    type=click.Choice(["host", "own", "both"]),
    default="both",
    show_default=True,
    help="This host's, whose control groups are then used, or one of its own in an emulated machine.",
)
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Kernel image of the emulated machine; default: the newest in /boot.",
)
@click.option("--seconds", type=Real(1), default=20.0, show_default=True, help="Length of each phase.")
@click.option("--rounds", type=Whole(1), default=3, show_default=True, help="Rounds, whose medians are given.")
@output_option()
def colocation(kernel: str, image: Path | None, seconds: float, rounds: int, output: str) -> None:
    """LC's 99th percentile alone, beside BE, and with the node agent; and BE's share of the CPU that LC leaves. As root.

    \b
        sudo tango bench colocation --seconds 10 --rounds 1

    \b
        sudo tango bench colocation --seconds 10 --rounds 1
    """
    from tango.bench.colocation import measure

    _print(measure(kernel=kernel, image=image, seconds=seconds, rounds=rounds, told=say), output)


@bench.command()
@click.option("--pods", type=Whole(1, 100_000), default=1000, show_default=True, help="BE pods of each turn.")
@click.option("--nodes", type=Whole(1, 10_000), default=20, show_default=True, help="Nodes of the embedded server.")
@click.option("--rounds", type=Whole(1), default=3, show_default=True, help="Turns of both sides, whose medians are given.")
@click.option(
    "--kubeconfig",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Use the cluster of this file, whose nodes then get the pods; default: an embedded server.",
)
@click.option("--context", default="", help="Context of that file; default: its current one.")
@click.option("--namespace", default="tango-bench", show_default=True, help="Namespace there, made and deleted again.")
@output_option()
def placement(pods: int, nodes: int, rounds: int, kubeconfig: Path | None, context: str, namespace: str, output: str) -> None:
    """BE pods created and bound a second, the learned decision included, beside the bare calls on the same API server.

    \b
        tango bench placement --pods 1000 --nodes 20
    """
    from tango.bench.placement import measure

    figures = measure(
        pods=pods, nodes=nodes, rounds=rounds, kubeconfig_path=kubeconfig, context=context, namespace=namespace, told=say
    )
    _print(figures, output)


@bench.command()
@click.option("--fault", "names", multiple=True, help="One fault of those that are tried; may be repeated.  [default: all]")
@click.option("--kills", type=Whole(1), default=100, show_default=True, help="Processes killed in one run.")
@click.option("--seed", type=Whole(0), default=1, show_default=True, help="Draws what is killed, and the load.")
@click.option("--fleet", default="demo", show_default=True, help="Fleet to start.", shell_complete=names.FLEETS)
@click.option("--calm", "calm_s", type=Real(0), default=0.0, help="Seconds of load without a fault at the end: what grows?")
@output_option()
def chaos(names: tuple[str, ...], kills: int, seed: int, fleet: str, calm_s: float, output: str) -> None:
    """A whole stack under faults, one after another: what must hold, and the seconds until all is well again.

    \b
        tango bench chaos --fault kill --kills 20 --seed 3
    """
    from tango.bench.chaos.trials import measure

    _print(measure(names=names, kills=kills, seed=seed, fleet=fleet, calm_s=calm_s, told=say), output)


@bench.command()
@click.option("--fleet", default="demo", show_default=True, help="Fleet to start.", shell_complete=names.FLEETS)
@click.option("--seconds", type=Real(1), default=30.0, show_default=True, help="Seconds for which idle CPU is measured.")
@output_option()
def footprint(fleet: str, seconds: float, output: str) -> None:
    """Seconds until a stack is ready; memory and CPU of its processes while nothing runs, beside a worker of plain Celery.

    \b
        tango bench footprint --fleet single
    """
    from tango.bench.footprint import measure

    _print(measure(fleet=fleet, seconds=seconds, told=say), output)


@bench.command()
@click.option("--requests", type=Whole(1000), default=10_000_000, show_default=True, help="Requests in all.")
@click.option("--runs", type=Whole(1), default=10, show_default=True, help="Runs that they are spread over.")
@click.option("--reads", type=Whole(2), default=200, show_default=True, help="Times that the summary is read.")
@output_option()
def store(requests: int, runs: int, reads: int, output: str) -> None:
    """How fast `run_summary` answers over millions of requests, beside count(*) over the same rows; needs 4 GB of disk and minutes.

    \b
        tango bench store
        tango bench store --requests 10000000 --runs 1    # all in one run
    """
    from tango.bench.store import measure

    _print(measure(requests=requests, runs=runs, reads=reads, told=say), output)


@bench.command()
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False, shell_complete=names.TRACES)
@output_option()
def traces(trace: Path | None, output: str) -> None:
    """Reading a trace, beside Arrow's CSV reader; without TRACE a file like Google's of 400,000 rows is generated.

    \b
        tango bench traces
        tango bench traces task_events.csv.gz
    """
    from tango.bench.trace_reading import measure

    with spinner("reading"):
        figures = measure(trace)
    _print(figures, output)


@bench.command()
@click.option("--nodes", type=Whole(min=1), default=1000, show_default=True, help="Nodes of the fleet.")
@click.option("--requests", type=Whole(min=1), default=2_000_000, show_default=True, help="Requests, at load 0.8.")
@click.option("--scaling", is_flag=True, help="Instead: seconds over requests and over nodes.")
@click.option("--long", "long_run", is_flag=True, help="Instead: 100,000 simulated seconds on `continent`; some minutes.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="With --scaling: draw it as SVG.")
@output_option()
def simulator(nodes: int, requests: int, scaling: bool, long_run: bool, plot: Path | None, output: str) -> None:
    """Simulated requests per second and core, beside the bare engine; memory of 5,000,000 requests.

    \b
        tango bench simulator --nodes 1000 --requests 2000000
        tango bench simulator --scaling --plot scaling.svg
    """
    from tango.bench import simulator as bench_simulator

    if long_run:
        _print([bench_simulator.long_run(told=say)], output)
        return
    if not scaling:
        _print(bench_simulator.measure(nodes=nodes, requests=requests, told=say), output)
        return
    figures = bench_simulator.scaling(told=say)
    if plot is not None:
        from tango.report.scaling_plot import scaling_plot

        write_whole(plot, scaling_plot([figure.as_row() for figure in figures]))
        say(f"plot written to {plot}")
    _print(figures, output)


@bench.command()
@click.option(
    "--record", type=click.Path(dir_okay=False, path_type=Path), help="Write the table of decision times that simulations charge."
)
@output_option()
def scheduler(record: Path | None, output: str) -> None:
    """Milliseconds of a decision: dss-lc beside OR-tools, BE placement beside a plain forward pass.

    OR-tools is no part of a plain installation: `make install` brings it, or the extra `bench`.

    \b
        tango bench scheduler
    """
    from tango.bench import scheduler as bench_scheduler

    if record is None:
        _print(bench_scheduler.measure(told=say), output)
        return
    from tango.sim.decision_costs import dump_costs

    rows, machine = bench_scheduler.record(told=say)
    write_whole(record, dump_costs(rows, machine=machine))
    say(f"{len(rows)} decision times written to {record}")


@bench.command()
@click.option("--each", type=Whole(1), default=50, show_default=True, help="Explanations of every reason, at least.")
@click.option("--seed", type=Whole(0), default=1, show_default=True, help="Draws the worlds.")
@click.option("--live", type=Whole(1000), help="Instead: how fast one of so many live requests is explained.")
@click.option("--reads", type=Whole(10), default=1000, show_default=True, help="With --live: explanations that are timed.")
@output_option()
def explain(each: int, seed: int, live: int | None, reads: int, output: str) -> None:
    """For each reason the share of explanations whose stated change turns out as said when the decision decides again.

    \b
        tango bench explain --each 50 -o json
        tango bench explain --live 1000000      # needs half a GB of disk
    """
    if live is not None:
        from tango.bench import explained_rows

        _print(explained_rows.measure(live=live, reads=reads, told=say), output)
        return
    from tango.bench.explain import measure

    _print(measure(each=each, seed=seed, told=say), output)


@bench.command()
@click.option("--fleet", default="testbed", show_default=True, help="Fleet to simulate.", shell_complete=names.FLEETS)
@click.option("--load", type=Real(0.01, 10), default=1.0, show_default=True, help="Offered work over the fleet's CPU.")
@click.option("--seconds", type=Real(1), default=120.0, show_default=True, help="Simulated seconds of arrivals.")
@click.option("--seed", type=Whole(min=0), default=3, show_default=True, help="Seed of the requests.")
@output_option()
def slack(fleet: str, load: float, seconds: float, seed: int, output: str) -> None:
    """What learned policies decide differently because they see the measured slack of nodes, beside a slack of 1 everywhere.

    \b
        tango bench slack --fleet testbed --load 1.0
    """
    from tango.bench.slack import measure

    _print(measure(fleet=fleet, load=load, duration_s=seconds, seed=seed, told=say), output)


@bench.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the study's node list, pod lists and table.",
)
@click.option("--workload", "workloads", multiple=True, help="One workload of that folder; may be repeated.  [default: all]")
@click.option("--policy", "policies", multiple=True, help="One policy, such as FGD; may be repeated.  [default: all]")
@click.option("--seeds", type=Whole(1), default=10, show_default=True, help="Orders of arrival.")
@click.option("--first-seed", type=Whole(0), default=42, show_default=True, help="The published table has 42 to 51.")
@click.option("-j", "--jobs", type=Whole(min=1), default=2, show_default=True, help="Processes.")
@output_option()
def fgd(
    data: Path, workloads: tuple[str, ...], policies: tuple[str, ...], seeds: int, first_seed: int, jobs: int, output: str
) -> None:
    """GPUs allocated when 100 % have arrived, of each workload and policy of the fragmentation study, beside its published table.

    Below them the means of all workloads, of those that Tango's own policy (Filling) was made on, and of those held out from that.

    \b
        tango bench fgd --data fgd -o json
        tango bench fgd --data fgd --workload default --policy FGD --policy BestFit --seeds 3
    """
    from tango.experiments.gpu_study import policy_named, repeat_study

    chosen = [policy_named(name) for name in policies]
    rows, begun_s = list[dict[str, object]](), time.monotonic()
    made = repeat_study(data, workloads=workloads, policies=chosen, seeds=range(first_seed, first_seed + seeds), processes=jobs)
    for part in made:
        rows += [dataclasses.asdict(row) for row in part]
        say(f"{part[0].workload}: policies {len(part)}, seeds {part[0].seeds}, {time.monotonic() - begun_s:.0f} s so far")
    print_rows(rows, STUDY_COLUMNS, output)


def _live_run_options(command: Callable[..., None]) -> Callable[..., None]:
    """What is run live, of ten things that stand in a row."""
    for option in (
        click.option("--only", type=Whole(1), multiple=True, help="Number N of the ten; may be repeated.  [default: all]"),
        click.option("--seconds", type=Real(10, 3600), default=60.0, show_default=True, help="Arrivals of each run, trace time."),
        click.option("--fleet", default="demo", show_default=True, help="Fleet to start.", shell_complete=names.FLEETS),
    ):
        command = option(command)
    return command


def _numbered(ten: Sequence[T], only: Sequence[int]) -> Sequence[T]:
    """Those of these numbers, from 1 on; all without numbers. Raises: UsageError for a number beyond them."""
    if beyond := [number for number in only if number > len(ten)]:
        raise UsageError(f"there is no number {beyond[0]}, expected 1 to {len(ten)}")
    return [ten[number - 1] for number in only] or ten


@bench.command()
@_live_run_options
@output_option()
def twin(fleet: str, seconds: float, only: tuple[int, ...], output: str) -> None:
    """Ten different runs, each done twice live and simulated from its own rows: how far are simulation and run apart?

    Errors are means over LC services of the absolute relative errors of their latencies, beside what the two live runs differ by. Exit
    status 1 where an error is larger than both that and the goal.

    \b
        tango bench twin -o json
        tango bench twin --only 1 --only 6
    """
    from tango.bench.twin import TWINS, measure

    chosen = _numbered(TWINS, only)
    figures = [figure for of_run in measure(fleet=fleet, seconds=seconds, twins=chosen, told=say) for figure in of_run]
    print_rows([dataclasses.asdict(figure) for figure in figures], TWIN_COLUMNS, output)
    if not figures or not all(figure.passed for figure in figures):
        click.get_current_context().exit(1)


@bench.command()
@_live_run_options
@output_option()
def forecast(fleet: str, seconds: float, only: tuple[int, ...], output: str) -> None:
    """Ten pairs of systems on recorded traffic: does the one that the simulation says do better live?

    A run is recorded under the first system of a pair, both are simulated from its rows, then the second runs live on the same requests.
    A gap is the second system's figure less the first's. Exit status 1 where a gap that exceeded its 95 % interval came out the other
    way round.

    \b
        tango bench forecast -o json
        tango bench forecast --only 2 --only 5
    """
    from tango.bench.forecasts import PAIRS, measure

    chosen = _numbered(PAIRS, only)
    found = [one for of_pair in measure(fleet=fleet, seconds=seconds, pairs=chosen, told=say) for one in of_pair]
    print_rows([dataclasses.asdict(one) for one in found], FORECAST_COLUMNS, output)
    if not found or any(one.outcome == "wrong" for one in found):
        click.get_current_context().exit(1)


def _print(figures: Sequence[Figure], output: str) -> None:
    print_rows([figure.as_row() for figure in figures], COLUMNS, output)
