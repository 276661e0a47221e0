"""Keeps the processes of a stack running: starts each when its predecessors are ready, restarts what ends, stops all in layers.

The supervisor writes the state of every process to `run/status.json`, so that `tango status` reads a file and needs no connection.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import structlog

from tango.errors import TangoError
from tango.stack.children import Child, NeverReadyError, ProcessState, start_error
from tango.stack.forking import ForkServer
from tango.stack.processes import ProcessSpec
from tango.stack.state import private_folder, write_private

log = structlog.get_logger(__name__)

START_ATTEMPTS = 4
"""Starts of a process that was not ready once, after which the whole start fails. Chosen, not measured."""
START_WITHIN_S = 60.0
"""Seconds in which a process that is not ready yet has to get on: to use `PROGRESS_CPU_S`. Workers compile at their first start, which
takes minutes on a machine that has much else to do; one that hangs uses nothing."""
LONGEST_START_S = 600.0
"""Seconds after which a start is given up whatever it does: something that computes without end looks like progress."""
PROGRESS_CPU_S = 0.05
LOOK_AT_STARTS_EVERY_S = 1.0
LOOK_AT_LOGS_EVERY_S = 5.0
"""Seconds between two checks of the sizes of logs."""
LOOK_AT_HEALTH_EVERY_S = 5.0
"""Seconds between two looks at what processes tell of themselves: one that stands still is ended 20 to 30 s later (`SILENT_AFTER_S` of
`tango.progress`, and two looks)."""


class Supervisor:
    """Runs the processes of one stack. All methods run on one asyncio loop, whose thread must outlive every child (see `tether`)."""

    def __init__(
        self, home: Path, *, progressed: Callable[[int, int], None] | None = None, forks: ForkServer | None = None
    ) -> None:
        """`progressed(ready, expected)` is called on the loop's thread at every change of a process's state.

        `forks` starts the processes that are a module (`ProcessSpec.program`); it is ended after them.
        """
        self._home = home
        self._logs = private_folder(home / "logs")
        self._status = private_folder(home / "run") / "status.json"
        self._children: dict[str, Child] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._progressed = progressed
        self._forks = forks
        self._watchers: list[asyncio.Task[None]] = []
        self._stopping = False
        self.expected = 0

    async def start(
        self, specs: Sequence[ProcessSpec], *, attempts: int = START_ATTEMPTS, within_s: float = START_WITHIN_S
    ) -> None:
        """Start processes and wait until all of them are ready. Their predecessors (`after`) may come from an earlier call.

        Raises: TangoError naming a process that does not start, with the end of its log. The others keep running: call `stop`.
        """
        if self._stopping:
            raise TangoError("the stack is being stopped")
        for spec in specs:
            log_path = self._logs / f"{spec.name}.log"
            self._children[spec.name] = Child(spec, log_path, self._write_status, forks=self._forks)
        self.expected = max(self.expected, len(self._children))
        self._write_status()
        if not self._watchers:
            self._watchers = [asyncio.create_task(self._keep_logs_bounded()), asyncio.create_task(self._end_what_hangs())]
        for spec in specs:
            self._tasks[spec.name] = asyncio.create_task(self._keep(self._children[spec.name], attempts, within_s))
        ready = asyncio.create_task(self._all_ready([spec.name for spec in specs]))
        watched = {ready, *(self._tasks[spec.name] for spec in specs)}
        try:
            await self._first_failure_or(ready, watched, within_s)
        except NeverReadyError as failed:
            raise start_error(failed, self._children[failed.name].log_tail()) from failed
        finally:
            ready.cancel()

    async def stop(self) -> None:
        """Stop all processes, highest layer first; one that does not end within its `stop_within_s` gets SIGKILL. Idempotent."""
        self._stopping = True
        for watcher in self._watchers:
            watcher.cancel()
        for names in stop_order([child.spec for child in self._children.values()]):
            await asyncio.gather(*(self._children[name].stop() for name in names))
            tasks = [self._tasks[name] for name in names if name in self._tasks]
            for name in names:
                if name in self._tasks and not self._children[name].pid:
                    # It has not been started and may wait for a predecessor that will never be ready.
                    self._tasks[name].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._forks is not None:
            await self._forks.close()
        self._status.unlink(missing_ok=True)

    def rows(self) -> list[dict[str, Any]]:
        """The rows of `tango status`: name, role, pid (None if it does not run), state, restarts since the start."""
        return [
            {"name": name, "role": child.spec.role, "pid": child.pid, "state": child.state.value, "restarts": child.restarts}
            for name, child in self._children.items()
        ]

    async def _keep(self, child: Child, attempts: int, within_s: float) -> None:
        for name in child.spec.after:
            if name in self._children:
                await self._children[name].ready.wait()
        await child.keep(start_attempts=attempts, start_within_s=within_s)

    async def _all_ready(self, names: Sequence[str]) -> None:
        for name in names:
            await self._children[name].ready.wait()

    async def _first_failure_or(self, ready: asyncio.Task[None], watched: set[asyncio.Task[None]], within_s: float) -> None:
        """Wait until all are ready. Raises: NeverReadyError for one that has ended for good, or that does nothing for `within_s`."""
        began_s = moved_at_s = time.monotonic()
        used_s: dict[str, float] = {}
        while not ready.done():
            done, _ = await asyncio.wait(watched, timeout=LOOK_AT_STARTS_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                watched.discard(task)
                task.result()
            now_s, waiting = time.monotonic(), {n: c for n, c in self._children.items() if not c.ready.is_set()}
            for name, child in waiting.items():
                cpu_s = cpu_seconds(child.pid)
                if name not in used_s or cpu_s - used_s[name] >= PROGRESS_CPU_S or cpu_s < used_s[name]:
                    # A smaller figure is that of a new start.
                    used_s[name], moved_at_s = cpu_s, now_s
            if waiting and not ready.done() and (now_s - moved_at_s > within_s or now_s - began_s > LONGEST_START_S):
                slow = next(iter(waiting))
                idle = f", and did nothing in the last {now_s - moved_at_s:.0f}" if now_s - moved_at_s > within_s else ""
                raise NeverReadyError(slow, f"not ready after {now_s - began_s:.0f} s{idle}")

    async def _keep_logs_bounded(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AT_LOGS_EVERY_S)
            for child in self._children.values():
                try:
                    child.bound_log()
                except Exception:  # of this log alone
                    log.exception("log_not_bounded", process=child.spec.name)

    async def _end_what_hangs(self) -> None:
        """Liveness is progress: what has not told of any for long is ended, and started anew by its keeper."""
        while True:
            await asyncio.sleep(LOOK_AT_HEALTH_EVERY_S)
            if not self._can_write():
                continue  # nor can the processes, whose silence then says nothing
            for child in self._children.values():
                try:
                    child.end_if_hung()
                except Exception:  # of this process alone
                    log.exception("process_not_watched", process=child.spec.name)

    def _can_write(self) -> bool:
        try:
            write_private(self._status.with_name("writable"), "")
        except TangoError:
            return False
        return True

    def _write_status(self) -> None:
        """Never raises: what is told of the processes must not end those who keep them, on a full disk for example."""
        rows = self.rows()
        try:
            write_private(self._status, json.dumps({"expected": self.expected, "processes": rows}))
            if self._progressed is not None:
                self._progressed(sum(row["state"] == ProcessState.RUNNING for row in rows), self.expected)
        except TangoError as error:
            log.warning("status_not_written", reason=str(error))
        except Exception:
            log.exception("status_not_written")


def cpu_seconds(pid: int | None) -> float:
    """CPU that a process and its children have used so far; 0 for one that does not run."""
    if pid is None:
        return 0.0
    try:
        process = psutil.Process(pid)
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    except psutil.Error:
        return 0.0
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def stop_order(specs: Sequence[ProcessSpec]) -> list[list[str]]:
    """Names of processes in groups, highest layer first. A group is stopped when the one before it has ended."""
    layers = sorted({spec.layer for spec in specs}, reverse=True)
    return [[spec.name for spec in specs if spec.layer == layer] for layer in layers]


def read_status(home: Path) -> dict[str, Any]:
    """The status that a supervisor last wrote: `expected` (number of processes) and `processes` (rows); 0 and [] without a file."""
    try:
        found: dict[str, Any] = json.loads((home / "run" / "status.json").read_text())
    except (OSError, ValueError):
        return {"expected": 0, "processes": []}
    return found
