"""`tango service`: declare LC and BE services, list and withdraw them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tango.cli import names
from tango.cli.bounds import Real
from tango.cli.confirm import dry_run_option, would
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say
from tango.cli.refusals import columns_for, rows_of, told
from tango.errors import NotInTime

if TYPE_CHECKING:
    from tango.bootstrap.stores import Stores
    from tango.domain.observations import InstanceState
    from tango.domain.services import Service


ROLLOUT_LOOK_S = 0.5
"""Seconds between two looks at services that are waited for: agents tell the centre about as often."""


def _ready(instances: Mapping[str, int]) -> str:
    return f"{instances['ready']} of {instances['made']}"


COLUMNS = (
    ListColumn("name"),
    ListColumn("class"),
    ListColumn("tenant", priority=3),
    ListColumn("open_to", show=", ".join, priority=2),
    ListColumn("target_ms", justify="right"),
    ListColumn("cpu_work_s", justify="right"),
    ListColumn("memory_mib", justify="right"),
    ListColumn("extended", show=lambda amounts: ", ".join(f"{quantity} {name}" for name, quantity in amounts.items())),
    ListColumn("instances_per_node", justify="right"),
    ListColumn("instances", title="ready", show=_ready, justify="right", priority=6),
    ListColumn("refusals", show=told, priority=4),
    ListColumn("image", wide=True),
)


def _instances(service: Service, known: Iterable[tuple[str, InstanceState]]) -> dict[str, int] | None:
    """How many LC instances there are in all clusters, and how many of them are ready, as last observed; None: its pods are of jobs."""
    if not service.target_ms:
        return None
    ready = [instance.ready for _, instance in known if instance.service == service.name]
    return {"ready": sum(ready), "made": len(ready)}


@click.group()
def service() -> None:
    """Declare LC and BE services; agents deploy LC instances to every node.

    \b
        tango service apply -f my-api.yaml --wait
        tango service list
    """


@service.command()
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="YAML with one or more services; - is standard input.",
)
@click.option("--wait", is_flag=True, help="Wait until all instances of the LC services are ready, and say what keeps them.")
@click.option("--timeout", "timeout_s", type=Real(min=0), default=None, metavar="SECONDS", help="With --wait: no longer than this.")
@dry_run_option
def apply(path: Path, wait: bool, timeout_s: float | None, dry_run: bool) -> None:
    """Declare or change the services of a file. With --wait the exit status is 124 if they are not ready in time.

    \b
        tango service apply -f my-api.yaml --dry-run    # what would change
        tango service apply -f my-api.yaml --wait --timeout 120
        kustomize build my-api | tango service apply -f -
    """
    from tango.bootstrap.stores import stores
    from tango.fleets import load_services
    from tango.fleets.extended import refuse_fractions

    if timeout_s is not None and not wait:
        raise click.UsageError("--timeout is for --wait; give both, or neither")
    services = load_services(path)
    refuse_fractions(services)
    here = stores()
    if dry_run:
        from tango.domain.service_changes import service_changes

        for change in service_changes(services, here.fleet.services()):
            say(change)
        would(f"declare {', '.join(s.name for s in services)}")
        return
    here.fleet.put_services(services)
    say(f"declared: {', '.join(s.name for s in services)}")
    if wait:
        _wait_until_ready(here, [s.name for s in services], timeout_s)


def _wait_until_ready(here: Stores, names: Sequence[str], timeout_s: float | None) -> None:
    """Say how far they are whenever that changes. Raises: NotInTime, which says what is lacking and why."""
    from tango.control.rollout import has_instances, rollout

    until_s, said = None if timeout_s is None else time.monotonic() + timeout_s, set[str]()
    while True:
        snapshot, known, states = here.fleet.snapshot(at_s=time.time()), here.fleet.instances(), here.refusals.pauses().states
        lc = [s for s in snapshot.services if s.name in names and has_instances(s)]
        found = [rollout(s, snapshot, known, states) for s in lc]
        for one in found:
            if str(one) not in said:
                say(str(one))
        said = {str(one) for one in found}
        if lacking := [one for one in found if not one.is_done]:
            if until_s is not None and time.monotonic() + ROLLOUT_LOOK_S > until_s:
                words = "; ".join(map(str, lacking))
                raise NotInTime(f"not ready in time: {words}. It goes on: `tango service show {lacking[0].service}`")
            time.sleep(ROLLOUT_LOOK_S)
            continue
        return


@service.command(name="list")
@output_option()
def list_services(output: str) -> None:
    """List declared services, with how many instances are ready and what clusters refuse of their pods.

    \b
        tango service list
        tango service list -o wide
    """
    from tango.bootstrap.stores import stores
    from tango.domain.quantities import format_extended

    here = stores()
    states, known = here.refusals.pauses().states, here.fleet.instances()
    rows = [
        {
            "name": s.name,
            "class": s.service_class.label,
            "tenant": s.tenant,
            "open_to": ["all"] if s.shared else [s.tenant, *s.allowed_tenants],
            "target_ms": s.target_ms,
            "cpu_work_s": s.cpu_work_s,
            "memory_mib": s.memory_mib,
            "extended": format_extended(s.extended),
            "instances_per_node": s.instances_per_node if s.target_ms else None,
            "instances": _instances(s, known),
            "refusals": rows_of(state for state in states if state.service == s.name),
            "image": s.image,
        }
        for s in here.fleet.services()
    ]
    print_rows(rows, columns_for(COLUMNS, output), output)


FIGURES = (
    ListColumn("figure"),
    ListColumn("declared", justify="right"),
    ListColumn("in_force", justify="right"),
    ListColumn("measured", justify="right"),
)


SHOWN = (
    "cpu_work_s",
    "memory_mib",
    "instance_memory_mib",
    "cpu_request_millicores",
    "cpu_limit_millicores",
    "pod_memory_mib",
    "idle_memory_mib",
)
"""Figures of a service, the most memory that one of its pods was seen to hold, and what an LC instance holds without a request."""
_MEASURED_ALONE = ("pod_memory_mib", "idle_memory_mib")
_OF_LC = ("instance_memory_mib", "idle_memory_mib")


@service.command()
@click.argument("name", shell_complete=names.SERVICES)
@output_option()
def show(name: str, output: str) -> None:
    """Show what service NAME declares, what is assumed where it says nothing, and what was measured of its pods.

    \b
        tango service show my-api -o yaml
    """
    from tango.bootstrap.stores import stores
    from tango.domain.near_names import near_name
    from tango.errors import UsageError
    from tango.fleets import declared_spec

    here = stores()
    fleet = here.fleet
    known = {s.name: s for s in fleet.services()}
    if (found := known.get(name)) is None:
        raise UsageError(f"no service {name!r}{near_name(name, known)}; declared: {', '.join(sorted(known)) or 'none'}")
    measured = next(iter(fleet.measured([name])), None)
    seen: dict[str, object] = {}
    if measured is not None:
        work_s = measured.cpu_work_s
        seen = {"cpu_work_s": None if work_s is None else round(work_s, 4), "pod_memory_mib": round(measured.memory_mib, 1)}
        if (line := measured.by_load.line()) is not None:
            seen |= {"memory_mib": round(line.per_request, 2), "idle_memory_mib": round(line.idle, 1)}
    rows = [
        {
            "figure": figure,
            "declared": None if figure in (*found.assumed, *_MEASURED_ALONE) else getattr(found, figure),
            "in_force": getattr(found, figure, None),
            "measured": seen.get(figure),
        }
        for figure in SHOWN
        if figure not in _OF_LC or found.target_ms
    ]
    requests = measured.requests if measured else 0
    instances = _instances(found, fleet.instances())
    refusals = rows_of(state for state in here.refusals.pauses().states if state.service == name)
    if output in ("json", "yaml"):
        facts = {
            "name": name,
            "tenant": found.tenant,
            "spec": declared_spec(found),
            "assumed": found.assumed,
            "figures": rows,
            "instances": instances,
            "requests_measured": requests,
            "refusals": refusals,
        }
        print_mapping(facts, output)
        return
    kind = f"adopted from {found.adopt.namespace}" if found.adopt else "of its own template" if found.template else "synthetic"
    kind += f" in namespace {found.namespace}" if found.namespace else ""
    serving = f"{_ready(instances)} instances ready; " if instances else ""
    open_to = "open to all" if found.shared else f"open to {', '.join((found.tenant, *found.allowed_tenants))}"
    of = f"{found.service_class.label} of tenant {found.tenant}, {open_to}"
    click.echo(f"{name}: {of}, pods {kind}; {serving}{requests} requests measured", err=True)
    for refusal in refusals:
        click.echo(f"{refusal['cluster']} refuses: {told([refusal])}", err=True)
    print_rows(rows, FIGURES, output)


@service.command()
@click.argument("name", shell_complete=names.SERVICES)
def key(name: str) -> None:
    """Print the key by which instances of service NAME know requests that Tango has sent them (docs/security.md).

    \b
        tango service key my-api
    """
    from tango.bootstrap.environment import read_settings
    from tango.client.signatures import service_key
    from tango.errors import DependencyError

    call_key = read_settings().call_key
    if not call_key:
        raise DependencyError("no stack runs here and TANGO_CALL_KEY is not set, so that requests are not signed")
    click.echo(service_key(call_key, name))


@service.command()
@click.argument("name", required=False, shell_complete=names.SERVICES)
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=None,
    help="YAML with the services to delete; - is standard input.",
)
@dry_run_option
def delete(name: str | None, path: Path | None, dry_run: bool) -> None:
    """Withdraw a service by NAME, or those of a file; its instances are removed.

    \b
        tango service delete my-api
        tango service delete -f my-api.yaml --dry-run
    """
    from tango.bootstrap.stores import stores
    from tango.fleets import load_services

    if (name is None) == (path is None):
        raise click.UsageError("give a NAME or -f FILE")
    names = [name] if name else [s.name for s in load_services(path)] if path else []
    fleet = stores().fleet
    if dry_run:
        fleet.require_unneeded(names)
        pods = sum(instance.service in names for _, instance in fleet.instances())
        would(f"withdraw {', '.join(names)} and remove {pods} instances")
        return
    fleet.delete_services(names)
    click.echo(f"withdrawn: {', '.join(names)}", err=True)
