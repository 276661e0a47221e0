"""Steps that threads of their own repeat: what goes on beside the work of a process, and must not be stopped by any one failure."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable

import structlog

from tango import progress
from tango.errors import TangoError

log = structlog.get_logger(__name__)

LONGEST_PAUSE_S = 5.0
"""Longest pause after failures, in seconds: what was away is noticed this soon after it is back."""
TAKE_OVER_S = 0.1
"""Seconds that a step is late before the next thread takes it: a thread that hangs delays the others by no more. While none hangs, all
is done by the first thread, which spares the others' waking."""
LOOK_S = 0.5
"""Longest sleep of a thread, in seconds: so long it may miss that another one hangs."""


class RepeatedStep:
    """A step that gives the seconds to wait until its next call, and what follows when it fails.

    After a failure it is to be called again after a pause, which doubles with each failure in a row up to `longest_pause_s`, less a random
    part up to half, so that many processes do not come back together. A failure that is no `TangoError` is a defect: it is logged with
    its trace and counted in `broken`.
    """

    def __init__(self, name: str, step: Callable[[], float], *, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._name = name
        self._step = step
        self._longest_pause_s = longest_pause_s
        self._failures = 0
        self.broken = 0
        self.progressed_at_s = -float("inf")
        """Monotonic time at which the step last ended well."""

    def call(self) -> float:
        """Call it once, whatever it raises; gives the seconds until the next call."""
        try:
            return self._called()
        finally:
            progress.turned(self._name)

    def end(self) -> None:
        """Say that it is not called any more."""
        progress.over(self._name)

    def _called(self) -> float:
        try:
            wait_s = self._step()
        except TangoError as error:
            self._failures += 1
            log.warning("step_failed", step=self._name, failures=self._failures, error=str(error))
        except Exception:
            self._failures += 1
            self.broken += 1
            log.exception("step_broken", step=self._name, broken=self.broken)
        else:
            self._failures, self.progressed_at_s = 0, time.monotonic()
            return max(0.0, wait_s)
        return min(self._longest_pause_s, 0.1 * 2.0 ** min(self._failures, 10)) * random.uniform(0.5, 1.0)


class Repeating:
    """One step, repeated by a thread of its own."""

    def __init__(self, name: str, step: Callable[[], float], *, longest_pause_s: float = LONGEST_PAUSE_S) -> None:
        self._repeated = RepeatedStep(name, step, longest_pause_s=longest_pause_s)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def broken(self) -> int:
        """How often the step failed by a defect."""
        return self._repeated.broken

    @property
    def progressed_at_s(self) -> float:
        """Monotonic time at which a step last ended well: by it others see that the thread lives."""
        return self._repeated.progressed_at_s

    def start(self) -> None:
        """Start the thread that carries out the steps. To be called once."""
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Ask the thread to end after the step that it is in, and wait for it."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(within_s)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._stopping.wait(self._repeated.call())
        self._repeated.end()


class RepeatingEach:
    """The same step of several members, each at its own pace, repeated by a few threads for all of them.

    A member is called next when the clock comes to a multiple of the wait that it asks for, and so together with others of the same pace:
    what they all read they can read once. Its step is not called again before it has ended. One that hangs keeps its thread, and the next
    thread goes on with the other members: up to `threads` - 1 may hang at a time.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._steps: dict[str, RepeatedStep] = {}
        self._due_s: dict[str, float] = {}
        """When each member is to be called next, on the monotonic clock; members in a call are left out."""
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._run, args=(k * TAKE_OVER_S,), name=f"{name}-{k + 1}", daemon=True) for k in range(threads)
        ]

    def start(self) -> None:
        """Start the threads that share the steps. To be called once."""
        for thread in self._threads:
            thread.start()

    def add(self, member: str, step: Callable[[], float]) -> None:
        """Repeat the step of a further member, at once for the first time; of one that is there already, this step from now on."""
        with self._changed:
            self._steps[member] = RepeatedStep(f"{self._name}-{member}", step)
            self._due_s[member] = time.monotonic()
            self._changed.notify_all()

    def remove(self, member: str) -> None:
        """Call it no more. A call that is under way ends by itself."""
        with self._changed:
            step = self._steps.pop(member, None)
            self._due_s.pop(member, None)
        if step is not None:
            step.end()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Ask the threads to end after the calls that they are in, and wait this long for all of them."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        until_s = time.monotonic() + within_s
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, until_s - time.monotonic()))

    def _run(self, after_s: float) -> None:
        while (found := self._next(after_s)) is not None:
            member, step = found
            wait_s = step.call()
            with self._changed:
                if self._steps.get(member) is step:
                    self._due_s[member] = _next_multiple(time.monotonic(), wait_s)
                else:  # removed while it was under way
                    step.end()

    def _next(self, after_s: float) -> tuple[str, RepeatedStep] | None:
        """The member that has been due the longest, once that is `after_s`; None when the threads are to end."""
        with self._changed:
            while not self._stopping:
                member = min(self._due_s, key=self._due_s.__getitem__, default=None)
                wait_s = LOOK_S if member is None else self._due_s[member] + after_s - time.monotonic()
                if member is not None and wait_s <= 0.0:
                    del self._due_s[member]
                    return member, self._steps[member]
                # No thread wakes others when it gives a member back: each step would wake all of them. It takes it again itself.
                self._changed.wait(min(wait_s, LOOK_S))
        return None


def _next_multiple(now_s: float, step_s: float) -> float:
    """The first multiple of `step_s` after now; now where that is 0."""
    return now_s if step_s <= 0.0 else (math.floor(now_s / step_s) + 1.0) * step_s
