"""One supervised process: started, watched until ready, restarted with backoff when it ends, stopped with its whole process group.

Every change of state is reported to the supervisor by a callback, which writes it to the file that `tango status` reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path

import structlog

from tango.errors import TangoError
from tango.progress import complaints
from tango.stack.forking import Forked, ForkServer
from tango.stack.processes import ProcessSpec
from tango.stack.state import private_folder

log = structlog.get_logger(__name__)

BACKOFF_BASE_S = 0.25
"""Seconds before the first restart; doubled with each further one. This and the next two are chosen, not measured."""
BACKOFF_CAP_S = 10.0
"""Longest pause between two starts, seconds."""
STEADY_S = 10.0
"""A process that lived for so many seconds counts as healthy: its next restart comes after the shortest pause again."""
PROBE_EVERY_S = 0.1
"""Seconds between two checks of readiness."""
ALIVE_S = 0.5
"""Seconds that a process without a readiness check must live to count as ready; one with a broken command ends sooner."""
LOG_LIMIT_BYTES = 16 * 1024 * 1024
"""Size at which a log is moved aside; with the one before, a process keeps at most twice that."""


class ProcessState(StrEnum):
    """States of a process, as `tango status` prints them."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPING = "stopping"
    STOPPED = "stopped"


class NeverReadyError(Exception):
    """A process ended, or its time passed, before it was ready once. Raised and caught inside this package only."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")


def backoff_s(failures: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait before start number `failures` + 1: exponential up to a cap, shortened by up to half at random.

    The jitter keeps processes that failed for one reason, such as a database that went away, from all coming back at once.
    """
    return float(min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** max(0, failures - 1)) * (1.0 - 0.5 * draw()))


class Child:
    """Keeps one process alive. All methods run on the supervisor's loop, whose thread outlives every child."""

    def __init__(self, spec: ProcessSpec, log_path: Path, changed: Callable[[], None], *, forks: ForkServer | None = None) -> None:
        """`forks`: what starts processes that are a module; None: they too are executed by their command."""
        self.spec = spec
        self.log_path = log_path
        self.state = ProcessState.WAITING
        self.pid: int | None = None
        self.restarts = 0
        self.ready = asyncio.Event()
        """Set once the first start has succeeded."""
        self._changed = changed
        self._forks = forks
        self._stopping = asyncio.Event()
        self._complaints: list[str] = []
        """Of the last look at a process that hangs; empty: it gets on, or tells nothing."""
        self._process: asyncio.subprocess.Process | Forked | None = None

    async def keep(self, *, start_attempts: int, start_within_s: float) -> None:
        """Run and restart the process until `stop`.

        Whatever a probe or a preparation raises is logged and counts as an end of the process.
        Raises: NeverReadyError if it was not ready once within `start_attempts` starts, or within `start_within_s` seconds. A
        process that was ready before is restarted without limit.
        """
        began_s = time.monotonic()
        failures = 0
        reason = ""
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                reason = await self._once()
            except (OSError, TangoError) as error:
                reason = str(error)
            except Exception as error:  # a probe may raise anything; nobody else would start the process again
                reason = f"{type(error).__name__}: {error}"
                log.exception("process_not_watched", process=self.spec.name)
            if self._stopping.is_set():
                break
            if not self.ready.is_set() and (failures + 1 >= start_attempts or time.monotonic() - began_s > start_within_s):
                raise NeverReadyError(self.spec.name, reason)
            # A process that ran for a while has not failed at its start, so its backoff begins anew.
            failures = 1 if time.monotonic() - started_s > STEADY_S else failures + 1
            self.restarts += 1
            self._become(ProcessState.BACKING_OFF, None)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff_s(failures))
        self._become(ProcessState.STOPPED, None)

    async def stop(self) -> None:
        """Send the stop signal, wait up to `stop_within_s`, then kill the process group; returns when the process has ended."""
        self._stopping.set()
        process = self._process
        if process is None:
            return
        self._become(ProcessState.STOPPING, process.pid)
        # The process alone gets the stop signal, so that it can end its own children in order; SIGKILL then goes to the group.
        _signal_group(process.pid, self.spec.stop_signal, whole=False)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), self.spec.stop_within_s)
        _signal_group(process.pid, signal.SIGKILL, whole=True)
        await process.wait()

    async def _once(self) -> str:
        """Start the process and wait for its end; return why it ended, as text."""
        spec = self.spec
        self._become(ProcessState.STARTING, None)
        if spec.ready_file is not None:
            spec.ready_file.unlink(missing_ok=True)
        self._complaints = []
        if spec.health is not None:
            for told in private_folder(spec.health).glob("*.json"):
                told.unlink(missing_ok=True)
        if spec.prepare is not None:
            await asyncio.to_thread(spec.prepare)
        if self._stopping.is_set():  # `prepare` may take seconds, and `stop` found no process to signal meanwhile
            return "stopped"
        output = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            process = self._process = await self._started(output)
        finally:
            os.close(output)
        if self._stopping.is_set():  # `stop` was called while the process was being created, before there was a pid to signal
            _signal_group(process.pid, signal.SIGKILL, whole=True)
        self._become(ProcessState.STARTING, process.pid)
        ending = asyncio.ensure_future(process.wait())
        try:
            if await self._until_ready(ending):
                self._become(ProcessState.RUNNING, process.pid)
                self.ready.set()
            status = await ending
        finally:
            # Kills what the process left behind in its group, so that no child of the old one works beside the new one.
            _signal_group(process.pid, signal.SIGKILL, whole=True)
            ending.cancel()
        self._process = None
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"exited with {status}"

    async def _started(self, output: int) -> asyncio.subprocess.Process | Forked:
        """The process, in a session of its own, which prints to the descriptor `output`."""
        spec, environment = self.spec, {**os.environ, **self.spec.environment}
        if spec.program and self._forks is not None:
            return await self._forks.start(
                spec.program, name=spec.name, environment=environment, folder=spec.work_folder, output=output
            )
        return await asyncio.create_subprocess_exec(
            *spec.command(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            cwd=spec.work_folder,
            start_new_session=True,
        )

    async def _until_ready(self, ending: asyncio.Future[int]) -> bool:
        """Wait until the process is ready; return False if it ended first. Waits without limit: `Supervisor.start` has the deadline."""
        spec = self.spec
        signless = spec.probe is None and not spec.port and spec.ready_file is None
        if signless:
            await asyncio.wait((ending,), timeout=ALIVE_S)
            return not ending.done()
        while not ending.done():
            if (
                (spec.ready_file is None or spec.ready_file.exists())
                and (not spec.port or _accepts(spec.port))
                and (spec.probe is None or await asyncio.to_thread(spec.probe))
            ):
                return not ending.done()
            await asyncio.wait((ending,), timeout=PROBE_EVERY_S)
        return False

    def end_if_hung(self) -> list[str]:
        """Kill a process that has told at two looks running that it does not get on; `keep` starts it anew. Gives why.

        Once is not enough: a machine that was overloaded, or a disk that was full, is told of late. SIGKILL, since what hangs obeys
        no other signal; all that it had in hand is covered by leases.
        """
        spec, process = self.spec, self._process
        if spec.health is None or process is None or self.state is not ProcessState.RUNNING:
            return []
        # Nothing is told while a process that is ready has yet to begin to.
        found = complaints(spec.health) if any(spec.health.glob("*.json")) else []
        before, self._complaints = self._complaints, found
        if not found or not before:
            return []
        log.error("process_hangs", process=spec.name, pid=process.pid, complaints=found)
        _signal_group(process.pid, signal.SIGKILL, whole=True)
        return found

    def bound_log(self) -> None:
        """Copy a log over `LOG_LIMIT_BYTES` to `<name>.log.1` and empty it; the process goes on writing to the same file.

        The file is emptied and not renamed because the process holds it open. Lines written between copy and truncation are lost.
        """
        with contextlib.suppress(OSError):
            if self.log_path.stat().st_size > LOG_LIMIT_BYTES:
                self.log_path.with_suffix(".log.1").write_bytes(self.log_path.read_bytes())
                os.truncate(self.log_path, 0)

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the process's log, of at most 16 KiB; empty if it cannot be read."""
        try:
            with self.log_path.open("rb") as file:
                file.seek(max(0, self.log_path.stat().st_size - 16_384))
                return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
        except OSError:
            return ""

    def _become(self, state: ProcessState, pid: int | None) -> None:
        self.state, self.pid = state, pid
        self._changed()


def start_error(failed: NeverReadyError, tail: str) -> TangoError:
    """The error for a process that did not start: its name, the reason and the end of its log."""
    return TangoError(f"{failed.name} did not start: {failed.reason}; the end of its log:\n{tail or '(empty)'}")


def _accepts(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _signal_group(pid: int, signum: signal.Signals, *, whole: bool) -> None:
    """Signal a child, which leads a process group of its own; with `whole`, signal the group."""
    # Either error means that the child has ended; PermissionError, that its number is now one of another user's processes.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if whole:
            os.killpg(pid, signum)
        else:
            os.kill(pid, signum)
