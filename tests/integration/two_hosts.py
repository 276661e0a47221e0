"""A centre and an edge as two hosts: a network namespace each, joined by a link that can be taken down and by a relay that behaves badly.

The centre is a stack of `tango up`. The edge is a cluster that has joined it, started as docs/clusters.md says: an embedded API server
and a virtual kubelet in place of a real cluster, a broker, the agent, two workers. All that the edge writes lies on a disk of its own,
of some megabytes, which a test may fill. What passes between the two goes through relays (`workers.line`) that read one file:

    centre 10.77.0.1                                edge 10.77.0.2
      PostgreSQL ◄── relay :5432 ◄───── veth ────────── agent
      scheduler ──► tunnel :6443 ────── veth ──► relay :6443 ──► API server

The API server has no certificate, and Tango sends no token in the clear to another host: so the scheduler reaches it by a tunnel, as by
`ssh -L`, which is a relay that passes everything on.

The centre's own cluster is too far from the edge for LC to go there, and too small for BE.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tango.bench.chaos.books import Books, BothBooks, both_sides
from tango.domain.line import LineMode, LineState
from tango.files import write_whole
from tango.stack.broker import Broker, server_binary
from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.stack.tether import tethered
from tests.integration.live_stack import ROOT, LiveStack

EDGE = "edge"
CENTRE_ADDRESS, EDGE_ADDRESS = "10.77.0.1", "10.77.0.2"
DATABASE_PORT, API_PORT, OWN_API_PORT = 5432, 6443, 6444
RTT_MS = 20.0
LOOK_EVERY_S = 0.25
DISK_MIB = 160
SILENT_S, PLACEMENT_S = 3.0, 6.0
"""Shorter than as shipped, so that a cut of seconds is long beside them."""
SETTINGS = {"TANGO_LEASE_SILENT_S": str(SILENT_S), "TANGO_LEASE_PLACEMENT_S": str(PLACEMENT_S)}
_SERVICES = """
  services:
    - {name: web, class: lc, cpu_work_s: 0.02, target_ms: 100, memory_mib: 32, instance_memory_mib: 256,
       cpu_request_millicores: 200, cpu_limit_millicores: 1000}
    - {name: batch, class: be, cpu_work_s: 1.0, memory_mib: 512, cpu_request_millicores: 500, cpu_limit_millicores: 1000}
"""
# Beside an LC instance no pod of `batch` has the memory.
_CENTRE_FLEET = f"""
apiVersion: tango/v1
kind: Fleet
metadata: {{name: centre}}
spec:
  clusters: [{{name: c1, nodes: [{{name: c1-n1, cpu_millicores: 1000, memory_mib: 640}}]}}]
{_SERVICES}
"""
_EDGE_FLEET = f"""
apiVersion: tango/v1
kind: Fleet
metadata: {{name: edge}}
spec:
  clusters:
    - {{name: {EDGE}, nodes: [{{name: n1, cpu_millicores: 4000, memory_mib: 8192}}, {{name: n2, cpu_millicores: 4000, memory_mib: 8192}}]}}
{_SERVICES}
"""


def why_not() -> str:
    """Why two hosts cannot be made on this machine; empty where they can."""
    if os.geteuid() != 0:
        return "network namespaces are made by root alone"
    made = subprocess.run(["ip", "netns", "add", "tango-probe"], capture_output=True, text=True)
    if made.returncode != 0:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", "tango-probe"], check=True)
    return ""


class TwoHosts:
    """Both hosts. `start` once, `stop` in any case."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = {side: f"tango-{side}-{os.getpid()}" for side in ("centre", "edge")}
        self._line = folder / "line.json"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.disk = folder / "disk"
        self.centre = LiveStack(folder / "home", SETTINGS, self._in("centre"))
        self._broker = Broker(self.disk, password=secrets.token_urlsafe(12))
        self._access = ClusterAccess(server="", tango_token="t", kubelet_token="k", admin_token="a")
        self._kubeconfig = folder / "kubeconfig"
        self._commands: dict[str, tuple[list[str], Mapping[str, str]]] = {}

    # ---- both hosts ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Make the hosts and bring everything up; returns when the edge has LC instances."""
        self._make_hosts()
        self.disk.mkdir()
        _run("mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(self.disk))
        for name, text in (
            ("centre.yaml", _CENTRE_FLEET),
            ("edge.yaml", _EDGE_FLEET),
            ("tokens.csv", token_file(EDGE, self._access)),
        ):
            (self._folder / name).write_text(text)
        # One path, and on each host a file of its own, as docs/clusters.md wants it.
        for path, port in (("kubeconfig", API_PORT), ("kubeconfig.edge", OWN_API_PORT)):
            access = ClusterAccess(server=f"http://127.0.0.1:{port}", tango_token="t", kubelet_token="k", admin_token="a")
            (self._folder / path).write_text(kubeconfig({EDGE: access}))
        self.becomes(LineState(rtt_ms=RTT_MS))
        done = self.centre.tango("up", "--fleet", str(self._folder / "centre.yaml"), "--simulators", "0", "--detach")
        assert done.returncode == 0, done.stderr
        told = json.loads((self.centre.home / "stack.json").read_text())
        database = urlsplit(told["database_url"])
        socket = f"{database.query.partition('host=')[2].replace('%2F', '/')}/.s.PGSQL.5432"
        self._relay("centre", f"{CENTRE_ADDRESS}:{DATABASE_PORT}={socket}")
        self._relay("edge", f"{EDGE_ADDRESS}:{API_PORT}=127.0.0.1:{OWN_API_PORT}")
        write_whole(self._folder / "tunnel.json", LineState().as_text())
        tunnel = ["--door", f"127.0.0.1:{API_PORT}={EDGE_ADDRESS}:{API_PORT}", "--state", str(self._folder / "tunnel.json")]
        self._begin("tunnel", "centre", [sys.executable, "-m", "workers.line", *tunnel])
        self._start_edge(f"postgresql://{database.username}:{database.password}@{CENTRE_ADDRESS}:{DATABASE_PORT}/tango")

    def stop(self) -> None:
        """End everything, and leave nothing behind."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(10)
        try:
            if self.centre.home.exists():
                self.centre.stop()
        finally:
            _run("umount", "--lazy", str(self.disk), check=False)
            for name in self._names.values():
                _run("ip", "netns", "delete", name, check=False)

    def becomes(self, state: LineState) -> None:
        """Let the line behave so."""
        write_whole(self._line, state.as_text())

    def line(self, mode: LineMode) -> None:
        """Let the line be open, stalled, swallowing or cut."""
        self.becomes(LineState(mode=mode, rtt_ms=RTT_MS))

    def link(self, *, up: bool) -> None:
        """Take the link up or down."""
        _run("ip", "-n", self._names["centre"], "link", "set", "tango-c", "up" if up else "down")

    def kill_edge(self, *names: str) -> None:
        """SIGKILL processes of the edge, all at once, and start them anew, as whoever keeps them there would."""
        for name in names:
            self._processes[name].send_signal(signal.SIGKILL)
        for name in names:
            self._processes[name].wait(10)
            self._spawn(name)

    def journal_mib(self) -> float:
        """Size of the journal's files."""
        return sum(file.stat().st_size for file in (self.disk / "journals").iterdir()) / 2**20

    def ended(self) -> list[str]:
        """Processes of the edge that have ended by themselves."""
        return [name for name, process in self._processes.items() if process.poll() is not None]

    def fill_disk(self) -> None:
        """Leave no byte free on the disk of the edge, as whatever else writes there may."""
        free = os.statvfs(self.disk)
        with (self.disk / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
            for _ in range(free.f_blocks):
                ballast.write(b"\0" * free.f_bsize)

    def make_room(self) -> None:
        """Delete what fills it."""
        (self.disk / "ballast").unlink()

    def _make_hosts(self) -> None:
        for name in self._names.values():
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        centre, edge = self._names.values()
        _run("ip", "-n", centre, "link", "add", "tango-c", "type", "veth", "peer", "name", "tango-e", "netns", edge)
        for name, device, address in ((centre, "tango-c", CENTRE_ADDRESS), (edge, "tango-e", EDGE_ADDRESS)):
            _run("ip", "-n", name, "address", "add", f"{address}/30", "dev", device)
            _run("ip", "-n", name, "link", "set", device, "up")

    def _in(self, side: str) -> tuple[str, ...]:
        return ("ip", "netns", "exec", self._names[side])

    def _relay(self, side: str, door: str) -> None:
        self._begin(f"relay-{side}", side, [sys.executable, "-m", "workers.line", "--door", door, "--state", str(self._line)])

    # ---- the edge --------------------------------------------------------------------------------------------------------

    def _start_edge(self, database_url: str) -> None:
        self._broker.prepare()
        beside = {"TANGO_JOURNAL_DIR": str(self.disk / "journals"), "TANGO_BROKER_URL": self._broker.url, **SETTINGS}
        tango = [sys.executable, "-c", "from tango.cli.main import run; run()"]
        tokens, data = str(self._folder / "tokens.csv"), str(self.disk / "apiserver")
        own = ("--cluster", EDGE, "--port", str(OWN_API_PORT), "--token-file", tokens, "--data-dir", data)
        self._begin("broker", "edge", [str(server_binary()), str(self.disk / "data" / "broker" / "valkey.conf")])
        self._begin("apiserver", "edge", [*tango, "apiserver", *own])
        self._await("the API server", self._joined)
        at = ("--kubeconfig", str(self._kubeconfig), "--context", f"{EDGE}-kubelet")
        self._begin("kubelet", "edge", [*tango, "kubelet", *at, "--fleet", str(self._folder / "edge.yaml"), "--cluster", EDGE])
        agent = [sys.executable, "-m", "workers.cluster_agent", "--cluster", EDGE]
        self._begin("agent", "edge", agent, {**beside, "TANGO_DATABASE_URL": database_url})
        for k in (1, 2):
            celery = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-n", f"worker-{EDGE}-{k}@%h"]
            queues = ["-Q", f"lc.{EDGE},exec.{EDGE}", "--pool", "threads", "--concurrency", "8", "-l", "warning"]
            self._begin(f"worker-{k}", "edge", [*celery, *queues], beside)
        self._await("instances at the edge", self.is_served)

    def _joined(self) -> bool:
        add = ("cluster", "add", EDGE, "--kubeconfig", str(self._kubeconfig), "--context", EDGE, "--rtt-ms", "400")
        return self.centre.tango(*add).returncode == 0

    def is_served(self) -> bool:
        """Whether the edge has its LC instances, and the centre knows."""
        return self.centre.rows("SELECT count(*) FROM instance WHERE cluster = %s AND ready", (EDGE,)) == [(2,)]

    def _begin(self, name: str, side: str, command: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        # On its own host the file of this path is another one.
        own = 'mount --bind "$0.edge" "$0" && exec "$@"'
        words = ["sh", "-c", own, str(self._kubeconfig), *command] if side == "edge" else list(command)
        self._commands[name] = [*self._in(side), *words], variables or {}
        self._spawn(name)

    def _spawn(self, name: str) -> None:
        command, variables = self._commands[name]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                tethered(command),
                env={**kept, **variables, "TANGO_HOME": str(self._folder / "edge-home"), "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )

    def _await(self, what: str, holds: Callable[[], bool], *, within_s: float = 90.0) -> None:
        deadline_s = time.monotonic() + within_s
        while not holds():
            assert not self.ended(), f"{self.ended()} ended before {what} came; logs in {self._folder}"
            assert time.monotonic() < deadline_s, f"{what} did not come; logs in {self._folder}"
            time.sleep(0.2)

    # ---- looks at both sides ----------------------------------------------------------------------------------------------

    def look(self, run_id: int) -> BothBooks:
        """Every request of a run, on whichever side it is. Never raises for what is away: journal and database are read directly."""
        folders = {EDGE: self.disk}
        return both_sides(
            lambda query: self.centre.rows(query, (run_id,)),
            lambda cluster: folders.get(cluster, self.centre.home / "data") / "journals" / f"{cluster}.db",
            run_id,
        )


@dataclass(frozen=True, slots=True)
class BothHosts:
    """Where the books look; pods of the edge are beyond the link that is cut, and are left out."""

    hosts: TwoHosts
    run_id: int

    def requests(self) -> BothBooks:
        """Both sides, read directly."""
        return self.hosts.look(self.run_id)

    async def pods_amiss(self, books: Books) -> None:
        """None is looked at."""
        del books


class KeptBooks:
    """Books of a run, with every look and its Unix time."""

    def __init__(self, hosts: TwoHosts, run_id: int) -> None:
        self.looks: list[tuple[float, BothBooks]] = []
        self._books = Books(BothHosts(hosts, run_id), LOOK_EVERY_S, lambda look: self.looks.append((time.time(), look)))

    def __enter__(self) -> KeptBooks:
        self._books.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._books.__exit__(*error)

    @property
    def mistakes(self) -> list[str]:
        """What was wrong, in words."""
        return self._books.mistakes

    def between(self, begin_s: float, end_s: float) -> list[BothBooks]:
        """The looks of a time."""
        return [look for at_s, look in self.looks if begin_s <= at_s <= end_s]


def _run(*command: str, check: bool = True) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
