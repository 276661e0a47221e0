"""An asyncio loop in a thread of its own, for callers in other threads.

What is handed over is a function that makes a coroutine, not the coroutine: a loop that hangs never comes to make it, and a coroutine
that nobody awaits is a warning at some later time, in somebody else's place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """A loop that runs from the start to `stop`; `run` may be called from any other thread. `new_loop` makes it."""

    def __init__(self, name: str, new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self._loop = new_loop()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]], *, within_s: float | None = None) -> T:
        """What the coroutine that `work` makes on the loop comes to. Whatever ends the wait early cancels it.

        Raises: TimeoutError where it takes longer than `within_s`, as when the loop hangs; RuntimeError after `stop`.
        """

        async def begun() -> T:
            return await work()

        waiting = begun()
        try:
            future = asyncio.run_coroutine_threadsafe(waiting, self._loop)
        except RuntimeError:
            waiting.close()
            raise
        try:
            return future.result(timeout=within_s)
        except BaseException:
            future.cancel()
            raise

    def stop(self, *, within_s: float) -> None:
        """End the loop with all that is under way on it. One that hangs is left to end by itself, when it comes to it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(within_s)

    def _serve(self) -> None:
        loop = self._loop
        try:
            loop.run_forever()
            under_way = asyncio.all_tasks(loop)
            for task in under_way:
                task.cancel()
            if under_way:
                loop.run_until_complete(asyncio.gather(*under_way, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()
