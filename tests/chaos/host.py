"""The simulated host: what production code takes from the standard library (time, chance, threads, locks, event loops) on virtual time.

Production code runs unchanged. In every module of `tango` the names of the standard modules below stand, while a world runs, for stand-ins
that have the same functions; what is not listed is the real one. So no call can be missed that somebody adds later, which a port that one
has to remember to use would allow (docs/decisions/0025-deterministic-chaos.md).
"""

from __future__ import annotations

import asyncio
import asyncio.events
import contextvars
import datetime as real_datetime
import inspect
import os as real_os
import queue as real_queue
import random as real_random
import secrets as real_secrets
import sys
import threading as real_threading
import time as real_time
import uuid as real_uuid
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import uvloop as real_uvloop

from tests.chaos.timeline import Killed, Process, Stuck, Timeline


class StandIn:
    """A module some of whose names are others."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


# ---- event loops -------------------------------------------------------------------------------------------------------


class Loop(asyncio.AbstractEventLoop):
    """An asyncio loop of one process on virtual time. Callbacks of one loop keep their order, as asyncio promises; loops do not."""

    def __init__(self, timeline: Timeline) -> None:
        assert timeline.current is not None
        self._timeline, self._process = timeline, timeline.current
        self._ready: deque[asyncio.Handle] = deque()
        self._is_woken = False
        self._closed = False
        self._stop: Callable[[], None] | None = None

    # what asyncio's own parts ask of a loop
    def time(self) -> float:
        return self._timeline.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._closed

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True

    def call_soon(self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        if not self._is_woken:
            self._is_woken = True
            self._timeline.at(self._timeline.now_s, self._run_ready, self._process)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)

        def fire() -> None:
            if not handle.cancelled():
                self._ready.append(handle)
                if not self._is_woken:
                    self._run_ready()

        self._timeline.at(max(when, self._timeline.now_s), fire, self._process)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return None

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Any = None) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self.create_future()

        def told(set_it: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                set_it(value)

        def work() -> None:
            try:
                result = func(*args)
            except (Killed, Stuck):
                raise
            except BaseException as error:
                self.call_soon(told, future.set_exception, error)
            else:
                self.call_soon(told, future.set_result, result)

        self._process.spawn(work)
        return future

    def set_default_executor(self, executor: Any) -> None:
        return None

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self._process.alive and error is not None and not isinstance(error, (Killed, asyncio.CancelledError)):
            self._timeline.failure = self._timeline.failure or error

    # what threads of the process do with it
    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        resume = self._timeline.resumes()
        task.add_done_callback(lambda _: self._timeline.at(self._timeline.now_s, resume, self._process))
        self._timeline.wait()
        return task.result()

    def run_forever(self) -> None:
        self._stop = self._timeline.resumes()
        self._timeline.wait()

    def stop(self) -> None:
        if self._stop is not None:
            self._timeline.at(self._timeline.now_s, self._stop, self._process)
            self._stop = None

    def _run_ready(self) -> None:
        self._is_woken = True
        asyncio.events._set_running_loop(self)
        try:
            for _ in range(len(self._ready)):
                handle = self._ready.popleft()
                if not handle._cancelled:
                    handle._run()
                if not self._process.alive:
                    return
        finally:
            asyncio.events._set_running_loop(None)
            self._is_woken = bool(self._ready)
            if self._ready:
                self._timeline.at(self._timeline.now_s, self._run_ready, self._process)


# ---- threads -----------------------------------------------------------------------------------------------------------


MOST_LOCK_S = 200.0
"""Seconds after which whoever waits for a lock is taken to wait for ever: longer than any pause and any call under it."""


class Lock:
    """A lock that lets others run while it is waited for."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._is_held = False
        self._waiting: deque[Callable[[], None]] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""
        if self._is_held and not blocking:
            return False
        if self._is_held and not self._timeline.may_wait:
            if self._timeline.current is not None and not self._timeline.current.alive:
                raise Killed
            raise Stuck("an event loop waits for a lock that a thread holds while it waits")
        until_s = self._timeline.now_s + timeout if timeout >= 0 else float("inf")
        deadlock_s = self._timeline.now_s + MOST_LOCK_S
        while self._is_held:
            if self._timeline.now_s >= until_s:
                return False
            if self._timeline.now_s >= deadlock_s:
                raise Stuck(f"a thread has waited for a lock for {MOST_LOCK_S:g} s")
            wait(self._timeline, self._waiting, min(until_s, deadlock_s))
        self._is_held = True
        return True

    def release(self) -> None:
        """Give it back."""
        self._is_held = False
        if self._waiting:
            self._waiting.popleft()()

    def locked(self) -> bool:
        """Whether it is held."""
        return self._is_held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def wait(timeline: Timeline, waiting: deque[Callable[[], None]], until_s: float = float("inf")) -> bool:
    """Wait until somebody calls what is put into `waiting`, or until that time; gives whether somebody did."""
    process, resume = timeline.current, timeline.resumes()
    told: list[bool] = []

    def once(by_call: bool) -> None:
        if not told:
            told.append(by_call)
            timeline.at(timeline.now_s, resume, process)

    def called() -> None:
        once(True)

    waiting.append(called)
    if until_s < float("inf"):
        timeline.at(until_s, lambda: once(False), process)
    try:
        timeline.wait()
    finally:
        if called in waiting:
            waiting.remove(called)
    return told[0]


class RLock(Lock):
    """The same for its holder any number of times."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self._owner: object = None
        self._times = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it once more."""
        me = thread_ident()
        if self._is_held and self._owner == me:
            self._times += 1
            return True
        if not super().acquire(blocking, timeout):
            return False
        self._owner, self._times = me, 1
        return True

    def release(self) -> None:
        """Give one of them back."""
        self._times -= 1
        if self._times == 0:
            self._owner = None
            super().release()


class Condition:
    """As `threading.Condition`."""

    def __init__(self, timeline: Timeline, lock: Lock | None = None) -> None:
        self._timeline = timeline
        self._lock = lock or RLock(timeline)
        self._waiting: deque[Callable[[], None]] = deque()

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def acquire(self, *args: Any) -> bool:
        """The lock."""
        return self._lock.acquire(*args)

    def release(self) -> None:
        """The lock."""
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Until somebody notifies."""
        until_s = float("inf") if timeout is None else self._timeline.now_s + max(0.0, timeout)
        self._lock.release()
        try:
            return wait(self._timeline, self._waiting, until_s)
        finally:
            self._lock.acquire()

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Until it holds."""
        until_s = float("inf") if timeout is None else self._timeline.now_s + timeout
        while not (holds := predicate()) and self._timeline.now_s < until_s:
            self.wait(None if timeout is None else until_s - self._timeline.now_s)
        return holds

    def notify(self, n: int = 1) -> None:
        """Some of them."""
        for _ in range(min(n, len(self._waiting))):
            self._waiting.popleft()()

    def notify_all(self) -> None:
        """All."""
        self.notify(len(self._waiting))


class Event:
    """As `threading.Event`."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._is_set = False
        self._waiting: deque[Callable[[], None]] = deque()

    def is_set(self) -> bool:
        """Whether it is."""
        return self._is_set

    def set(self) -> None:
        """Wake all."""
        self._is_set = True
        while self._waiting:
            self._waiting.popleft()()

    def clear(self) -> None:
        """Not any more."""
        self._is_set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is set."""
        if not self._is_set:
            wait(self._timeline, self._waiting, float("inf") if timeout is None else self._timeline.now_s + max(0.0, timeout))
        return self._is_set


class Thread:
    """As `threading.Thread`: a greenlet of the process that starts it."""

    def __init__(
        self,
        timeline: Timeline,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        daemon: bool | None = None,
    ) -> None:
        self._timeline, self._target, self._args, self._kwargs = timeline, target, args, kwargs or {}
        self.name, self.daemon = name, daemon
        self.ident: int | None = None
        self._over = Event(timeline)

    def start(self) -> None:
        """Begin."""
        process = self._timeline.current
        assert process is not None
        assert self._target is not None
        self.ident = id(self)
        target = self._target

        def run() -> None:
            try:
                target(*self._args, **self._kwargs)
            finally:
                self._over.set()

        process.spawn(run)

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""
        self._over.wait(timeout)

    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self.ident is not None and not self._over.is_set()


class SimpleQueue:
    """As `queue.SimpleQueue`."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._items: deque[Any] = deque()
        self._waiting: deque[Callable[[], None]] = deque()

    def put(self, item: Any) -> None:
        """At the end."""
        self._items.append(item)
        if self._waiting:
            self._waiting.popleft()()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The first, waited for. Raises: queue.Empty."""
        until_s = float("inf") if timeout is None else self._timeline.now_s + timeout
        while not self._items:
            if not block or self._timeline.now_s >= until_s:
                raise real_queue.Empty
            wait(self._timeline, self._waiting, until_s)
        return self._items.popleft()

    def empty(self) -> bool:
        """Whether nothing is in it."""
        return not self._items


def thread_ident() -> int:
    """Of the greenlet that runs."""
    from greenlet import getcurrent

    return id(getcurrent())


# ---- the stand-ins -----------------------------------------------------------------------------------------------------


def stand_ins(timeline: Timeline, seed: int) -> dict[ModuleType, StandIn]:
    """By standard module, what stands for it."""
    chance = real_random.Random(f"chance {seed}")

    def wait_for_result(work: Coroutine[Any, Any, Any], loop: Loop) -> Awaited:
        return Awaited(timeline, asyncio.Task(work, loop=loop), loop)

    class Datetime(real_datetime.datetime):
        @classmethod
        def now(cls, tz: real_datetime.tzinfo | None = None) -> real_datetime.datetime:
            return real_datetime.datetime.fromtimestamp(timeline.wall_s(), tz)

    return {
        real_time: StandIn(
            real_time,
            time=timeline.wall_s,
            monotonic=lambda: timeline.now_s,
            perf_counter=lambda: timeline.now_s,
            sleep=timeline.sleep,
        ),
        real_random: StandIn(
            real_random, random=chance.random, uniform=chance.uniform, choice=chance.choice, randrange=chance.randrange
        ),
        real_threading: StandIn(
            real_threading,
            Lock=lambda: Lock(timeline),
            RLock=lambda: RLock(timeline),
            Condition=lambda lock=None: Condition(timeline, lock),
            Event=lambda: Event(timeline),
            Thread=lambda *args, **kwargs: Thread(timeline, *args, **kwargs),
            get_ident=thread_ident,
        ),
        real_queue: StandIn(real_queue, SimpleQueue=lambda: SimpleQueue(timeline)),
        real_os: StandIn(real_os, urandom=chance.randbytes),
        real_secrets: StandIn(
            real_secrets, token_hex=lambda n=8: chance.randbytes(n).hex(), choice=chance.choice, token_bytes=chance.randbytes
        ),
        real_uuid: StandIn(real_uuid, uuid4=lambda: real_uuid.UUID(bytes=chance.randbytes(16))),
        real_datetime: StandIn(real_datetime, datetime=Datetime),
        real_uvloop: StandIn(real_uvloop, new_event_loop=lambda: Loop(timeline)),
        asyncio: StandIn(
            asyncio,
            new_event_loop=lambda: Loop(timeline),
            set_event_loop=lambda loop: None,
            run_coroutine_threadsafe=wait_for_result,
        ),
    }


class Awaited:
    """What `run_coroutine_threadsafe` gives: a thread waits for the result."""

    def __init__(self, timeline: Timeline, task: asyncio.Task[Any], loop: Loop) -> None:
        self._timeline, self._task = timeline, task

    def result(self, timeout: float | None = None) -> Any:
        """Wait for it."""
        done = Event(self._timeline)
        if not self._task.done():
            self._task.add_done_callback(lambda _: done.set())
            if not done.wait(timeout):
                raise TimeoutError
        return self._task.result()

    def cancel(self) -> bool:
        """Cancel the work."""
        return self._task.cancel()


SIMULATED = ("tango.", "workers.")
"""Packages whose modules get the stand-ins."""


@contextmanager
def standing_in(timeline: Timeline, seed: int) -> Generator[None]:
    """For the length of a block production code runs on the simulated host."""
    stands = stand_ins(timeline, seed)
    changed: list[tuple[dict[str, Any], str, Any]] = []
    defaults: list[tuple[FunctionType, Any, Any]] = []
    real_of = {
        id(getattr(module, name)): getattr(stand, name)
        for module, stand in stands.items()
        for name in vars(stand)
        if name != "_module"
    }
    try:
        for module in _modules():
            names = vars(module)
            for name, value in list(names.items()):
                if isinstance(value, ModuleType) and value in stands:
                    changed.append((names, name, value))
                    names[name] = stands[value]
            for function in _functions(module):
                kept = function.__defaults__, function.__kwdefaults__
                positional = tuple(real_of.get(id(v), v) for v in kept[0]) if kept[0] else kept[0]
                named = {k: real_of.get(id(v), v) for k, v in kept[1].items()} if kept[1] else kept[1]
                if positional != kept[0] or named != kept[1]:
                    defaults.append((function, *kept))
                    function.__defaults__, function.__kwdefaults__ = positional, named
        yield
    finally:
        for names, name, value in changed:
            names[name] = value
        for function, positional, named in defaults:
            function.__defaults__, function.__kwdefaults__ = positional, named


def _modules() -> Iterator[ModuleType]:
    return iter([module for name, module in sorted(sys.modules.items()) if name.startswith(SIMULATED) and module is not None])


_FUNCTIONS: dict[str, list[FunctionType]] = {}
"""By module: its functions whose defaults may be clocks."""


def _functions(module: ModuleType) -> list[FunctionType]:
    found = _FUNCTIONS.get(module.__name__)
    if found is None:
        found = []
        for value in list(vars(module).values()):
            if getattr(value, "__module__", None) != module.__name__:
                continue
            if isinstance(value, FunctionType):
                found.append(value)
            elif inspect.isclass(value):
                found += [member for member in vars(value).values() if isinstance(member, FunctionType)]
        _FUNCTIONS[module.__name__] = found = [f for f in found if f.__defaults__ or f.__kwdefaults__]
    return found


__all__ = ["Loop", "Process", "StandIn", "standing_in"]
