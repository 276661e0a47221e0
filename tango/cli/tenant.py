"""`tango tenant`: declare tenants, list and withdraw them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.confirm import dry_run_option, require_yes, would, yes_option
from tango.cli.output import ListColumn, duration, output_option, print_rows, say, share

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tango.domain.tenants import Tenant
    from tango.ports.tenants import TenantStore

COLUMNS = (
    ListColumn("tenant", priority=10),
    ListColumn("weight", justify="right", priority=9),
    ListColumn("quota", show=lambda quota: ", ".join(f"{name} {amount}" for name, amount in quota.items()), priority=8),
    ListColumn("most_jobs", title="jobs at most", justify="right", priority=6),
    ListColumn("guarantee", title="guarantee of LC", priority=5),
    ListColumn("waiting", justify="right", priority=7),
    ListColumn("pods", justify="right", priority=7),
    ListColumn("share", show=share, justify="right", priority=9),
    ListColumn("weighted_share", title="over weight", show=share, justify="right", wide=True),
    ListColumn("below_s", title="below for", show=duration, justify="right", priority=6),
    ListColumn("withheld", wide=True),
    ListColumn("is_declared", title="declared", wide=True),
)


def _tenants() -> TenantStore:
    from tango.bootstrap.stores import stores  # slow libraries: only commands that need them pay for them

    return stores().tenants


@click.group()
def tenant() -> None:
    """Declare tenants: what each gets of the fleet for its BE work where not all can have what they want, and what its LC is guaranteed.

    \b
        tango tenant apply -f tenants.yaml
        tango tenant list
    """


@tenant.command()
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="YAML with one or more tenants; - is standard input.",
)
@dry_run_option
def apply(path: Path, dry_run: bool) -> None:
    """Declare or change the tenants of a file. Others stay as they are. Guarantees that the fleet cannot keep are refused.

    \b
        tango tenant apply -f tenants.yaml --dry-run    # what would change
        tango tenant apply -f tenants.yaml
    """
    from tango.domain.tenants import tenant_changes
    from tango.fleets import load_tenants

    found = load_tenants(path)
    store = _tenants()
    _refuse_beyond({**store.declared(), **{tenant.name: tenant for tenant in found}})
    if dry_run:
        for change in tenant_changes(found, store.declared()):
            say(change)
        would(f"declare {', '.join(t.name for t in found)}")
        return
    store.put(found)
    say(f"declared: {', '.join(t.name for t in found)}")


def _refuse_beyond(declared: Mapping[str, Tenant]) -> None:
    """Raises: RequestRejected where tenants are guaranteed more than the fleet has. Without a fleet nothing can be said."""
    if all(tenant.guarantee is None for tenant in declared.values()):
        return
    from tango.bootstrap.stores import stores
    from tango.scheduling.guarantees import LcNodes, refuse_beyond

    here = stores()
    snapshot = here.fleet.snapshot(at_s=here.clock.now_s())
    if not snapshot.nodes:
        say("note: no cluster has joined yet, so that nobody can say whether the fleet has what is guaranteed")
        return
    refuse_beyond(declared, LcNodes.seen(snapshot, reserve_millicores=float(here.settings.sharing.reserve_millicores)))


@tenant.command(name="list")
@output_option()
def list_tenants(output: str) -> None:
    """List tenants: those that are declared, and those that have BE requests under way. Shares are those that the last placement saw, while
    several tenants have requests or one has a quota.

    \b
        tango tenant list
        tango tenant list -o json
    """
    print_rows(
        _rows(_tenants()), COLUMNS, output, empty="No tenant is declared and none has BE requests; `tango tenant apply -f FILE`"
    )


def _rows(store: TenantStore) -> list[dict[str, Any]]:
    from tango.domain.tenants import Tenant

    declared, uses, told = store.declared(), store.uses(), {s.tenant: s for s in store.told()}
    return [
        {
            "tenant": name,
            "weight": of.weight,
            "quota": of.shown_quota(),
            "most_jobs": of.most_jobs,
            "guarantee": of.shown_guarantee() or None,
            "waiting": sum(use.waiting for use in uses if use.tenant == name),
            "pods": sum(use.pods for use in uses if use.tenant == name),
            "share": None if seen is None else seen.share,
            "weighted_share": None if seen is None else seen.weighted_share,
            "below_s": None if seen is None else seen.below_s,
            "withheld": None if seen is None else seen.withheld,
            "is_declared": name in declared,
        }
        for name in sorted({*declared, *(use.tenant for use in uses)})
        for seen in (told.get(name),)
        for of in (declared.get(name, Tenant(name=name)),)
    ]


@tenant.command()
@click.argument("name", shell_complete=names.TENANTS)
@dry_run_option
@yes_option
def delete(name: str, dry_run: bool, yes: bool) -> None:
    """Withdraw the declaration of tenant NAME: it has the weight 1, no quota and no guarantee then. What it has goes on.

    \b
        tango tenant delete blue --dry-run
        tango tenant delete blue --yes
    """
    from tango.domain.near_names import near_name
    from tango.errors import UsageError

    store, what = _tenants(), f"withdraw weight, quota and guarantee of tenant {name}"
    if name not in (known := store.declared()):
        raise UsageError(f"tenant {name!r} is not declared{near_name(name, known)}; declared: {', '.join(known) or 'none'}")
    if dry_run:
        would(what)
        return
    require_yes(yes, what)
    store.delete(name)
    say(f"withdrawn: {name}")
