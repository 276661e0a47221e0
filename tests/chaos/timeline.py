"""The one order of everything that happens in a chaos world: virtual time, the steps of simulated processes, and the dice of the seed.

A simulated process is a set of greenlets and event loops that can be frozen and killed between any two of their steps. Only one greenlet
runs at a time, and it runs until it waits for something: whatever the seed draws is therefore the only source of order.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, TypeVar

from greenlet import getcurrent, greenlet

T = TypeVar("T")
START_S = 1_700_000_000.0
"""Unix time at which every world begins."""


class Killed(BaseException):
    """Goes through a process that is killed, past every `except Exception`; what its `finally` blocks ask for is not done."""


class Stuck(BaseException):
    """A lock was asked for on an event loop while another greenlet holds it: in production the loop would stand still."""


@dataclass(slots=True)
class Machine:
    """A host: its clock may be wrong, and its processes fall together."""

    name: str
    skew_s: float = 0.0
    """How far its wall clock is ahead."""
    boots: int = 0
    """How often its power was lost."""


@dataclass(slots=True, eq=False)
class Process:
    """One simulated process. `begin` composes it anew, as a supervisor would start it."""

    name: str
    machine: Machine
    timeline: Timeline
    begin: Callable[[], None]
    life: int = 0
    """How often it was started; what belongs to an earlier life is dropped."""
    alive: bool = False
    frozen_until_s: float = 0.0
    killed_at_step: int = -1
    """Steps until it is killed; below 0: it is not to be."""
    kills_after: bool = False
    """Whether that step is done before the kill, its answer lost; else the kill comes first."""
    threads: list[greenlet] = field(default_factory=list)

    def start(self) -> None:
        """A new life."""
        self.life, self.alive, self.frozen_until_s, self.killed_at_step = self.life + 1, True, 0.0, -1
        self.spawn(self.begin)

    def kill(self) -> None:
        """As SIGKILL does: nothing of it goes on. May be called by one of its own greenlets, which ends by `Killed`."""
        if not self.alive:
            return
        self.alive = False
        dying, self.threads = self.threads, []
        me = getcurrent()
        was = self.timeline.current
        for thread in dying:
            if thread is not me and not thread.dead and thread:
                self.timeline.current = self
                thread.parent = me
                with_no_effect(thread)
        self.timeline.current = was
        if me in dying:
            raise Killed

    def spawn(self, work: Callable[[], Any]) -> None:
        """Run `work` in a greenlet of its own, beginning at this instant."""
        self.timeline.at(self.timeline.now_s, lambda: self.timeline.enter(self, work), self)


def with_no_effect(thread: greenlet) -> None:
    """Unwind a greenlet."""
    try:
        thread.throw(Killed)
    except BaseException:  # whatever its `finally` blocks raise: the process is gone
        return


class Timeline:
    """Virtual time, and what is to happen when."""

    def __init__(self, seed: int) -> None:
        self.now_s = START_S
        self.dice = random.Random(f"order {seed}")
        """Draws the order and the delays of steps."""
        self.current: Process | None = None
        """Whose code runs."""
        self.hub = getcurrent()
        self.events = 0
        self.steps = 0
        """Calls of ports so far."""
        self.failure: BaseException | None = None
        self.on_death: Callable[[Process], None] = lambda process: None
        """Hears of every process that is killed at one of its steps."""
        self._heap: list[tuple[float, float, int, Callable[[], Any], Process | None, int]] = []
        self._number = 0
        self._notes: list[str] = []

    def at(self, at_s: float, act: Callable[[], Any], process: Process | None = None) -> None:
        """Let `act` happen at a time, as part of this life of the process; of what happens at the same time the dice draw the order."""
        self._number += 1
        life = process.life if process is not None else 0
        heapq.heappush(self._heap, (at_s, self.dice.random(), self._number, act, process, life))

    def run(self, until_s: float, *, stop: Callable[[], bool] = lambda: False) -> None:
        """Let happen what is due by then. Raises: what a check raised."""
        while self._heap and self._heap[0][0] <= until_s:
            at_s, order, number, act, process, life = heapq.heappop(self._heap)
            if process is not None:
                if not process.alive or process.life != life:
                    continue
                if process.frozen_until_s > at_s:
                    heapq.heappush(self._heap, (process.frozen_until_s, order, number, act, process, life))
                    continue
            self.now_s = max(self.now_s, at_s)
            self.events += 1
            self.current = process
            act()
            self.current = None
            if self.failure is not None:
                raise self.failure
            if stop():
                return
        self.now_s = max(self.now_s, until_s)

    def note(self, words: str) -> None:
        """Add to what two runs of a seed are compared by."""
        self._notes.append(f"{self.now_s:.6f} {words}")

    def digest(self) -> str:
        """Of all that was noted."""
        return blake2b("\n".join(self._notes).encode(), digest_size=8).hexdigest()

    # ---- inside processes ----------------------------------------------------------------------------------------------

    def enter(self, process: Process, work: Callable[[], Any]) -> None:
        """Begin a greenlet of the process."""

        def run() -> None:
            try:
                work()
            except Killed:
                pass
            except BaseException as error:  # whatever ends a thread is a failure of the world, unless the process has ended
                if process.alive and self.failure is None:
                    self.failure = error

        thread = greenlet(run, parent=self.hub)
        process.threads = [t for t in process.threads if not t.dead]
        process.threads.append(thread)
        thread.switch()

    @property
    def may_wait(self) -> bool:
        """Whether this is a greenlet of a process, and not the hub or a callback of an event loop."""
        return getcurrent() is not self.hub

    def wait(self) -> None:
        """Give the turn away until somebody resumes this greenlet. Raises: Killed."""
        process = self.current
        assert process is not None
        assert self.may_wait, "only threads of processes can wait"
        if not process.alive:
            raise Killed
        self.hub.switch()
        if not process.alive:
            raise Killed

    def resumes(self) -> Callable[[], None]:
        """What lets this greenlet go on, at once when it is called by the hub; to be called once."""
        me, process = getcurrent(), self.current
        assert process is not None

        def resume() -> None:
            if not me.dead:
                self.current = process
                me.switch()

        return resume

    def sleep(self, seconds: float) -> None:
        """Let time pass for this greenlet."""
        self.at(self.now_s + max(0.0, seconds), self.resumes(), self.current)
        self.wait()

    def wall_s(self) -> float:
        """Unix time, as the machine of whoever asks has it."""
        return self.now_s + (self.current.machine.skew_s if self.current is not None else 0.0)

    @contextmanager
    def step(self, what: str, latency_s: float) -> Generator[None]:
        """One call of a port: time passes, then its effect happens in the block; the process may be killed before or after it.

        Raises: Killed.
        """
        process = self.current
        assert process is not None
        if not process.alive:
            raise Killed
        self.steps += 1
        if self.may_wait:
            self.sleep(latency_s)
        kills = process.killed_at_step == 0
        process.killed_at_step -= process.killed_at_step >= 0
        if kills and not process.kills_after:
            self._kill(process, "killed before", what)
        self.note(what)
        yield
        if kills:
            self._kill(process, "killed after", what)

    def _kill(self, process: Process, when: str, what: str) -> None:
        self.note(f"{process.name} {when} {what}")
        self.on_death(process)
        process.kill()
        raise Killed
