"""`tango doctor`: what is wrong with this installation, and what to do."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tango.cli.output import ListColumn, output_option, print_rows, say
from tango.cli.progress import spinner
from tango.cli.stack import home_option

if TYPE_CHECKING:
    from tango.bootstrap.stores import Stores
    from tango.domain.findings import BrokerFacts, CheckpointFacts, ClusterFacts, Facts, HostFacts, ServiceFacts
    from tango.settings import Settings

COLUMNS = (
    ListColumn("level", priority=9),
    ListColumn("check", priority=7),
    ListColumn("found", priority=10),
    ListColumn("what_to_do", title="what to do", priority=8),
)
CLUSTER_WITHIN_S = 10.0
"""Seconds that one API server has for all of its checks; the clusters are asked at the same time."""


@click.command()
@click.option("--no-clusters", is_flag=True, help="Do not ask the clusters' API servers.")
@home_option
@output_option()
def doctor(no_clusters: bool, home: Path | None, output: str) -> int:
    """Look at host, database, broker, clusters, services and network, and say what is wrong and what to do. Changes nothing.

    Exits with 1 where something does not work; what only surprises is a note.

    \\b
        tango doctor
        tango doctor -o json
    """
    from tango.control.doctor import diagnose
    from tango.domain.findings import Level

    with spinner("looking"):
        facts = _facts(home, ask_clusters=not no_clusters)
    found = diagnose(facts)
    rows = [{"level": f.level.name.lower(), "check": f.check, "found": f.found, "what_to_do": f.remedy} for f in found]
    print_rows(rows, COLUMNS, output, empty="Nothing is wrong here.")
    if output == "table" and found:
        problems = sum(f.level is Level.PROBLEM for f in found)
        say(f"{problems} problems, {len(found) - problems} notes")
    return int(any(f.level is Level.PROBLEM for f in found))


def _facts(home: Path | None, *, ask_clusters: bool) -> Facts:
    from tango.bootstrap.environment import read_settings
    from tango.bootstrap.stores import Stores
    from tango.domain.findings import Facts
    from tango.errors import StoreError, StoreUnavailable
    from tango.store.health import database_facts, lease_times
    from tango.store.schema import newest_revision

    settings = read_settings({**os.environ, "TANGO_HOME": str(home.expanduser().absolute())} if home else None)
    host, database = _host(home), database_facts(settings.database_url)
    if database.failure or database.revision != newest_revision():
        return Facts(host=host, database=database)
    here = Stores(settings)
    try:
        clusters = here.fleet.clusters()
        names = [cluster.name for cluster in clusters]
        return Facts(
            host=host,
            database=database,
            broker=_broker(settings, names),
            clusters=_clusters(here, ask=ask_clusters),
            services=_services(here),
            guarantees=_guarantees(here),
            checkpoint=_checkpoint(here),
            open_runs=len(here.runs.active_runs()),
            holders=lease_times(here.database),
        )
    except (StoreUnavailable, StoreError) as error:  # it went away meanwhile
        return Facts(host=host, database=dataclasses.replace(database, failure=str(error)))
    finally:
        here.database.close()


def _host(home: Path | None) -> HostFacts:
    import shutil

    from tango.domain.findings import HostFacts
    from tango.stack.state import state_home, supervisor_pid
    from tango.stack.supervisor import read_status

    home = home.expanduser().absolute() if home else state_home(os.environ)
    there = next(path for path in (home, *home.parents) if path.exists())
    disk = shutil.disk_usage(there)
    stack = None
    if home.is_dir() and supervisor_pid(home) is not None:
        stack = {row["name"]: row["state"] for row in read_status(home)["processes"]}
    return HostFacts(
        home=str(home),
        free_bytes=disk.free,
        size_bytes=disk.total,
        cores=len(os.sched_getaffinity(0)),
        load=os.getloadavg()[0],
        stack=stack,
        unlocked=_unlocked(),
    )


def _unlocked() -> tuple[str, ...]:
    """Packages whose releases the metadata of Tango does not allow, in words."""
    from importlib.metadata import PackageNotFoundError, requires, version

    from packaging.requirements import Requirement

    found = []
    try:
        wanted = [Requirement(line) for line in requires("tango") or ()]
    except PackageNotFoundError:  # run from its sources
        return ()
    for one in wanted:
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        try:
            has = version(one.name)
        except PackageNotFoundError:
            found.append(f"{one.name} is not installed")
            continue
        if not one.specifier.contains(has, prereleases=True):
            found.append(f"{one.name} {has} (expected {one.specifier})")
    return tuple(found)


def _broker(settings: Settings, clusters: list[str]) -> BrokerFacts:
    from tango.domain.findings import BrokerFacts
    from workers.app import create_app
    from workers.broker_health import broker_facts

    if not settings.broker_url:
        return BrokerFacts(failure="no broker is known: the database alone runs")
    return broker_facts(create_app(settings), clusters)


def _clusters(here: Stores, *, ask: bool) -> tuple[ClusterFacts, ...]:
    from tango.domain.findings import ClusterFacts

    pauses = here.refusals.pauses()
    lost = {gap.cluster: gap.missing for gap in here.shares.gaps()}
    found = [
        ClusterFacts(
            name=picture.cluster,
            picture_age_s=picture.age_s,
            agent_age_s=picture.agent_age_s,
            is_away=picture.is_away,
            nodes=picture.nodes,
            ready=picture.ready,
            lost_events=lost.get(picture.cluster, 0),
            refusals=tuple(f"{state.kind}: {state.words}" for state in pauses.of(picture.cluster)),
        )
        for picture in here.fleet.pictures()
    ]
    if not ask or not found:
        return tuple(found)
    services = here.fleet.services()

    async def asked(cluster: ClusterFacts) -> ClusterFacts:
        from tango.errors import TangoError
        from tango.kube.joining import look_over

        path, context = here.fleet.credentials(cluster.name)
        try:
            async with asyncio.timeout(CLUSTER_WITHIN_S):
                facts = await look_over(
                    cluster.name,
                    kubeconfig=path,
                    context=context,
                    settings=here.settings.kube,
                    services=services,
                    make_namespace=False,
                )
        except TimeoutError:
            return dataclasses.replace(cluster, failure=f"its API server took longer than {CLUSTER_WITHIN_S:.0f} s to answer")
        except TangoError as error:
            return dataclasses.replace(cluster, failure=str(error))
        return dataclasses.replace(
            cluster,
            forbidden=tuple((f"{f.what}: {f.refused}", f.remedy or f"tango cluster check {cluster.name}") for f in facts.missing),
        )

    async def all_asked() -> list[ClusterFacts]:
        return list(await asyncio.gather(*(asked(cluster) for cluster in found)))

    return tuple(asyncio.run(all_asked()))


def _services(here: Stores) -> tuple[ServiceFacts, ...]:
    from tango.domain.findings import ServiceFacts
    from tango.domain.services import ServiceClass

    instances = here.fleet.instances()
    return tuple(
        ServiceFacts(
            name=service.name,
            instances=sum(state.service == service.name for _, state in instances),
            ready=sum(state.service == service.name and state.ready for _, state in instances),
        )
        for service in here.fleet.services()
        if service.service_class is ServiceClass.LC
    )


def _guarantees(here: Stores) -> str:
    """What tenants are guaranteed and the fleet cannot keep: it was not so when that was declared."""
    from tango.errors import RequestRejected
    from tango.scheduling.guarantees import LcNodes, refuse_beyond

    declared = here.tenants.declared()
    if all(tenant.guarantee is None for tenant in declared.values()):
        return ""
    snapshot = here.fleet.snapshot(at_s=here.clock.now_s())
    try:
        refuse_beyond(declared, LcNodes.seen(snapshot, reserve_millicores=float(here.settings.sharing.reserve_millicores)))
    except RequestRejected as error:
        return str(error)
    return ""


def _checkpoint(here: Stores) -> CheckpointFacts:
    from tango.domain.findings import CheckpointFacts
    from tango.learning.shipped import shipped_path

    roles = here.checkpoints.roles()
    live = next((c for c in here.checkpoints.registered() if c.digest == roles.live), None)
    own, failure = Path(here.settings.checkpoint) if here.settings.checkpoint else shipped_path(), ""
    try:  # not read as a network: torch takes seconds, and the scheduler says what it cannot use
        own.open("rb").close()
    except OSError as error:
        failure = f"the checkpoint {own} cannot be read: {error.strerror or error}"
    return CheckpointFacts(live=live.name if live else "", refused=live.refused if live else "", own_failure=failure)
