"""The table of a stack's processes: what each runs, after what, and how it is known to be ready. Pure; starts nothing."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from tango.stack.tether import tethered

CELERY = (sys.executable, "-m", "celery", "-A", "workers.app")
QUIET = ("--without-gossip", "--without-mingle", "-l", "warning")
"""Workers do not talk to each other; a line per task would be most of the log."""
READY_FILE = "TANGO_READY_FILE"
"""Environment variable: a process that is told a path makes that file when it can take work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """One process of a stack. It is ready when it is alive and everything named below holds."""

    name: str
    role: str
    command: Callable[[], Sequence[str]] = field(repr=False)
    """Gives the tethered command; asked at every start, in the supervisor's thread."""
    after: tuple[str, ...] = ()
    """Processes that must be ready before this one starts."""
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    prepare: Callable[[], None] | None = None
    """Run in a thread before every start; must bear being run again."""
    probe: Callable[[], bool] | None = None
    """Asked in a thread until it says True."""
    port: int = 0
    """A loopback port that accepts connections."""
    ready_file: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_within_s: float = 2.0
    """From the stop signal to SIGKILL."""
    work_folder: Path = Path("/")
    layer: int = 0
    """Processes of the highest layer are stopped first: 2 users of everything, 1 API servers, 0 database and broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlaces:
    """Where one embedded cluster's API server listens and keeps its files."""

    name: str
    port: int
    token_file: Path
    data: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the table needs to know about a stack."""

    home: Path
    clusters: tuple[ClusterPlaces, ...]
    fleet_file: Path
    kubeconfig: Path
    flower_port: int
    flower_login: str = field(repr=False)
    """user:password"""
    environment: Mapping[str, str] = field(repr=False)
    """Of every process of the table."""
    simulators: int = 0
    """Workers that compute cells of comparisons, each a process of its own."""


def application_processes(layout: Layout) -> list[ProcessSpec]:
    """Everything but the two servers, in the order of `tango status`. The servers must be ready before any of these."""
    run = layout.home / "run"

    def spec(
        name: str,
        role: str,
        *command: str,
        after: tuple[str, ...] = (),
        port: int = 0,
        ready_file: bool = False,
        extra: Mapping[str, str] = MappingProxyType({}),
        stop_within_s: float = 2.0,
        layer: int = 2,
    ) -> ProcessSpec:
        path = run / f"{name}.ready" if ready_file else None
        environment = {**layout.environment, **extra, **({READY_FILE: str(path)} if path else {})}
        return ProcessSpec(
            name=name,
            role=role,
            command=lambda: tethered(command),
            environment=environment,
            ready_file=path,
            stop_within_s=stop_within_s,
            work_folder=layout.home,
            after=after,
            port=port,
            layer=layer,
        )

    def worker(name: str, role: str, queues: str, concurrency: int) -> ProcessSpec:
        options = ("-n", f"{name}@%h", "-Q", queues, "--pool", "threads", "--concurrency", str(concurrency), *QUIET)
        # Longer than the rest: LC calls under way may still settle. What does not is fenced by its lease and runs again.
        return spec(name, role, *CELERY, "worker", *options, ready_file=True, stop_within_s=5.0)

    def module(name: str, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", f"workers.{name}", *arguments)

    found: list[ProcessSpec] = []
    for c in layout.clusters:
        files = ("--token-file", str(c.token_file), "--data-dir", str(c.data))
        command = module("api_server", "--cluster", c.name, "--port", str(c.port), *files)
        found.append(spec(f"apiserver-{c.name}", "api server", *command, port=c.port, layer=1))
    for c in layout.clusters:
        where = ("--kubeconfig", str(layout.kubeconfig), "--context", f"{c.name}-kubelet", "--fleet", str(layout.fleet_file))
        command = module("virtual_kubelet", *where, "--cluster", c.name)
        found.append(spec(f"kubelet-{c.name}", "virtual kubelet", *command, after=(f"apiserver-{c.name}",)))
    for c in layout.clusters:
        command = module("cluster_agent", "--cluster", c.name)
        found.append(spec(f"agent-{c.name}", "cluster agent", *command, after=(f"apiserver-{c.name}",)))
    for c in layout.clusters:
        found.append(worker(f"worker-{c.name}", "cluster worker", f"lc.{c.name},be.{c.name},exec.{c.name}", 8))
    found.append(worker("scheduler", "scheduler worker", "control", 4))
    found.append(worker("replayer", "replay worker", "replay", 4))
    for name in ("simulator", *(f"simulator-{k}" for k in range(2, layout.simulators + 1)))[: layout.simulators]:
        # One cell at a time in the worker's own process: a forked child would outlive a kill of its parent, and compute on.
        options = ("-n", f"{name}@%h", "-Q", "simulate", "--pool", "solo", *QUIET)
        found.append(spec(name, "simulation worker", *CELERY, "worker", *options, ready_file=True))
    # Kept in memory: when a tick last ran does not matter after a restart, and the usual file of it is a pickle.
    found.append(spec("beat", "periodic ticks", *CELERY, "beat", "-S", "celery.beat:Scheduler", "-l", "warning"))
    flower = ("flower", "--address=127.0.0.1", f"--port={layout.flower_port}", "--read_only=True")
    login = {"FLOWER_BASIC_AUTH": layout.flower_login}
    found.append(spec("flower", "monitoring page", *CELERY, *flower, extra=login, port=layout.flower_port))
    return found
