"""`tango live`: which system decides for what callers send, and the run that it goes into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.confirm import dry_run_option, would
from tango.cli.output import output_option, print_mapping, say
from tango.cli.workloads import named_system, part_options

if TYPE_CHECKING:
    from tango.domain.runs import LiveUse, RunInfo


@click.group()
def live() -> None:
    """Choose the system that decides for requests and jobs of callers.

    \b
        tango live show
        tango live use load-greedy
    """


@live.command()
@click.argument("system", metavar="SYSTEM", shell_complete=names.SYSTEMS)
@part_options
@click.option("--run", "run_name", default="", metavar="NAME", help="Name of the run that they go into; by default a run a day.")
@click.option("--reassure/--no-reassure", default=True, help="Whether LC instances are resized by their slack.")
@dry_run_option
@output_option()
def use(system: str, run_name: str, reassure: bool, dry_run: bool, output: str, **parts: Any) -> None:
    """Let SYSTEM decide from now on. The run that is open is closed, and what it has accepted is served in it; the next one is opened.

    SYSTEM is a system or a mix LC/BE/SHARING.

    \b
        tango live use tango --dry-run
        tango live use dss-lc/load-greedy/burst --run canary
    """
    from tango.bootstrap.stores import stores
    from tango.domain.runs import LiveUse

    chosen = LiveUse(system=named_system(system, parts).name, run_name=run_name, reassure=reassure)
    runs = stores().live_runs
    if dry_run:
        would(f"let {chosen.system} decide for what callers send, in place of {runs.use().system}")
        return
    before, now = runs.turn(), runs.set_use(chosen)
    if before is not None and before.run_id != now.run_id:
        say(f"run {before.run_id} ({before.system}) is closed: what it has accepted is served in it; run {now.run_id} is open")
    print_mapping(_told(chosen, now), output)


@live.command()
@output_option()
def show(output: str) -> None:
    """Show which system decides, and the run that is open.

    \b
        tango live show
    """
    from tango.bootstrap.stores import stores

    found = stores().live_runs
    print_mapping(_told(found.use(), found.turn()), output)


def _told(use: LiveUse, run: RunInfo | None) -> dict[str, object]:
    return {
        "system": use.system,
        "reassure": use.reassure,
        "run": run.run_id if run is not None else None,
        "name": run.name if run is not None else use.run_name or None,
        "accepted": run.accepted if run is not None else 0,
    }
