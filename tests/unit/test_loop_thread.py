"""A loop in a thread of its own: results and errors come through, a loop that hangs holds nobody up, and nothing is left un-awaited."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator

import pytest

from tango.loop_thread import LoopThread
from tests.waiting import WITHIN_S


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """Ended with the test, where the test has not ended it."""
    found = LoopThread("test")
    yield found
    found.stop(within_s=WITHIN_S)


@pytest.fixture
def complaints() -> Iterator[list[warnings.WarningMessage]]:
    """Warnings as they come, of coroutines that nobody has awaited too."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield found


def test_results_and_errors_come_through(loop: LoopThread) -> None:
    """As if the caller had awaited it."""

    async def seven() -> int:
        return 7

    async def broken() -> int:
        raise KeyError("seven")

    assert loop.run(seven, within_s=WITHIN_S) == 7
    with pytest.raises(KeyError, match="seven"):
        loop.run(broken, within_s=WITHIN_S)


def test_what_takes_too_long_is_cancelled(loop: LoopThread) -> None:
    """The caller goes on, and so does the loop."""
    cancelled = threading.Event()

    async def for_ever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        loop.run(for_ever, within_s=0.05)

    assert cancelled.wait(WITHIN_S)


def test_a_loop_that_hangs_never_makes_what_was_to_run_on_it(complaints: list[warnings.WarningMessage]) -> None:
    """Neither while it hangs nor when it goes on after its end was asked for; nothing says that a coroutine was never awaited."""
    loop, let_go, made = LoopThread("test"), threading.Event(), list[str]()

    async def hangs() -> None:
        let_go.wait()

    async def late() -> None:
        made.append("late")

    for work in (hangs, late):
        with pytest.raises(TimeoutError):
            loop.run(work, within_s=0.05)
    loop.stop(within_s=0.05)
    let_go.set()
    loop._thread.join(WITHIN_S)
    gc.collect()

    assert not loop._thread.is_alive()
    assert made == []
    assert [str(each.message) for each in complaints] == []


def test_stopping_ends_what_is_under_way(complaints: list[warnings.WarningMessage]) -> None:
    """A task that waits is cancelled, and whoever comes later is told at once."""
    loop, begun, ended = LoopThread("test"), threading.Event(), threading.Event()

    async def for_ever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def leave_behind() -> None:
        tasks.add(asyncio.create_task(for_ever()))

    tasks = set[asyncio.Task[None]]()
    loop.run(leave_behind, within_s=WITHIN_S)
    assert begun.wait(WITHIN_S)

    loop.stop(within_s=WITHIN_S)

    assert ended.is_set()
    with pytest.raises(RuntimeError):
        loop.run(leave_behind, within_s=WITHIN_S)
    gc.collect()
    assert [str(each.message) for each in complaints] == []
