"""The table of a stack's processes: the command of each, what must be ready before it, and its readiness check. Starts nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tango.progress import HEALTH_DIR
from tango.stack.tether import tethered
from tango.telemetry import METRICS_DIR

CELERY = ("celery", "-A", "workers.app")
QUIET = ("--without-gossip", "--without-mingle", "--heartbeat-interval", "10", "-l", "warning")
"""Options of every Celery worker: no gossip and no sync between workers, which Tango does not use, a sign of life for Flower every 10 s
instead of 2, and no log line for each task."""
WORKERS_FOR_EACH_HOST = 2
"""Cluster workers that consume the same queues, so that one which dies or hangs leaves them to the other."""
FLOWER_LOGIN = "FLOWER_BASIC_AUTH"
"""Environment variable by which Flower learns user:password."""
CONSOLE_TOKEN = "TANGO_CONSOLE_TOKEN"
"""Environment variable by which the console learns what people log in with."""
FORK_SERVER = ("workers.fork_server",)
"""The module that starts all others (`tango.stack.forking`)."""
READY_FILE = "TANGO_READY_FILE"
"""Environment variable with a path: the process creates that file when it can take work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process of a stack.

    It is ready when it is alive and each check that it names holds: its probe, its port, its ready file. One that names none is
    ready once it has lived for half a second.
    """

    name: str
    role: str
    command: Callable[[], Sequence[str]] = field(repr=False)
    """Returns the tethered command; called at every start, in the supervisor's thread (see `tether`)."""
    program: tuple[str, ...] = ()
    """A Python module and its arguments, which do the same as `command`: with a fork server, the process is one of its forks."""
    after: tuple[str, ...] = ()
    """Processes that must be ready before this one starts."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    prepare: Callable[[], None] | None = None
    """Called in a thread before every start, also before a restart, so it must be idempotent."""
    probe: Callable[[], bool] | None = None
    """Called in a thread every 0.1 s until it returns True; must return within seconds, since nothing else bounds it."""
    port: int = 0
    """A TCP port on 127.0.0.1 that accepts connections once the process is ready; 0: none."""
    ready_file: Path | None = None
    """A file that the process creates when it is ready; deleted before every start."""
    health: Path | None = None
    """A folder in which the process tells that it gets on (`tango.progress`); emptied before every start. One that hangs is ended."""
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 2.0
    """Seconds from the stop signal to SIGKILL."""
    work_folder: Path = Path("/")
    layer: int = 0
    """Order of stopping, highest first: 2 for workers, agents, kubelets and the like, 1 for API servers, 0 for database and broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlaces:
    """One embedded cluster: the ports of its API server and its gateway on 127.0.0.1, its token file, the folders of its data and of its
    pods' files."""

    name: str
    port: int
    token_file: Path
    data: Path
    pods: Path
    gateway_port: int
    """Port of its gateway on 127.0.0.1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlaces:
    """The emulated line between the clusters and the centre: its port on 127.0.0.1, what lies behind, and the file of its state."""

    port: int
    target: str
    """Path of a UNIX socket, or HOST:PORT."""
    state_file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the table of processes depends on: folders, clusters, ports, logins."""

    home: Path
    clusters: tuple[ClusterPlaces, ...]
    fleet_file: Path
    kubeconfig: Path
    flower_port: int
    flower_login: str = field(repr=False)
    """user:password"""
    environment: Mapping[str, str] = field(repr=False)
    """Environment variables that every process of the table gets, over those of the supervisor."""
    line: LinePlaces | None = None
    """The emulated line to the centre; None: the clusters are where the centre is, and share its broker."""
    cluster_environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict, repr=False)
    """Further variables of the agent and the worker of a cluster, by its name."""
    simulators: int = 0
    """Number of workers that compute cells of comparisons; each simulates one cell at a time."""
    console_port: int = 0
    """Where people reach the console on 127.0.0.1; 0: nowhere."""
    console_token: str = field(default="", repr=False)
    """What they log in with."""
    metrics_port: int = 0
    """Where the figures of all processes are served; 0: nowhere."""
    metrics_host: str = "127.0.0.1"

    @property
    def hosts(self) -> dict[str, tuple[str, ...]]:
        """Where the processes of clusters run: what is added to their names, and the clusters that they serve there.

        Without a line that is one host, and the same processes serve all clusters; none where the stack has no clusters.
        """
        if not self.clusters:
            return {}
        names = tuple(c.name for c in self.clusters)
        return {"": names} if self.line is None else {f"-{name}": (name,) for name in names}


def application_processes(layout: Layout) -> list[ProcessSpec]:
    """All processes but database and broker, in the order of `tango status`. Those two must be ready before any of these start."""
    run = layout.home / "run"

    def spec(
        name: str,
        role: str,
        *program: str,
        after: tuple[str, ...] = (),
        port: int = 0,
        ready_file: bool = False,
        tells: bool = True,
        extra: Mapping[str, str] = MappingProxyType({}),
        stop_within_s: float = 2.0,
        layer: int = 2,
    ) -> ProcessSpec:
        path = run / f"{name}.ready" if ready_file else None
        # A folder for each: two agents of one stack would write the same file.
        health = run / "health" / name if tells else None
        told = {READY_FILE: path, HEALTH_DIR: health, METRICS_DIR: metrics_folder(layout.home)}
        environment = {**layout.environment, **extra, **{variable: str(place) for variable, place in told.items() if place}}
        return ProcessSpec(
            name=name,
            role=role,
            command=lambda: tethered((sys.executable, "-m", *program)),
            program=program,
            environment=environment,
            ready_file=path,
            health=health,
            stop_within_s=stop_within_s,
            work_folder=layout.home,
            after=after,
            port=port,
            layer=layer,
        )

    def worker(
        name: str, role: str, queues: str, concurrency: int, *, extra: Mapping[str, str] = MappingProxyType({})
    ) -> ProcessSpec:
        options = ("-n", f"{name}@%h", "-Q", queues, "--pool", "threads", "--concurrency", str(concurrency), *QUIET)
        # Longer than other processes: LC calls in flight may still be settled. The lease of any other request expires, and it runs again.
        return spec(name, role, *CELERY, "worker", *options, ready_file=True, extra=extra, stop_within_s=5.0)

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return (f"workers.{name}", *arguments)

    found: list[ProcessSpec] = []
    if layout.line is not None:
        door = ("--door", f"{layout.line.port}={layout.line.target}", "--state", str(layout.line.state_file))
        found.append(spec("line", "line to the centre", *module("line", *door), ready_file=True, layer=1))
    places = {c.name: c for c in layout.clusters}
    for suffix, served in layout.hosts.items():
        command = module("api_server", *(word for name in served for word in _api_server(places[name])))
        found.append(spec(f"apiserver{suffix}", "api server", *command, ready_file=True, layer=1))
    for suffix, served in layout.hosts.items():
        where = ("--kubeconfig", str(layout.kubeconfig), "--fleet", str(layout.fleet_file))
        command = module("virtual_kubelet", *where, *(word for name in served for word in _kubelet(places[name])))
        found.append(spec(f"kubelet{suffix}", "virtual kubelet", *command, after=(f"apiserver{suffix}",)))
    for suffix, served in layout.hosts.items():
        command = module("cluster_agent", *(word for name in served for word in ("--cluster", name)))
        needed = (f"apiserver{suffix}", *(("line",) if layout.line else ()))
        extra = layout.cluster_environment.get(served[0], {})
        found.append(spec(f"agent{suffix}", "cluster agent", *command, after=needed, extra=extra))
    for suffix, served in layout.hosts.items():
        queues = ",".join(f"{kind}.{name}" for name in served for kind in ("lc", "exec"))
        extra = layout.cluster_environment.get(served[0], {})
        found += [
            worker(f"worker{suffix}-{k}", "cluster worker", queues, 8, extra=extra) for k in range(1, WORKERS_FOR_EACH_HOST + 1)
        ]
    for suffix, served in layout.hosts.items():
        command = module(
            "gateway", *(word for name in served for word in ("--cluster", name, "--port", str(places[name].gateway_port)))
        )
        extra = layout.cluster_environment.get(served[0], {})
        # Longer than other processes: callers who wait get their answers.
        found.append(spec(f"gateway{suffix}", "gateway", *command, ready_file=True, extra=extra, stop_within_s=6.0))
    found.append(worker("scheduler", "scheduler worker", "control", 4))
    found.append(worker("replayer", "replay worker", "replay", 4))
    for name in ("simulator", *(f"simulator-{k}" for k in range(2, layout.simulators + 1)))[: layout.simulators]:
        # The pool `solo` computes in the worker's own process: a forked child would survive a SIGKILL of its parent and compute on.
        options = ("-n", f"{name}@%h", "-Q", "simulate", "--pool", "solo", *QUIET)
        found.append(spec(name, "simulation worker", *CELERY, "worker", *options, ready_file=True))
    found.append(spec("beat", "periodic ticks", *CELERY, "beat", "-l", "warning"))
    login = {FLOWER_LOGIN: layout.flower_login}
    found.append(
        spec("flower", "monitoring page", *flower_program(layout.flower_port), extra=login, port=layout.flower_port, tells=False)
    )
    if layout.console_port:
        token = {CONSOLE_TOKEN: layout.console_token}
        found.append(
            spec("console", "console", *module("console", "--port", str(layout.console_port)), ready_file=True, extra=token)
        )
    if layout.metrics_port:
        where = ("--host", layout.metrics_host, "--port", str(layout.metrics_port))
        found.append(spec("metrics", "metrics", *module("metrics", *where), ready_file=True))
    return found


def metrics_folder(home: Path) -> Path:
    """Where the processes of a stack count; emptied when it starts, so that counters begin with it."""
    return home / "run" / "metrics"


def _api_server(place: ClusterPlaces) -> tuple[str, ...]:
    files = ("--token-file", str(place.token_file), "--data-dir", str(place.data), "--pods-dir", str(place.pods))
    return ("--cluster", place.name, "--port", str(place.port), *files)


def _kubelet(place: ClusterPlaces) -> tuple[str, ...]:
    return ("--cluster", place.name, "--context", f"{place.name}-kubelet", "--pods-dir", str(place.pods))


def flower_program(port: int) -> tuple[str, ...]:
    """The module, with its arguments, of a Flower on this port of 127.0.0.1.

    Broker and login come from its environment, which other users cannot read.
    """
    return ("workers.flower_page", "--address=127.0.0.1", f"--port={port}", "--read_only=True")
