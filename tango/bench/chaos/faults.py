"""What `tango bench chaos` does to a stack, each fault by name. Every fault ends with all well again from outside.

Processes are killed, or stand still (SIGSTOP): one that stands still takes every byte and answers nothing, as behind a firewall that has
forgotten a connection, which is why the silent database and the silent broker are made so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil
import psycopg2
import redis

from tango.domain.line import LineMode, LineState
from tango.errors import TangoError
from tango.files import write_whole
from tango.kube.api_client import KubeClient
from tango.settings import KubeSettings
from tango.stack.home import line_file
from tango.stack.state import StackInfo, read_stack
from tango.stack.supervisor import read_status

STILL_S = 25.0
"""Seconds for which processes stand still: longer than the longest lease of a request (`LeaseSettings.placement_s`)."""
SHORT_S = 15.0
"""Seconds of what all processes meet at once."""
KILL_EVERY_S = 1.0
"""Mean seconds between two kills of a series."""


REFUSING: dict[str, list[dict[str, object]]] = {
    "answers 429": [{"fault": "429", "probability": 0.5, "seconds": 1}],
    "answers 500": [{"fault": "500", "probability": 0.3}],
    "compacts under watches": [{"fault": "compact"}, {"fault": "cut-watches"}],
}
"""What an embedded API server is told to do (`tango.emulation.api_server.faults`), five times, by what it is called."""


class Stack(Protocol):
    """What faults need of the stack that they strike."""

    home: Path

    def kill(self) -> None:
        """SIGKILL its supervisor."""

    def start(self) -> None:
        """Bring it up once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """One kind of fault."""

    name: str
    seconds: float
    """How long `strike` takes, about."""
    strike: Callable[[Stack, random.Random], None]
    """Returns when all is well again from outside."""
    cluster: str = ""
    """The only cluster that it concerns; empty: all, or the centre."""
    needs_disk: bool = False
    """Whether the state folder has to lie on a disk of its own, which only root can make."""


def faults(kills: int, cluster: str) -> tuple[InjectedFault, ...]:
    """All of them; `cluster` is the one that is struck alone."""

    def still(what: str, *names: str, seconds: float = STILL_S) -> InjectedFault:
        concerned = cluster if all(name.endswith(cluster) or f"-{cluster}-" in name for name in names) else ""
        return InjectedFault(name=what, seconds=seconds, strike=lambda stack, _: _still(stack, names, seconds), cluster=concerned)

    def refusing(does: str, rules: list[dict[str, object]]) -> InjectedFault:
        return InjectedFault(
            name=f"API server {does}", seconds=STILL_S, strike=lambda stack, _: _refuse(stack, cluster, rules), cluster=cluster
        )

    return (
        InjectedFault(
            name=f"{kills} kills", seconds=kills * KILL_EVERY_S, strike=lambda stack, dice: _kill_many(stack, dice, kills)
        ),
        still("agent stands still", f"agent-{cluster}"),
        still("one worker stands still", f"worker-{cluster}-1"),
        still("both workers stand still", f"worker-{cluster}-1", f"worker-{cluster}-2"),
        still("API server stands still", f"apiserver-{cluster}"),
        still("kubelet stands still", f"kubelet-{cluster}"),
        still("scheduler stands still", "scheduler"),
        still("replayer stands still", "replayer"),
        still("beat stands still", "beat"),
        still("line stands still", "line"),
        InjectedFault(
            name="API server slow", seconds=STILL_S, strike=lambda stack, _: _slow(stack, f"apiserver-{cluster}"), cluster=cluster
        ),
        *(refusing(does, rules) for does, rules in REFUSING.items()),
        InjectedFault(name="brokers flushed", seconds=SHORT_S, strike=_flush),
        InjectedFault(name="brokers out of memory", seconds=SHORT_S, strike=_out_of_memory),
        InjectedFault(
            name="brokers silent", seconds=SHORT_S, strike=lambda stack, _: _still(stack, _named(stack, "broker"), SHORT_S)
        ),
        InjectedFault(name="database silent", seconds=SHORT_S, strike=_database_silent),
        InjectedFault(name="database killed", seconds=1.0, strike=lambda stack, _: _kill(stack, "postgres")),
        InjectedFault(name="database connections reset", seconds=SHORT_S, strike=_reset),
        InjectedFault(name="database out of connections", seconds=SHORT_S, strike=_no_connections),
        InjectedFault(name="database 200 ms away", seconds=STILL_S, strike=lambda stack, _: _line(stack, STILL_S, rtt_ms=200.0)),
        InjectedFault(name="line swallows", seconds=STILL_S, strike=lambda stack, _: _line(stack, STILL_S, mode=LineMode.SWALLOW)),
        InjectedFault(name="line cut", seconds=STILL_S, strike=lambda stack, _: _line(stack, STILL_S, mode=LineMode.CUT)),
        InjectedFault(name="disk full", seconds=SHORT_S, strike=_disk_full, needs_disk=True),
        InjectedFault(name="supervisor killed", seconds=20.0, strike=_restart),
        InjectedFault(name="everything killed", seconds=20.0, strike=_kill_everything),
    )


# ---- processes -----------------------------------------------------------------------------------------------------------


def _pids(stack: Stack, names: Iterable[str]) -> list[int]:
    wanted = set(names)
    return [row["pid"] for row in read_status(stack.home)["processes"] if row["name"] in wanted and row["pid"]]


def _named(stack: Stack, start: str) -> list[str]:
    return [row["name"] for row in read_status(stack.home)["processes"] if row["name"].startswith(start)]


def _signal(pids: Iterable[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def _kill(stack: Stack, name: str) -> None:
    _signal(_pids(stack, [name]), signal.SIGKILL)


def _kill_many(stack: Stack, dice: random.Random, kills: int) -> None:
    """One after another, any process, a server process of PostgreSQL among them one time in ten."""
    for _ in range(kills):
        living = [row for row in read_status(stack.home)["processes"] if row["pid"]]
        pid = dice.choice(living)["pid"] if living else None
        if dice.random() < 0.1:
            pid = dice.choice([pid, *_tree(_pids(stack, ["postgres"]))[1:]])
        if pid:
            _signal([pid], signal.SIGKILL)
        time.sleep(dice.uniform(0.5, 1.5) * KILL_EVERY_S)


def _tree(pids: Iterable[int]) -> list[int]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            found += [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    return found


def _still(stack: Stack, names: Iterable[str], seconds: float) -> None:
    pids = _pids(stack, names)
    _signal(pids, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        _signal(pids, signal.SIGCONT)


def _slow(stack: Stack, name: str) -> None:
    """It works for a tenth of the time."""
    until_s = time.monotonic() + STILL_S
    while time.monotonic() < until_s:
        _still(stack, [name], 0.9)
        time.sleep(0.1)


def _refuse(stack: Stack, cluster: str, rules: list[dict[str, object]]) -> None:
    """The API server of one cluster behaves so."""

    async def told(method: str, body: object) -> None:
        settings = KubeSettings()
        async with await KubeClient.from_kubeconfig(
            _info(stack).kubeconfig, f"{cluster}-admin", settings, cluster=cluster
        ) as client:
            await client.request(method, "/__faults", body=body)

    try:
        for _ in range(5):
            asyncio.run(told("PUT", rules))
            time.sleep(STILL_S / 5)
    finally:
        asyncio.run(told("DELETE", None))


def _restart(stack: Stack, _: random.Random) -> None:
    stack.kill()
    stack.start()


def _kill_everything(stack: Stack, _: random.Random) -> None:
    pids = _tree(row["pid"] for row in read_status(stack.home)["processes"] if row["pid"])
    _signal(pids, signal.SIGKILL)
    _restart(stack, _)


# ---- brokers -------------------------------------------------------------------------------------------------------------


def _info(stack: Stack) -> StackInfo:
    info = read_stack(stack.home)
    if info is None:
        raise TangoError(f"no stack runs in {stack.home}")
    return info


@contextmanager
def _brokers(stack: Stack) -> Iterator[list[redis.Redis]]:
    info = _info(stack)
    urls = (info.broker_url, *info.cluster_brokers.values())
    clients = [redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) for url in urls]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def _flush(stack: Stack, dice: random.Random) -> None:
    """Three times: what was in the queues is gone."""
    for _ in range(3):
        with _brokers(stack) as clients:
            for client in clients:
                client.flushall()
        time.sleep(SHORT_S / 3)


def _out_of_memory(stack: Stack, _: random.Random) -> None:
    """They refuse to take anything more."""
    with _brokers(stack) as clients:
        before = [client.config_get("maxmemory", "maxmemory-policy") for client in clients]
        for client in clients:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 1_000_000)
        time.sleep(SHORT_S)
        for client, was in zip(clients, before, strict=True):
            for key, value in was.items():
                client.config_set(str(key), str(value))


# ---- database, line and disk ----------------------------------------------------------------------------------------------


def _database_silent(stack: Stack, _: random.Random) -> None:
    pids = _tree(_pids(stack, ["postgres"]))
    _signal(pids, signal.SIGSTOP)
    try:
        time.sleep(SHORT_S)
    finally:
        _signal(pids, signal.SIGCONT)


def _reset(stack: Stack, dice: random.Random) -> None:
    """Three times all connections but this one end."""
    for _ in range(3):
        with contextlib.closing(psycopg2.connect(_info(stack).database_url.replace("+psycopg2", ""))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()"
                )
        time.sleep(SHORT_S / 3)


def _no_connections(stack: Stack, _: random.Random) -> None:
    """Somebody takes all that are free, and whatever becomes free."""
    url, held = _info(stack).database_url.replace("+psycopg2", ""), []
    until_s = time.monotonic() + SHORT_S
    try:
        while time.monotonic() < until_s:
            try:
                held.append(psycopg2.connect(url, connect_timeout=2))
            except psycopg2.OperationalError:
                time.sleep(0.2)
    finally:
        for connection in held:
            connection.close()


def _line(stack: Stack, seconds: float, *, mode: LineMode = LineMode.OPEN, rtt_ms: float = 0.0) -> None:
    write_whole(line_file(stack.home), LineState(mode=mode, rtt_ms=rtt_ms).as_text())
    try:
        time.sleep(seconds)
    finally:
        write_whole(line_file(stack.home), LineState().as_text())


def _disk_full(stack: Stack, _: random.Random) -> None:
    """No byte is left on the disk of the state folder."""
    ballast = stack.home / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 2**20)
        time.sleep(SHORT_S)
    finally:
        ballast.unlink(missing_ok=True)
