"""A repeated step goes on whatever it raises, and tells of what is broken."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tango.control.repeating import Repeating, RepeatingEach
from tango.errors import StoreUnavailable
from tests.waiting import WITHIN_S

Make = Callable[..., Repeating]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes them, and stops them with the test."""
    made: list[Repeating] = []

    def make(step: Callable[[], float], **options: float) -> Repeating:
        made.append(Repeating("test", step, **options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


class Steps:
    """Steps with these ends, in order, then none for a long time; an exception is raised, a number is the wait."""

    def __init__(self, *ends: float | Exception) -> None:
        self._ends = list(ends)
        self.at_s: list[float] = []
        self.done = threading.Event()

    def __call__(self) -> float:
        """One step."""
        self.at_s.append(time.monotonic())
        if not self._ends:
            self.done.set()
            return 60.0
        end = self._ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end


def test_a_step_is_called_again_after_the_wait_that_it_asks_for(make: Make) -> None:
    """Not before, and at once where it asks for none."""
    steps = Steps(0.05, 0.0)

    make(steps)

    assert steps.done.wait(WITHIN_S)
    first, second, third = steps.at_s
    assert second - first >= 0.05
    assert third - second < 1.0


def test_what_is_away_is_tried_again_after_a_pause(make: Make) -> None:
    """An error of Tango's own is no defect."""
    steps = Steps(StoreUnavailable("away"), StoreUnavailable("away"))

    repeating = make(steps, longest_pause_s=0.05)

    assert steps.done.wait(WITHIN_S)
    assert repeating.broken == 0
    assert min(b - a for a, b in zip(steps.at_s, steps.at_s[1:], strict=False)) >= 0.025


def test_a_defect_is_counted_and_ends_nothing(make: Make) -> None:
    """A dead thread would stop the releases of a cluster without a word."""
    steps = Steps(KeyError("?"), 0.0, ValueError("?"))

    repeating = make(steps, longest_pause_s=0.01)

    assert steps.done.wait(WITHIN_S)
    assert repeating.broken == 2
    assert repeating.progressed_at_s >= steps.at_s[0]


def test_stopping_does_not_wait_for_the_next_step(make: Make) -> None:
    """However long the step asked to wait."""
    steps = Steps()
    repeating = make(steps)
    assert steps.done.wait(WITHIN_S)
    began_s = time.monotonic()

    repeating.stop()

    assert time.monotonic() - began_s < 30.0  # the step asked for 60
    assert len(steps.at_s) == 1


# ---- for several members -----------------------------------------------------------------------------------------------


@pytest.fixture
def each() -> Iterator[RepeatingEach]:
    """Two threads for all members."""
    each = RepeatingEach("test", threads=2)
    each.start()
    yield each
    each.stop()


def test_each_member_has_its_own_pace(each: RepeatingEach) -> None:
    """One that fails waits out its own pauses, and the others do not."""
    quick, failing = Steps(*[0.01] * 20), Steps(*[StoreUnavailable("away")] * 20)

    each.add("quick", quick)
    each.add("failing", failing)

    assert quick.done.wait(WITHIN_S)
    assert 1 <= len(failing.at_s) < 5


def test_a_member_that_hangs_delays_the_others_little(each: RepeatingEach) -> None:
    """The next thread goes on with them, and the one that hangs is not called a second time meanwhile."""
    goes_on, calls, others = threading.Event(), list[float](), Steps(*[0.01] * 20)

    def hang() -> float:
        calls.append(time.monotonic())
        goes_on.wait(WITHIN_S)
        return 60.0

    each.add("hanging", hang)
    each.add("others", others)
    is_done = others.done.wait(WITHIN_S)
    called = len(calls)
    goes_on.set()

    assert is_done
    assert called == 1
    assert max(b - a for a, b in itertools.pairwise(others.at_s)) < 1.0


def test_a_member_that_was_removed_is_not_called_any_more(each: RepeatingEach) -> None:
    """Also where it was in a call just then; one that comes back begins at once, with its new step."""
    begun, goes_on = threading.Event(), threading.Event()
    before, after = list[int](), Steps()

    def step() -> float:
        before.append(1)
        begun.set()
        goes_on.wait(WITHIN_S)
        return 0.0

    each.add("one", step)
    assert begun.wait(WITHIN_S)
    each.remove("one")
    each.add("one", after)
    goes_on.set()

    assert after.done.wait(WITHIN_S)
    assert before == [1]
