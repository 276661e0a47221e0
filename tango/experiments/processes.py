"""Processes that compute for this one: forked from a server that has loaded what they need, ended with this one, deaf to interrupts, which
are for this one alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.context import ForkServerContext
from types import FrameType


def fork_context(module: str) -> ForkServerContext:
    """How a pool starts its processes: a server without threads imports the module, once, and forks.

    Spawned, each would import it for itself: 2 s of CPU for numba, 3 s with torch, and as often the memory. Forked from this process, they
    would share the state of its threads. The first pool of a process decides which module its server has.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    return context


@contextmanager
def process_pool(processes: int, module: str) -> Iterator[ProcessPoolExecutor]:
    """A pool for the main thread, whose processes have imported the module.

    On an error, an interrupt or SIGTERM they end at once. Submit within `uninterrupted`.
    """
    pool_of = ProcessPoolExecutor(processes, mp_context=fork_context(module), initializer=end_with_parent)
    with on_signal(signal.SIGTERM, leave), pool_of as pool:
        try:
            yield pool
        except BaseException:
            end_processes(pool)
            raise


def end_processes(pool: ProcessPoolExecutor) -> None:
    """End the processes of a pool, whatever they do."""
    for process in multiprocessing.active_children():
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Processes that start within inherit that SIGINT waits: an interrupt is for this process alone, which ends the others.

    One that comes meanwhile is taken afterwards: if this process ignored it for so long, an interrupt would be lost now and then.
    """
    resource_tracker.ensure_running()  # it lets SIGINT through as it starts, and starts with the first process
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def on_signal(number: int, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Another handler for a while; only the main thread may have one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def leave(number: int, _frame: FrameType | None) -> None:
    """A handler that ends the process as the signal would, after it has put things in order."""
    sys.exit(128 + number)
