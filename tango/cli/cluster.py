"""`tango cluster`: join Kubernetes clusters by kubeconfig and context, check and list them, and let them leave."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tango.cli import names
from tango.cli.bounds import Real
from tango.cli.confirm import dry_run_option, require_yes, would, yes_option
from tango.cli.output import ListColumn, instant, output_option, print_rows, say
from tango.cli.refusals import columns_for, rows_of, told

if TYPE_CHECKING:
    from tango.settings import Settings

COLUMNS = (
    ListColumn("name", priority=10),
    ListColumn("nodes", justify="right", priority=9),
    ListColumn("ready", justify="right", priority=8),
    ListColumn("closed", justify="right", priority=3),
    ListColumn("pressed", justify="right", priority=4),
    ListColumn("picture_age_s", title="picture s", justify="right", priority=7),
    ListColumn("agent_age_s", title="agent s", justify="right", priority=5),
    ListColumn("embedded", priority=7),
    ListColumn("context", priority=6),
    ListColumn("kubeconfig", wide=True),
    ListColumn("zones", show=lambda zones: ", ".join(zones), wide=True),
    ListColumn("away_since_s", title="away since", show=instant, priority=5),
    ListColumn("waiting", title="LC waiting", justify="right", priority=7),
    ListColumn("waiting_since_s", title="waits since", show=instant, priority=6),
    ListColumn("messages", justify="right", priority=4),
    ListColumn("refusals", show=told, priority=6),
    ListColumn("lost_events", title="lost events", justify="right", priority=4),
    ListColumn("lost_at_s", title="lost at", show=instant, wide=True),
)


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


@click.group()
def cluster() -> None:
    """Join clusters by kubeconfig and context. The database keeps the file's path and the context's name, no credentials.

    \b
        tango cluster check edge-7 --kubeconfig ~/.kube/config --context edge-7
        tango cluster join edge-7 --kubeconfig ~/.kube/config --context edge-7
    """


@cluster.command()
@click.argument("name")
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path), help="File that holds the context.")
@click.option("--context", required=True, help="Context to use; deploy/rbac/tango.yaml has what its user must be allowed.")
@click.option("--rtt-ms", type=Real(0, 60_000), default=10.0, show_default=True, help="Round-trip time to the other clusters.")
@click.option(
    "--bandwidth-mbit",
    type=Real(0.001, 1e9),
    default=1000.0,
    show_default=True,
    help="Bandwidth of its link, in Mbit/s.",
)
@dry_run_option
def join(name: str, kubeconfig: Path, context: str, rtt_ms: float, bandwidth_mbit: float, dry_run: bool) -> None:
    """Check that Tango can work in a cluster, create its namespace there, and join the cluster as NAME.

    The checks are those of `tango cluster check`, with pods of the services that are declared.

    \b
        tango cluster join edge-7 --kubeconfig ~/.kube/config --context edge-7 --dry-run
        tango cluster join edge-7 --kubeconfig ~/.kube/config --context edge-7 --rtt-ms 25
        tango cluster add edge-7 --kubeconfig ~/.kube/config --context edge-7      # the same
    """
    import asyncio

    from tango.bootstrap.stores import stores
    from tango.control.join_cluster import require_cluster_name, require_joinable
    from tango.kube.joining import look_over, require_joined

    require_cluster_name(name)
    here = stores()
    path = str(kubeconfig.expanduser().resolve())
    require_joinable(name, kubeconfig=path, context=context, known=here.fleet.clusters())
    services = here.fleet.services()
    facts = asyncio.run(
        look_over(
            name, kubeconfig=path, context=context, settings=here.settings.kube, services=services, make_namespace=not dry_run
        )
    )
    require_joined(name, facts)
    if dry_run:
        for finding in facts.findings:
            if finding.refused:
                say(f"without: {finding.what}: {finding.refused}")
        would(f"join {name} with {facts.nodes} nodes")
        return
    here.fleet.join(name, kubeconfig=path, context=context, rtt_ms=rtt_ms, bandwidth_mbit_per_s=bandwidth_mbit)
    click.echo(f"joined {name}: {facts.nodes} nodes" + (", namespace made" if facts.namespace_made else ""), err=True)
    for finding in facts.findings:
        if finding.refused:
            click.echo(f"without: {finding.what}: {finding.refused}", err=True)
    click.echo(f"start its processes: python -m workers.cluster_agent --cluster {name}", err=True)
    click.echo(
        f"                     celery -A workers.app worker -n worker-{name}@%h -Q lc.{name},exec.{name} --pool threads",
        err=True,
    )


# What it was called at first.
cluster.add_command(join, "add")

CHECKS = (
    ListColumn("what", priority=10),
    ListColumn("needed", priority=8),
    ListColumn("may", priority=9),
    ListColumn("server_says", priority=7),
    ListColumn("remedy", priority=6),
)


@cluster.command()
@click.argument("name", shell_complete=names.CLUSTERS)
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="File of a cluster that has not joined; with --context.")
@click.option("--context", help="Context in it.")
@output_option()
def check(name: str, kubeconfig: Path | None, context: str | None, output: str) -> int:
    """Try everything that Tango does in cluster NAME, as dry runs, and quote what the server refuses. Exits with 1 where that is needed.

    Pods are tried as they would be made: of the synthetic workload and of each declared service. Nothing is made.

    \b
        tango cluster check edge-7 --kubeconfig ~/.kube/config --context edge-7
        tango cluster check edge-7                   # one that has joined
    """
    import asyncio

    from tango.bootstrap.environment import read_settings
    from tango.bootstrap.stores import stores
    from tango.errors import DependencyError, UsageError
    from tango.kube.joining import look_over

    if (kubeconfig is None) != (context is None):
        raise UsageError("give both --kubeconfig and --context, or neither for a cluster that has joined")
    services = ()
    try:
        fleet = stores().fleet
        services = fleet.services()  # type: ignore[assignment]
        path, named = (str(kubeconfig.expanduser().resolve()), context) if kubeconfig else fleet.credentials(name)
    except DependencyError:
        if kubeconfig is None:
            raise
        path, named = str(kubeconfig.expanduser().resolve()), context
    facts = asyncio.run(
        look_over(
            name, kubeconfig=path, context=named or "", settings=read_settings().kube, services=services, make_namespace=False
        )
    )
    rows = [
        {"what": f.what, "needed": f.is_needed, "may": not f.refused, "server_says": f.refused, "remedy": f.remedy}
        for f in facts.findings
    ]
    print_rows(rows, CHECKS, output)
    return 1 if facts.missing else 0


@cluster.command(name="list")
@output_option()
def list_clusters(output: str) -> None:
    """List the clusters, embedded and joined, what they refuse, in their own words, and how old that is.

    Nodes: all, those that are ready, those that are closed to new pods, those that get no BE because their node agents tell that LC lacks
    CPU or memory there (`tango node list`). `picture s`: seconds since nodes and pods were as they are known;
    `agent s`: since the agent was heard of, less than that where its API server is away. Nothing is placed on a picture that is too old.
    `LC waiting`: requests that were due there more than five seconds ago and that no worker of the cluster has taken, as the centre knows,
    and since when the first of them waits; `messages`: what waits in its queues on the centre's broker (none: it does not answer).
    `lost events`: what its journal had shipped and forgotten when the centre was restored from a backup.

    \b
        tango cluster list -o wide
    """
    from tango.bootstrap.stores import stores
    from tango.domain.patience import UNCLAIMED_AFTER_S

    here = stores()
    pictures = {picture.cluster: picture for picture in here.fleet.pictures()}
    pauses = here.refusals.pauses()
    limits = here.settings.node_agent
    pressed = Counter(
        cluster
        for cluster, state in here.fleet.nodes()
        if state.presses_be(cpu=limits.cpu_pressure_high, memory=limits.memory_pressure_high)
    )
    away, lost = here.fleet.away(), {gap.cluster: gap for gap in here.shares.gaps()}
    clusters, waiting = here.fleet.clusters(), here.fleet.waiting(after_s=UNCLAIMED_AFTER_S)
    messages = _messages(here.settings, [row.name for row in clusters])
    rows = [
        {
            "name": row.name,
            "nodes": pictures[row.name].nodes if row.name in pictures else 0,
            "ready": pictures[row.name].ready if row.name in pictures else 0,
            "closed": pictures[row.name].closed if row.name in pictures else 0,
            "pressed": pressed[row.name],
            "picture_age_s": _whole(pictures[row.name].age_s) if row.name in pictures else None,
            "agent_age_s": _whole(pictures[row.name].agent_age_s) if row.name in pictures else None,
            "embedded": row.embedded,
            "context": row.context,
            "kubeconfig": row.kubeconfig,
            "zones": pictures[row.name].zones if row.name in pictures else (),
            "away_since_s": away.get(row.name),
            "waiting": waiting.get(row.name, (0, None))[0],
            "waiting_since_s": waiting.get(row.name, (0, None))[1],
            "messages": messages.get(row.name),
            "refusals": rows_of(pauses.of(row.name)),
            "lost_events": lost[row.name].missing if row.name in lost else None,
            "lost_at_s": lost[row.name].at_s if row.name in lost else None,
        }
        for row in clusters
    ]
    print_rows(rows, columns_for(COLUMNS, output), output)


def _messages(settings: Settings, clusters: list[str]) -> dict[str, int]:
    from workers.app import create_app
    from workers.broker_health import waiting_messages

    return waiting_messages(create_app(settings), clusters) if settings.broker_url and clusters else {}


@cluster.command()
@click.argument("name", shell_complete=names.CLUSTERS)
@dry_run_option
@yes_option
def remove(name: str, dry_run: bool, yes: bool) -> None:
    """Forget the cluster NAME that has joined; refused while live requests entered or run there. `tango cluster join` is the inverse.

    Pods of Tango's that stay there are deleted by its agent while it still runs, or by `kubectl delete pods -l`.

    \b
        tango cluster remove edge-7 --dry-run
        tango cluster remove edge-7 --yes
    """
    from tango.bootstrap.stores import stores
    from tango.cli.publishing import publisher
    from tango.errors import BrokerUnavailable

    fleet = stores().fleet
    fleet.require_unneeded_cluster(name)
    what = f"forget cluster {name} with what is known of its nodes"
    if dry_run:
        would(what)
        return
    require_yes(yes, what)
    fleet.leave(name)
    if stores().settings.broker_url:
        try:
            publisher().forget(name)
        except BrokerUnavailable:  # they expire by themselves
            click.echo("the broker is away: messages for it expire within a minute", err=True)
    click.echo(f"{name} has left; stop its agent and worker", err=True)
