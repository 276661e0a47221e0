"""`tango demo`: start a stack, replay a minute of mixed requests on it, show the figures, do some real work, stop the stack.

The demo has a state folder of its own, so it can run beside a stack that is up. Its data is kept: the commands that the demo prints
at its end start the same stack again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from tango.cli.bounds import Real, Whole


@click.command()
@click.option("--duration", type=Real(1, 3600), default=60.0, show_default=True, help="Seconds of arrivals.")
@click.option("--rate", type=Real(0.1, 10_000), default=50.0, show_default=True, help="Requests per second.")
@click.option("--seed", type=Whole(min=0), default=9, show_default=True, help="Equal seeds give equal traces.")
def demo(duration: float, rate: float, seed: int) -> None:
    """Start everything, replay a minute of mixed requests on three clusters, show the result and some real work, stop everything.

    \b
        tango demo
        tango demo --duration 20 --rate 30
    """
    from tango.stack.state import state_home

    home = state_home(os.environ) / "demo"
    with demo_environment(home):
        from tango.cli.demo_real import show_real_work
        from tango.cli.stack import running_stack

        click.echo(
            f"Tango demo: 3 clusters of 4 nodes, about {rate * duration:.0f} requests in {duration:.0f} s. State: {home}", err=True
        )
        with running_stack(home=home, fleet=str(_fleet_of_processes(home))) as stack:
            report = replay_and_show(duration=duration, rate=rate, seed=seed)
            if stack is not None:
                show_real_work(next(iter(stack.gateways.values())), stack.token)
    click.echo(f"\nReport:  {report}\n")
    click.echo("Look closer (the demo's data is kept). In a shell prepared by")
    click.echo(f"  {preparation(home)}")
    click.echo("these go on from here:")
    for line in (
        "tango up --detach",
        "tango run list",
        'tango sql "SELECT * FROM service_qos"',
        "tango request greet --method POST --data you",
        "tango trace generate p3 --rate 50 --duration 60 --clusters 3 --lc-share 0.7 --seed 10 --out more.csv",
        "tango run submit more.csv --follow",
        "tango down",
    ):
        click.echo(f"  {line}")


def _fleet_of_processes(home: Path) -> Path:
    """The fleet `demo` in a file, with processes of this machine as pods of services that are real; the others stay modelled."""
    from dataclasses import replace

    from tango.domain.fleet import RunPods
    from tango.files import write_whole
    from tango.fleets import dump_fleet, load_fleet
    from tango.stack.state import private_folder

    path = private_folder(home) / "demo.yaml"
    write_whole(path, dump_fleet(replace(load_fleet("demo"), run=RunPods.PROCESSES, process_folder=str(home))).encode())
    return path


def preparation(home: Path) -> str:
    """Shell commands after which `tango` is on the PATH and uses the demo's state folder."""
    script = Path(sys.executable).parent / "activate"
    activate = "" if shutil.which("tango") or not script.exists() else f". {shlex.quote(os.path.relpath(script))}; "
    return f"{activate}export TANGO_HOME={shlex.quote(str(home))}"


@contextmanager
def demo_environment(home: Path) -> Iterator[None]:
    """Set TANGO_HOME and unset the addresses of other servers for the life of a block; both are restored after it."""
    from tango.stack.state import ADDRESS_VARIABLES

    kept = {name: os.environ.pop(name, None) for name in ADDRESS_VARIABLES}
    before = os.environ.get("TANGO_HOME")
    os.environ["TANGO_HOME"] = str(home)
    try:
        yield
    finally:
        for name, value in {**kept, "TANGO_HOME": before}.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def replay_and_show(*, duration: float, rate: float, seed: int) -> Path:
    """Generate the demo's trace, submit it, follow the run and print its figures; return the path of its report."""
    from tango.bootstrap.stores import stores
    from tango.cli.report import write_report
    from tango.cli.run import follow_run, show_run, submit_order
    from tango.control.cancel_run import cancel_active
    from tango.control.submit import RunOrder
    from tango.traces.generators import Recipe, generate
    from tango.traces.own_format import write_trace
    from tango.traces.reading import read_trace

    here = stores()
    # A demo that was interrupted left its run active, and the requests of that run would take CPU from this one's.
    cancel_active(here.runs)
    with tempfile.TemporaryDirectory(prefix="tango-demo-") as folder:
        path = Path(folder) / "demo.csv"
        recipe = Recipe(pattern="borg", rate_per_s=rate, duration_s=duration, clusters=3, lc_share=0.7, be_work_s=3.0, seed=seed)
        write_trace(generate(recipe), path)
        arrivals = read_trace([path]).trace
    run_id = submit_order(RunOrder(trace=arrivals, fleet=here.fleet.in_force(), system="tango", name="demo", seed=seed))
    follow_run(here, run_id, timeout_s=duration + 60.0)
    show_run(here, run_id, "table")
    return write_report(run_id, None)
