"""`tango policy`: list the policies that systems can be made of, begin one of your own, and check it before it decides anything."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tango.cli import names
from tango.cli.bounds import Real
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say
from tango.errors import UsageError

LIST_COLUMNS = (
    ListColumn("kind", priority=10),
    ListColumn("policy", priority=10),
    ListColumn("from", priority=8),
    ListColumn("systems", priority=6),
)

BE_TEMPLATE = '''"""A BE policy: places each pending request on a node, or leaves it waiting.

docs/policies.md of Tango says where all columns stand, and their units.
"""

import numpy as np

from tango.domain.plans import BePlan
from tango.domain.resource_axis import MEMORY


def {name}(pending, snapshot, settings):
    """`pending`: BePending, k requests; `snapshot`: FleetSnapshot, n nodes; gives a row of `snapshot.nodes` for each, or -1."""
    free = snapshot.free  # (resources, n), a new array: what no pod has asked for. It may be counted down here.
    node = np.full(len(pending), -1, np.int32)
    for k in range(len(pending)):
        asked = pending.requests[:, k : k + 1]
        fits = snapshot.node_ready & (free >= asked).all(axis=0)
        if fits.any():
            node[k] = int(np.argmax(np.where(fits, free[MEMORY], -np.inf)))  # the node with the most free memory
            free[:, node[k]] -= asked[:, 0]
    return BePlan(node=node, policy="{name}")
'''
LC_TEMPLATE = '''"""An LC policy: gives each arrived request an instance, or leaves it waiting.

docs/policies.md of Tango says where all columns stand, and their units.
"""

import numpy as np

from tango.domain.plans import LcPlan


def {name}(arrivals, snapshot, settings):
    """`arrivals`: LcArrivals, k requests; `snapshot`: FleetSnapshot, n nodes; gives a row of `snapshot.nodes` for each, or -1."""
    in_flight = snapshot.in_flight.copy()  # (services, n)
    node = np.full(len(arrivals), -1, np.int32)
    for k in range(len(arrivals)):
        service = arrivals.service[k]
        serves = snapshot.node_ready & (snapshot.instance_count[service] > 0)
        if serves.any():
            node[k] = int(np.argmin(np.where(serves, in_flight[service], np.inf)))  # fewest requests in flight
            in_flight[service, node[k]] += 1
    none = np.zeros(len(arrivals), bool)
    return LcPlan(node=node, late=none, shed=none, expected_s=np.zeros(len(arrivals)), policy="{name}")
'''


@click.group()
def policy() -> None:
    """List policies, begin one of your own, and check it. A policy is a function; `FILE.py:FUNCTION` is taken wherever one is named.

    \b
        tango policy new near_home --to place.py
        tango policy check place.py:near_home --be
    """


@policy.command(name="list")
@output_option()
def list_policies(output: str) -> None:
    """List LC policies, BE policies and sharing rules: built in, learned or of an installed package.

    \b
        tango policy list
    """
    from tango.scheduling.sharing_step import RULES
    from tango.systems import SYSTEMS, be_names, lc_names, origin

    rows = [
        {
            "kind": kind,
            "policy": name,
            "from": origin(kind, name),
            "systems": ", ".join(s.name for s in SYSTEMS.values() if getattr(s, kind) == name),
        }
        for kind, names in (("lc", lc_names()), ("be", be_names()), ("sharing", tuple(RULES)))
        for name in names
    ]
    print_rows(rows, LIST_COLUMNS, output)


@policy.command()
@click.argument("name")
@click.option("--lc", "is_lc", is_flag=True, help="An LC policy; without it a BE policy.")
@click.option("--to", "path", type=click.Path(path_type=Path), default=None, help="File to write; default: NAME.py.")
def new(name: str, is_lc: bool, path: Path | None) -> None:
    """Write a policy that works, with NAME as its function, to begin from. An existing file is never overwritten.

    \b
        tango policy new near_home --to place.py
        tango policy new nearest --lc --to dispatch.py
    """
    from tango.files import write_new

    if not name.isidentifier():
        raise UsageError(f"{name!r} cannot name a function, expected letters, digits and _, such as {_identifier(name)!r}")
    path = path or Path(f"{name}.py")
    if path.suffix != ".py":
        raise UsageError(f"{path} must end in .py")
    write_new(path, (LC_TEMPLATE if is_lc else BE_TEMPLATE).format(name=name))
    option = "--lc" if is_lc else "--be"
    click.echo(f"written: {path}", err=True)
    click.echo(f"check it: tango policy check {path}:{name} {'--lc' if is_lc else '--be'}", err=True)
    mix = f"{path}:{name}/load-greedy/burst" if is_lc else f"dss-lc/{path}:{name}/burst"
    click.echo(f"compare:  tango compare p3 --fleet testbed --systems tango,{mix} --seeds 5", err=True)
    click.echo(f"live:     tango run submit TRACE {option} {path}:{name} --follow", err=True)


def _identifier(name: str) -> str:
    cleaned = "".join(c if c.isalnum() and c.isascii() else "_" for c in name).strip("_")
    return cleaned if cleaned.isidentifier() else "my_policy"


@policy.command()
@click.argument("name", metavar="POLICY", shell_complete=names.POLICIES)
@click.option("--lc", "kind", flag_value="lc", help="It is an LC policy.")
@click.option("--be", "kind", flag_value="be", help="It is a BE policy.")
@click.option(
    "--fleet",
    "fleet_name",
    default="testbed",
    show_default=True,
    help="Fleet to try it on (name or file).",
    shell_complete=names.FLEETS,
)
@click.option("--duration", type=Real(1, 3600), default=20.0, show_default=True, help="Simulated seconds of arrivals.")
@output_option()
def check(name: str, kind: str | None, fleet_name: str, duration: float, output: str) -> None:
    """Let POLICY decide in a short simulation, where every plan is checked, and say how long its decisions take.

    POLICY is FILE.py:FUNCTION or a name from `tango policy list`. Fails with the rows and the line where a plan is wrong or it raises.

    \b
        tango policy check place.py:near_home --be
        tango policy check load-greedy --be --fleet paper
    """
    from tango.cli.progress import progress, slow_start
    from tango.cli.simulate import COMPILING
    from tango.experiments.policy_check import check_policy
    from tango.sim.warm import warm_up

    found = kind or _kind_of(name)
    with progress("Checking", total=100) as advance, slow_start(COMPILING) as moving:
        shown = 0.0

        def moved(share: float, _now_s: float) -> None:
            nonlocal shown
            moving()
            advance(100 * share - shown)
            shown = 100 * share

        warm_up()
        checked = check_policy(name, found, fleet_name, duration, progress=moved)
        moved(1.0, 0.0)
    print_mapping(asdict(checked), output)
    say("every plan could be carried out; a figure beside `yardstick` is that of `load-greedy` on the same requests")


def _kind_of(name: str) -> str:
    """Of a policy that has a name. Raises: UsageError for a file, or a name of both kinds, which say it by an option."""
    from tango.systems import be_names, lc_names

    kinds = [kind for kind, names in (("lc", lc_names()), ("be", be_names())) if name in names]
    if len(kinds) == 1:
        return kinds[0]
    raise UsageError(f"say whether {name!r} is to be checked as an LC or as a BE policy: --lc or --be")
