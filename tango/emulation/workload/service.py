"""The mode `serve`: answer LC requests after using the CPU time and memory that they ask for, until SIGTERM."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from tango.emulation.workload.burning import burn
from tango.emulation.workload.http1 import Refused, Served, Work, WorkConnection
from tango.emulation.workload.memory import held


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """Settings of `serve`."""

    port: int
    host: str = "0.0.0.0"
    instance: str = ""
    """Name of this pod; requests for another one are refused with 421. Empty: all are accepted."""
    key: str = ""
    """Key of this service, by which requests must be signed; empty: all are accepted."""
    concurrency: int = 1
    """Requests in service at once; others wait in order of arrival."""
    memory_mib: float = math.inf
    """Most memory that one request may hold."""
    drain_s: float = 5.0
    """Seconds that requests in flight get after SIGTERM; must be below the pod's grace period."""


@dataclass(slots=True)
class WorkloadService:
    """Implements `Instance` of the workload protocol with a pool of threads; bound to the running asyncio loop."""

    name: str
    concurrency: int
    largest_memory_mib: float = math.inf
    key: str = ""
    stopping: bool = False
    connections: set[WorkConnection] = field(default_factory=set)
    under_way: int = 0
    _threads: ThreadPoolExecutor = field(init=False)
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _cut: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._threads = ThreadPoolExecutor(self.concurrency, "work")
        self._loop = asyncio.get_running_loop()

    def begin(self, work: Work, served: Served, refused: Refused) -> Callable[[], None]:
        """Queue a request for a thread. On the loop follows `served` with its times, `refused` where the system does not give it its
        memory, or neither if it is cut off.

        Returns a function that cancels it. Raises: ValueError if it needs more memory than one request may hold.
        """
        if work.memory_mib > self.largest_memory_mib:
            raise ValueError(f"{work.memory_mib} MiB asked, {self.largest_memory_mib} MiB held at most")
        stop = threading.Event()
        self.under_way += 1
        future = self._threads.submit(self._do, work, stop)
        future.add_done_callback(lambda done: self._loop.call_soon_threadsafe(self._done, done, stop, served, refused))
        return stop.set

    def cut(self) -> None:
        """Stop all requests and close all connections."""
        self._cut.set()
        for connection in list(self.connections):
            connection.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _do(self, work: Work, stop: threading.Event) -> tuple[float, float]:
        started_s = time.time()
        with held(work.memory_mib):
            remaining_s = work.cpu_work_s
            # In slices of 50 ms: `burn` watches only the request's own event, and a cut of the whole service must be seen as well.
            while remaining_s > 0 and not (stop.is_set() or self._cut.is_set()):
                remaining_s -= burn(min(remaining_s, 0.05), stop)
        return started_s, time.time()

    def _done(self, future: Future[tuple[float, float]], stop: threading.Event, served: Served, refused: Refused) -> None:
        self.under_way -= 1
        if future.cancelled() or stop.is_set() or self._cut.is_set():
            return
        if (error := future.exception()) is not None:  # without an answer its client would wait for its whole timeout
            print(f"a request was refused: {error}", file=sys.stderr, flush=True)
            refused()
            return
        served(*future.result())


async def serve(options: ServiceOptions) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight within `drain_s`."""
    loop = asyncio.get_running_loop()
    service = WorkloadService(options.instance, options.concurrency, options.memory_mib, options.key)
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    server = await loop.create_server(lambda: WorkConnection(service), options.host, options.port, backlog=512)
    await stopped.wait()
    service.stopping = True
    deadline_s = time.monotonic() + options.drain_s
    while service.under_way and time.monotonic() < deadline_s:
        await asyncio.sleep(0.01)
    server.close()
    service.cut()
