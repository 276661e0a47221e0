"""`tango up`, `status`, `down` and `env`: start, look at and stop the local stack.

`running_stack` is the same stack as a context manager, which `tango demo` and `tango bench` use.
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.output import ListColumn, output_option, print_mapping, print_rows, say
from tango.cli.progress import Advance, progress
from tango.files import usable

if TYPE_CHECKING:
    from tango.stack.state import StackInfo

STOP_WITHIN_S = 15.0
"""Seconds that `tango down` gives the supervisor after SIGTERM before SIGKILL."""
DETACHED_START_WITHIN_S = 700.0
"""Seconds until `tango up --detach` gives up. The supervisor does so earlier, when what it waits for does nothing any more."""
SLOW_START_S = 20.0
"""Seconds after which it is said what a start waits for."""
STATUS_COLUMNS = (
    ListColumn("name", priority=10),
    ListColumn("state", priority=9),
    ListColumn("role", priority=6),
    ListColumn("pid", justify="right", priority=7),
    ListColumn("restarts", justify="right", priority=8),
)

home_option = click.option(
    "--home", type=click.Path(file_okay=False, path_type=Path), help="State folder; TANGO_HOME where not given."
)


@click.command()
@click.option(
    "--fleet",
    help="A built-in fleet or a file. Default: the fleet in force in the state folder, else demo.",
    shell_complete=names.FLEETS,
)
@click.option(
    "--no-clusters", is_flag=True, help="A centre alone, without embedded clusters: real ones join with `tango cluster join`."
)
@click.option(
    "--simulators",
    type=Whole(min=0),
    default=1,
    show_default=True,
    help="Workers that simulate for `tango compare --on celery`; they give way to the live ones.",
)
@click.option(
    "--line-rtt-ms",
    type=Real(0, 60_000),
    help="Put an emulated line of this round-trip time between the centre and the clusters, each with a broker of its own.",
)
@click.option("--only", type=click.Choice(("store",)), help="The database alone, to look at runs of before.")
@click.option("--detach", is_flag=True, help="Return when everything is ready; `tango down` stops it.")
@home_option
def up(
    fleet: str | None,
    no_clusters: bool,
    simulators: int,
    line_rtt_ms: float | None,
    only: str | None,
    detach: bool,
    home: Path | None,
) -> None:
    """Start the local stack: database, broker, clusters, workers, scheduler. Ctrl-C stops it.

    \b
        tango up --detach
        tango up --detach --fleet my-fleet.yaml
        tango up --detach --only store      # enough for run list|show|compare, report, sql, simulate --run
    """
    home = _home(home)
    if only and (no_clusters or fleet or line_rtt_ms is not None):
        raise click.UsageError(f"--only {only} starts no clusters: leave --fleet, --no-clusters and --line-rtt-ms away")
    if no_clusters and (fleet or line_rtt_ms is not None):
        raise click.UsageError(
            "--no-clusters goes with neither --fleet nor --line-rtt-ms: there are no clusters to choose or to reach"
        )
    if detach:
        _start_detached(home, fleet, simulators, line_rtt_ms, no_clusters=no_clusters, only=only)
        _say_ready(home)
        return
    stopping = threading.Event()
    with (
        _signals_set(stopping),
        running_stack(
            home=home,
            fleet=fleet,
            has_clusters=not no_clusters,
            simulators=simulators,
            line_rtt_ms=line_rtt_ms,
            only_store=only == "store",
            interrupted=stopping,
        ),
    ):
        if not stopping.is_set():
            _say_ready(home)
            say("Ctrl-C stops it.")
        # Waits in slices: Python runs a signal's handler in the main thread, and there only between two calls that block.
        while not stopping.wait(0.5):
            pass
        say("Stopping…")


@click.command()
@home_option
@output_option()
def status(home: Path | None, output: str) -> int:
    """Show every process of the local stack, and agents and workers of clusters that joined it. Exits with 1 when no stack runs.

    A worker on a broker of its cluster's own is not seen from here.

    \b
        tango status
        tango status -o json | jq ".[] | select(.state != \"running\")"
    """
    from tango.stack.state import read_stack, supervisor_pid
    from tango.stack.supervisor import read_status

    home = _home(home)
    # The status file of a killed supervisor stays behind; only the lock tells whether what it says is true.
    alive = supervisor_pid(home) is not None
    rows = [*read_status(home)["processes"], *_joined(home)] if alive else []
    print_rows(rows, STATUS_COLUMNS, output, empty=f"No stack runs in {home}; start one with `tango up`.")
    if output in ("table", "wide") and (info := read_stack(home)) is not None and info.metrics_url:
        say(f"Metrics for Prometheus: {info.metrics_url}")
    return 0 if alive else 1


def _joined(home: Path) -> list[dict[str, Any]]:
    """Rows of what serves clusters that joined the stack in this folder; none where none did, or its database does not answer."""
    from tango.errors import StoreError, StoreUnavailable
    from tango.settings import Settings
    from tango.stack.state import read_stack
    from tango.store.database import Database
    from tango.store.fleet import PostgresFleetStore

    info = read_stack(home)
    if info is None or not info.ready:
        return []
    settings, database = Settings(broker_url=info.broker_url), Database(info.database_url)
    try:
        fleet = PostgresFleetStore(database, settings.sharing, settings.lease)
        joined = [row.name for row in fleet.clusters() if not row.embedded]
        if not joined:
            return []
        # Celery takes half a second, which a status without joined clusters does without.
        from workers.app import create_app
        from workers.joined import agents, answering, workers

        return [*agents(fleet.pictures(), joined), *workers(answering(create_app(settings)), joined)]
    except (StoreUnavailable, StoreError):
        return []
    finally:
        database.close()


@click.command()
@home_option
def down(home: Path | None) -> None:
    """Stop the local stack; data and logs stay.

    \b
        tango down
        tango up --detach --only store     # later: the history alone
    """
    from tango.errors import DependencyError
    from tango.stack.state import supervisor_pid

    home = _home(home)
    pid = supervisor_pid(home)
    if not pid:
        say(f"No stack runs in {home}.")
        return
    os.kill(pid, signal.SIGTERM)
    began_s = time.monotonic()
    while _is_alive(pid) and time.monotonic() - began_s < STOP_WITHIN_S:
        time.sleep(0.1)
    # The lock is asked again before SIGKILL: the supervisor may have ended meanwhile and its number belong to another process.
    if supervisor_pid(home) == pid:
        # No process of the stack is left behind: the kernel sends each its death signal when the supervisor dies (`stack/tether.py`).
        os.kill(pid, signal.SIGKILL)
        time.sleep(1.0)
    if _is_alive(pid):
        raise DependencyError(
            f"the supervisor, process {pid}, did not end on SIGTERM or SIGKILL; see {home / 'logs'} for what it does"
        )
    say("Stopped.")


@click.command()
@home_option
@click.option(
    "--cluster",
    help="Name the gateway of this cluster, and the broker on which its queues `lc` and `exec` are.",
    shell_complete=names.CLUSTERS,
)
@click.option("-o", "--output", type=click.Choice(["sh", "json"]), default="sh", show_default=True, help="How to print.")
def env(home: Path | None, cluster: str | None, output: str) -> None:
    """Print the settings with which celery, psql and Flower reach the stack: eval "$(tango env)". They hold passwords.

    \b
        eval "$(tango env)"
        celery -A workers.app inspect active_queues

    \b
        eval "$(tango env)"
        celery -A workers.app inspect active_queues
    """
    from tango.errors import DependencyError
    from tango.stack.state import read_stack

    home = _home(home)
    info = read_stack(home)
    if info is None:
        raise DependencyError(f"no stack runs in {home}; start one with `tango up --detach`")
    variables = stack_environment(home, info)
    if cluster is not None:
        broker_url = _broker_of(cluster, info)
        variables |= {"TANGO_BROKER_URL": broker_url, "CELERY_BROKER_URL": broker_url}
        variables |= {"TANGO_GATEWAY_URL": info.gateways[cluster]}
    if output == "json":
        print_mapping(variables, "json")
    else:
        for name, value in variables.items():
            click.echo(f"export {name}={shlex.quote(value)}")


@click.command()
@click.option(
    "--cluster", required=True, help="The cluster whose queues `lc` and `exec` the page is to show.", shell_complete=names.CLUSTERS
)
@click.option("--port", type=Whole(0, 65535), default=0, show_default=True, help="TCP port on 127.0.0.1; 0: any free port.")
@home_option
def flower(cluster: str, port: int, home: Path | None) -> None:
    """Show the workers of a cluster that has a broker of its own: run a Flower for it in the foreground, until Ctrl-C.

    The login is that of the stack's own Flower, which shows the clusters that share the stack's broker.

    \b
        tango flower --cluster c2
        tango flower --cluster c2 --port 5556
    """
    from tango.errors import DependencyError
    from tango.stack.broker import HOST, free_port
    from tango.stack.processes import flower_program
    from tango.stack.state import read_stack

    home = _home(home)
    info = read_stack(home)
    if info is None:
        raise DependencyError(f"no stack runs in {home}; start one with `tango up --detach`")
    broker_url = _broker_of(cluster, info)
    if broker_url == info.broker_url:
        say(f"{cluster} shares the stack's broker, so the stack's Flower shows it: {info.flower_url} (login: `tango env`)")
        return
    free = free_port(port)
    if port not in (0, free):
        raise DependencyError(f"port {port} on {HOST} is in use; choose another --port")
    say(f"Flower of {cluster}: http://{HOST}:{free} (login: `tango env`). Ctrl-C stops it.")
    variables = stack_environment(home, info) | {"TANGO_BROKER_URL": broker_url, "CELERY_BROKER_URL": broker_url}
    os.execve(sys.executable, [sys.executable, "-m", *flower_program(free)], {**os.environ, **variables})


@click.command()
@click.option("--mode", type=click.Choice(["open", "stall", "swallow", "cut"]), help="What becomes of what goes over it.")
@click.option("--rtt-ms", type=Real(0, 60_000), help="Its round-trip time.")
@click.option("--mbit", type=Real(0, 1e6), help="Its bandwidth in Mbit/s; 0: without a limit.")
@home_option
@output_option()
def line(mode: str | None, rtt_ms: float | None, mbit: float | None, home: Path | None, output: str) -> None:
    """Change how the emulated line of `tango up --line-rtt-ms` behaves, and show it.

    `cut` resets every connection, `stall` holds what is sent until the line is open again, `swallow` drops it without a word.

    \b
        tango line --rtt-ms 60           # as of a stack started with `tango up --line-rtt-ms 30`
        tango line --mode cut            # and `--mode open` again
    """
    import dataclasses

    from tango.domain.line import LineMode, LineState
    from tango.errors import UsageError
    from tango.files import write_whole
    from tango.stack.home import line_file
    from tango.stack.state import read_stack

    home = _home(home)
    info = read_stack(home)
    if info is None or not info.cluster_brokers:
        raise UsageError(f"no stack with a line runs in {home}; start one with `tango up --line-rtt-ms 60`")
    state = LineState.of_text(line_file(home).read_text())
    state = LineState(
        mode=state.mode if mode is None else LineMode(mode),
        rtt_ms=state.rtt_ms if rtt_ms is None else rtt_ms,
        mbit_per_s=state.mbit_per_s if mbit is None else mbit,
    )
    write_whole(line_file(home), state.as_text())
    print_mapping(dataclasses.asdict(state), output)


def _broker_of(cluster: str, info: StackInfo) -> str:
    """The URL of a cluster's broker. Raises: UsageError for a cluster that the stack does not have."""
    from tango.domain.near_names import near_name
    from tango.errors import UsageError
    from tango.fleets import load_fleet

    known = [c.name for c in load_fleet(info.fleet_file).clusters] if info.fleet_file else []
    if cluster not in known:
        raise UsageError(
            f"this stack has no cluster of its own {cluster!r}{near_name(cluster, known)}; it has: {', '.join(known) or 'none'}"
        )
    return info.cluster_brokers.get(cluster, info.broker_url)


def stack_environment(home: Path, info: StackInfo) -> dict[str, str]:
    """Environment variables by which Tango, Celery, psql and clients of Flower reach a running stack; those without a value are left out.

    The values hold passwords.
    """
    variables = {
        "TANGO_HOME": str(home),
        "TANGO_DATABASE_URL": info.database_url,
        "TANGO_READER_URL": info.reader_url,
        "TANGO_BROKER_URL": info.broker_url,
        "TANGO_KUBECONFIG": info.kubeconfig,
        "TANGO_CALL_KEY": info.call_key,
        "CELERY_BROKER_URL": info.broker_url,
        "TANGO_GATEWAY_URL": next(iter(info.gateways.values()), ""),
        "TANGO_TOKEN": info.token,
        "FLOWER_URL": info.flower_url,
        "TANGO_CONSOLE_URL": info.console_url,
        "TANGO_CONSOLE_TOKEN": info.console_token,
        "TANGO_METRICS_URL": info.metrics_url,
        "FLOWER_BASIC_AUTH": f"{info.flower_user}:{info.flower_password}",
    }
    return {name: value for name, value in variables.items() if value}


@contextmanager
def running_stack(
    *,
    home: Path,
    fleet: str | None,
    has_clusters: bool = True,
    simulators: int = 0,
    line_rtt_ms: float | None = None,
    only_store: bool = False,
    interrupted: threading.Event | None = None,
) -> Iterator[StackInfo | None]:
    """A context manager that starts the stack, yields when all its processes are ready, and stops it however the block ends.

    If `interrupted` is set while the stack starts, the start ends early and the block gets None. Raises: TangoError with the end of
    the log of a process that does not start; ConfigError for a `TANGO_*` variable that is wrong.
    """
    from tango.bootstrap.environment import configure_logging, read_settings
    from tango.stack.home import fleet_to_start
    from tango.stack.local import LocalStack

    configure_logging(logging.WARNING)  # else what the supervisor survives would stand among results, on standard output

    settings = read_settings()  # every process reads them: a mistake is told here, and not in the logs of all
    chosen = fleet_to_start(home, fleet) if has_clusters and not only_store else None
    over = threading.Event()
    with progress("Starting the stack", unit="processes") as advance:
        stack = LocalStack(
            home,
            chosen,
            environment=os.environ,
            simulators=simulators,
            line_rtt_ms=line_rtt_ms,
            only_store=only_store,
            metrics=settings.metrics,
            progressed=_advancing(advance, over),
        )
        try:
            info = _started(stack.start, interrupted)
        except BaseException:
            over.set()
            stack.stop()
            raise
        over.set()
    try:
        yield info
    finally:
        stack.stop()


def _started(start: Callable[[], StackInfo], interrupted: threading.Event | None) -> StackInfo | None:
    """Call `start` and return its result; return None as soon as `interrupted` is set.

    `start` runs in a thread of its own, because it waits for processes and would keep the main thread from seeing a signal.
    """
    if interrupted is None:
        return start()
    found: list[StackInfo] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            found.append(start())
        except BaseException as error:  # handed to the waiting thread
            failures.append(error)

    starting = threading.Thread(target=run, name="start", daemon=True)
    starting.start()
    while starting.is_alive() and not interrupted.is_set():
        starting.join(0.1)
    if failures and not interrupted.is_set():
        raise failures[0]
    return found[0] if found else None


def _advancing(advance: Advance, over: threading.Event) -> Callable[[int, int], None]:
    """A callback (ready, expected) that moves a progress bar; it does nothing once `over` is set, when the bar may be gone."""
    shown = 0

    def progressed(ready: int, expected: int) -> None:
        nonlocal shown
        if over.is_set():
            return
        advance(float(ready - shown), total=float(expected))
        shown = ready

    return progressed


@contextmanager
def _signals_set(event: threading.Event) -> Iterator[None]:
    """While the block runs, SIGINT, SIGTERM and SIGHUP set the event instead of ending the process; later signals change nothing."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {signum: signal.signal(signum, lambda *_: event.set()) for signum in watched}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _start_detached(
    home: Path, fleet: str | None, simulators: int, line_rtt_ms: float | None, *, no_clusters: bool, only: str | None
) -> None:
    """Start `tango up` as a process in a session of its own and wait until its stack is ready.

    Raises: TangoError of the kind that the child's exit status names, with the end of its log.
    """
    from tango.bootstrap.environment import read_settings
    from tango.errors import DependencyError, TangoError, UsageError
    from tango.stack.home import fleet_to_start, prepare_home, require_linux
    from tango.stack.state import private_folder, read_stack, supervisor_pid
    from tango.stack.supervisor import read_status

    # Checked here as well as in the child, so that a mistake is reported at once and not out of a log.
    require_linux()
    read_settings()
    if not no_clusters and not only:
        fleet_to_start(home, fleet)
    if supervisor_pid(home) is not None:
        raise UsageError(f"a stack is already running in {home}; see `tango status`, stop it with `tango down`")
    log_path = private_folder(prepare_home(home) / "logs") / "supervisor.log"
    # By interpreter and module: the console script `tango` need not be on the PATH of whoever called this one by its path.
    command = [
        sys.executable,
        "-c",
        "from tango.cli.main import run; run()",
        "up",
        "--home",
        str(home),
        "--simulators",
        str(simulators),
    ]
    command += ["--fleet", fleet] if fleet else []
    command += ["--no-clusters"] if no_clusters else []
    command += ["--only", only] if only else []
    command += ["--line-rtt-ms", str(line_rtt_ms)] if line_rtt_ms is not None else []
    with usable(log_path):
        descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    # In a session of its own the supervisor survives the terminal: neither its hangup nor Ctrl-C reaches it.
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, start_new_session=True)
    finally:
        os.close(descriptor)
    began_s = time.monotonic()
    deadline_s, told_slow = began_s + DETACHED_START_WITHIN_S, False
    try:
        with progress("Starting the stack", unit="processes") as advance:
            told = _advancing(advance, threading.Event())
            while not _is_ready(read_stack(home), child.pid):
                found = read_status(home)
                if child.poll() is not None:
                    kind = {2: UsageError, 4: DependencyError}.get(child.returncode or 0, TangoError)
                    raise kind(f"the stack did not start:\n{_last_words(log_path)}")
                if time.monotonic() > deadline_s:
                    said = _last_words(log_path)
                    raise TangoError(f"the stack was not ready within {DETACHED_START_WITHIN_S:.0f} s; end of {log_path}:\n{said}")
                told(_count_running(found), int(found["expected"]))
                if not told_slow and time.monotonic() - began_s > SLOW_START_S:
                    told_slow = True
                    if slow := [row["name"] for row in found["processes"] if row["state"] == "starting"]:
                        say(f"still starting: {', '.join(slow)}; workers compile at their first start, and after an update")
                time.sleep(0.1)
    except BaseException:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                child.kill()
        raise


def _is_ready(info: StackInfo | None, pid: int) -> bool:
    return info is not None and info.ready and info.supervisor_pid == pid


def _is_alive(pid: int) -> bool:
    """Whether a process runs. A zombie does not: `os.kill(pid, 0)` would find it until its parent waits for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _count_running(found: dict[str, Any]) -> int:
    return sum(row["state"] == "running" for row in found["processes"])


def _last_words(path: Path) -> str:
    """The last 40 lines of a log without those of the progress display."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(line for line in lines[-40:] if not line.startswith("Starting the stack"))


def _say_ready(home: Path) -> None:
    from tango.stack.state import read_stack

    info = read_stack(home)
    if info is not None and not info.broker_url:
        say(
            f"The database of {home} is up, and nothing else: runs can be listed, shown, reported, queried and simulated, not submitted."
        )
    elif info is not None:
        say(f"Tango is up. State: {home}. Flower: {info.flower_url} (login: `tango env`). Submit with `tango run submit FILE`.")
        for cluster, url in info.gateways.items():
            say(f"Gateway of {cluster}: {url} (token: `tango env`).")
        say(f"Console: {info.console_url} (`tango console` prints an address that logs in).")
        say(f"Metrics for Prometheus: {info.metrics_url}")


def _home(named: Path | None) -> Path:
    from tango.stack.state import state_home

    return named.expanduser().absolute() if named else state_home(os.environ)
