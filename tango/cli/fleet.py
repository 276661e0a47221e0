"""`tango fleet`: list the built-in fleets, show one, and generate a fleet file from a recipe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.confirm import force_option, require_free
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say
from tango.domain.fleet import Fleet, Node
from tango.domain.interference import PRESSURES, ServiceInterference
from tango.domain.quantities import Amounts
from tango.domain.resource_axis import quantity
from tango.domain.services import Service, ServiceClass
from tango.errors import FileRefused, UsageError
from tango.files import write_whole
from tango.fleets import (
    FleetRecipe,
    declaration_of,
    dump_fleet,
    dump_recipe,
    fleet_names,
    load_fleet,
    machines_of,
    parse_fleet,
)
from tango.fleets.clusters import MAX_CLUSTERS, MAX_KM, MAX_NODES, MAX_NODES_PER_CLUSTER

ROWS_SHOWN = 10
"""Most clusters, and most links, that a table shows; `-o wide` shows all."""

EXTENDED = ListColumn("extended", priority=6)
"""Extended resources, shown where anything listed has some."""
FLEET_COLUMNS = (
    ListColumn("name", priority=10),
    ListColumn("clusters", justify="right", priority=9),
    ListColumn("nodes", justify="right", priority=9),
    ListColumn("cores", justify="right", priority=8, show=lambda cores: f"{cores:,.0f}"),
    ListColumn("memory_gib", title="GiB", justify="right", priority=6, show=lambda gib: f"{gib:,.0f}"),
    EXTENDED,
    ListColumn("lc", title="LC services", justify="right", priority=7),
    ListColumn("be", title="BE services", justify="right", priority=7),
    ListColumn("hash", priority=5, show=lambda sha256: sha256[:12]),
)
CLUSTER_COLUMNS = (
    ListColumn("cluster", priority=10),
    ListColumn("nodes", justify="right", priority=9),
    ListColumn("cores", justify="right", priority=8),
    ListColumn("memory_gib", title="GiB", justify="right", priority=7),
    EXTENDED,
    ListColumn("x_km", title="x km", justify="right", priority=6),
    ListColumn("y_km", title="y km", justify="right", priority=6),
)
LINK_COLUMNS = (
    ListColumn("from", priority=10),
    ListColumn("to", priority=10),
    ListColumn("rtt_ms", title="RTT ms", justify="right"),
    ListColumn("bandwidth_mbit_per_s", title="Mbit/s", justify="right"),
)
SERVICE_COLUMNS = (
    ListColumn("service", priority=10),
    ListColumn("class", priority=9),
    ListColumn("cpu_work_s", title="work s", justify="right", priority=8),
    ListColumn("cpu_work_cv", title="cv", justify="right", priority=3),
    ListColumn("target_ms", title="target ms", justify="right", priority=7),
    ListColumn("cpu_request_millicores", title="request m", justify="right", priority=6),
    ListColumn("cpu_limit_millicores", title="limit m", justify="right", priority=6),
    ListColumn("pod_memory_mib", title="pod MiB", justify="right", priority=5),
    EXTENDED,
    ListColumn("concurrency", title="at a time", justify="right", priority=4),
    ListColumn("payload_kib", title="payload KiB", justify="right", priority=2),
)
INTERFERENCE_COLUMNS = (
    ListColumn("service", priority=10),
    *(ListColumn(kind, title=kind.replace("_", " "), justify="right", priority=9) for kind in PRESSURES),
)
"""Of each kind what is exerted, and the sensitivity to it."""


@click.group()
def fleet() -> None:
    """List, show and generate fleets: clusters, nodes, links and services.

    \b
        tango fleet list
        tango fleet show testbed -o yaml > mine.yaml
    """


@fleet.command("list")
@output_option()
def list_fleets(output: str) -> None:
    """List the built-in fleets.

    \b
        tango fleet list
    """
    rows = [_summary(load_fleet(name)) for name in fleet_names()]
    print_rows(rows, _where_said(rows, FLEET_COLUMNS), output)


@fleet.command()
@click.argument("name_or_file", metavar="NAME_OR_FILE", shell_complete=names.FLEETS)
@output_option()
def show(name_or_file: str, output: str) -> None:
    """Show a built-in fleet or a fleet file. With -o yaml, print its full declaration, which --fleet takes as a file.

    \b
        tango fleet show testbed
        tango fleet show testbed -o yaml > mine.yaml
    """
    shown = load_fleet(name_or_file)
    if output == "yaml":
        click.echo(dump_fleet(shown), nl=False)
    elif output == "json":
        print_mapping(declaration_of(shown), output)
    else:
        _print_tables(shown, whole=output == "wide")


@fleet.command()
@click.option("--clusters", type=Whole(1, MAX_CLUSTERS), required=True, help="Clusters, one a site.")
@click.option(
    "--nodes-min",
    type=Whole(1, MAX_NODES_PER_CLUSTER),
    default=3,
    show_default=True,
    help="Nodes of the smallest cluster.",
)
@click.option(
    "--nodes-max",
    type=Whole(1, MAX_NODES_PER_CLUSTER),
    default=20,
    show_default=True,
    help="Nodes of the largest cluster.",
)
@click.option("--nodes", type=Whole(1, MAX_NODES), help="Nodes of the whole fleet, exactly; by default as drawn.")
@click.option("--area-km", type=Real(0, MAX_KM), default=1000.0, show_default=True, help="Side of the square of the sites.")
@click.option("--seed", type=Whole(0), default=0, show_default=True, help="Equal seeds give equal fleets.")
@click.option(
    "--services-of",
    default="paper",
    show_default=True,
    metavar="FLEET",
    help="Fleet that lends services, network and machine types.",
)
@click.option("--name", help="Name of the fleet; by default that of the file.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File to write, which ends in .yaml or .yml."
)
@force_option
@output_option()
def generate(services_of: str, name: str | None, out: Path, force: bool, output: str, **sizes: Any) -> None:
    """Write a fleet file with a recipe: the seed draws the clusters' sizes and sites, the same for the same seed.

    \b
        tango fleet generate --clusters 20 --nodes-min 3 --nodes-max 12 --seed 7 --out wide.yaml
    """
    _check_out(out, services_of)
    require_free(out, force)
    like = load_fleet(services_of)
    text = dump_recipe(name or out.stem, FleetRecipe(machines=machines_of(like), **sizes), like)
    # Read as --fleet will read it, and before anything is written: no file is left that would be refused.
    try:
        made = parse_fleet(text, str(out))
    except FileRefused as error:  # what is wrong came from the command line
        raise UsageError(str(error)) from error
    write_whole(out, text)
    say(f"fleet {made.name} written to {out}")
    rows = [_summary(made)]
    print_rows(rows, _where_said(rows, FLEET_COLUMNS), output)


def _check_out(out: Path, services_of: str) -> None:
    if out.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{out} would not be found by --fleet, which takes files that end in .yaml or .yml")
    if out.exists() and Path(services_of).exists() and out.samefile(services_of):
        raise UsageError(f"{out} is the fleet that is read; name another file to write, or it would be lost")


def _extended(nodes: Iterable[Node]) -> str:
    """The extended resources of some nodes together, such as `4 nvidia.com/gpu`."""
    total: Counter[str] = Counter()
    for node in nodes:
        total.update(dict(node.extended))
    return _listed(tuple(sorted(total.items())))


def _listed(amounts: Amounts) -> str:
    return ", ".join(f"{quantity(name, amount)} {name}" for name, amount in amounts)


def _where_said(rows: Sequence[Mapping[str, Any]], columns: tuple[ListColumn, ...]) -> tuple[ListColumn, ...]:
    """The columns without `EXTENDED` where no row has extended resources."""
    return columns if any(row.get("extended") for row in rows) else tuple(c for c in columns if c is not EXTENDED)


def _summary(of: Fleet) -> dict[str, Any]:
    return {
        "name": of.name,
        "clusters": len(of.clusters),
        "nodes": sum(1 for _ in of.nodes),
        "cores": sum(node.cpu_millicores for node in of.nodes) / 1000,
        "memory_gib": sum(node.memory_mib for node in of.nodes) / 1024,
        "extended": _extended(of.nodes),
        "lc": len(of.services_of(ServiceClass.LC)),
        "be": len(of.services_of(ServiceClass.BE)),
        "hash": of.source_hash,
    }


def _print_tables(of: Fleet, *, whole: bool) -> None:
    summary = _summary(of)
    machines = [
        f"{m.share:g} x {m.cpu_millicores / 1000:g} cores {m.memory_mib / 1024:g} GiB {_listed(m.extended)}".rstrip()
        for m in machines_of(of)
    ]
    if not summary["extended"]:
        del summary["extended"]
    print_mapping({**summary, "machines": ", ".join(machines), **_network(of)}, "table")
    _print_some(list(_cluster_rows(of)), CLUSTER_COLUMNS, "clusters", whole=whole)
    links = [
        {"from": x.from_cluster, "to": x.to_cluster, "rtt_ms": x.rtt_ms, "bandwidth_mbit_per_s": x.bandwidth_mbit_per_s}
        for x in of.links
    ]
    if links:
        _print_some(links, LINK_COLUMNS, "links", whole=whole)
    # Services are few on every fleet, clusters and links may be thousands.
    _print_some([_service_row(s) for s in of.services], SERVICE_COLUMNS, "services", whole=True)
    if of.interference:
        click.echo("\nWhat services exert on their neighbours, and how sensitive they are to it:")
        _print_some([_interference_row(one) for one in of.interference], INTERFERENCE_COLUMNS, "services", whole=True)


def _print_some(rows: Sequence[dict[str, Any]], columns: Sequence[ListColumn], what: str, *, whole: bool) -> None:
    shown = rows if whole else rows[:ROWS_SHOWN]
    click.echo()
    print_rows(shown, _where_said(rows, tuple(columns)), "wide")
    if len(shown) < len(rows):
        say(f"and {len(rows) - len(shown)} more {what}; -o wide shows all")


def _network(of: Fleet) -> dict[str, Any]:
    between = of.rtt_ms()[~np.eye(len(of.clusters), dtype=bool)]
    return {
        "local_rtt_ms": of.network.local_rtt_ms,
        **({"rtt_ms": f"{between.min():.1f} to {between.max():.1f}, mean {between.mean():.1f}"} if len(between) else {}),
        "bandwidth_mbit_per_s": of.network.bandwidth_mbit_per_s,
        "links": len(of.links),
        "beta": of.beta,
        "actuation_delay_s": of.actuation_delay_s,
        "staleness_s": of.staleness_s,
    }


def _cluster_rows(of: Fleet) -> Iterator[dict[str, Any]]:
    for cluster in of.clusters:
        yield {
            "cluster": cluster.name,
            "nodes": len(cluster.nodes),
            "cores": sum(node.cpu_millicores for node in cluster.nodes) / 1000,
            "memory_gib": sum(node.memory_mib for node in cluster.nodes) / 1024,
            "extended": _extended(cluster.nodes),
            "x_km": cluster.x_km,
            "y_km": cluster.y_km,
        }


def _interference_row(one: ServiceInterference) -> dict[str, Any]:
    """Two figures by kind; a sensitivity that is not declared is the fleet's beta."""
    sensitivity = ["beta"] * len(PRESSURES) if one.sensitivity is None else [f"{figure:g}" for figure in one.sensitivity]
    return {
        "service": one.service,
        **{kind: f"{p:g}, {s}" for kind, p, s in zip(PRESSURES, one.pressure, sensitivity, strict=True)},
    }


def _service_row(service: Service) -> dict[str, Any]:
    is_lc = service.service_class is ServiceClass.LC
    return {
        "service": service.name,
        "class": service.service_class.label,
        "cpu_work_s": service.cpu_work_s,
        "cpu_work_cv": service.cpu_work_cv,
        "target_ms": service.target_ms,
        "cpu_request_millicores": service.cpu_request_millicores,
        "cpu_limit_millicores": service.cpu_limit_millicores,
        "pod_memory_mib": service.instance_memory_mib if is_lc else service.memory_mib,
        "extended": _listed(service.extended),
        "concurrency": service.concurrency if is_lc else 1,
        "payload_kib": service.payload_kib,
    }
