"""`tango node`: the nodes of all clusters as they are known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from tango.cli import names
from tango.cli.output import ListColumn, output_option, print_rows, share

COLUMNS = (
    ListColumn("cluster", priority=10),
    ListColumn("node", priority=10),
    ListColumn("ready", priority=9),
    ListColumn("open", priority=8),
    ListColumn("be_waits", title="no BE", priority=9),
    ListColumn("cpu_used_millicores", title="CPU used", justify="right", priority=6),
    ListColumn("cpu_allocatable_millicores", title="CPU", justify="right", priority=7),
    ListColumn("memory_used_mib", title="MiB used", justify="right", priority=4),
    ListColumn("memory_allocatable_mib", title="MiB", justify="right", priority=5),
    ListColumn("lc_pods", title="LC", justify="right", priority=5),
    ListColumn("be_pods", title="BE", justify="right", priority=5),
    ListColumn("other_pods", title="others", justify="right", priority=2),
    ListColumn("lc_cpu_pressure", title="LC lacks CPU", show=share, justify="right", priority=7),
    ListColumn("lc_throttled", title="quota used up", show=share, justify="right", priority=3),
    ListColumn("memory_pressure", title="memory short", show=share, justify="right", priority=6),
)


@click.group()
def node() -> None:
    """The nodes of all clusters as they are known.

    \b
        tango node list --cluster c1
    """


@node.command(name="list")
@click.option("--cluster", "of", metavar="NAME", help="Only nodes of this cluster.", shell_complete=names.CLUSTERS)
@output_option()
def list_nodes(of: str | None, output: str) -> None:
    """List nodes: what they have, what is used of it, and what their node agents tell of pressure.

    `open`: whether it may get new pods. `no BE`: it gets no BE by what its agent tells: LC there lacks CPU that others have, or memory is
    short. The last three columns are shares of time, means over ten seconds; empty where no node agent runs.

    \b
        tango node list
        tango node list --cluster c1 -o json
    """
    from tango.bootstrap.stores import stores
    from tango.errors import UsageError

    here = stores()
    found = here.fleet.nodes()
    if of is not None and of not in {row.name for row in here.fleet.clusters()}:
        raise UsageError(f"there is no cluster {of}; see `tango cluster list`")
    limits = here.settings.node_agent
    rows: list[Mapping[str, Any]] = [
        {
            "cluster": cluster,
            "node": state.name,
            "ready": state.ready,
            "open": state.schedulable,
            "be_waits": state.presses_be(cpu=limits.cpu_pressure_high, memory=limits.memory_pressure_high),
            **{column.key: getattr(state, column.key) for column in COLUMNS[5:]},
        }
        for cluster, state in found
        if of in (None, cluster)
    ]
    print_rows(rows, COLUMNS, output)
