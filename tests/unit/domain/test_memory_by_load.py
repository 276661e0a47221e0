"""Memory of an LC request, from the memory of its instance beside the requests that it has in flight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tango.domain.memory_by_load import LEAST_DEGREES, MeasuredInstance, MemoryByLoad

RNG = np.random.default_rng(7)
MANY = 60


def sums(
    memory_of: Callable[[int, np.ndarray], np.ndarray], *, loads: np.ndarray | None = None, instances: int = 3
) -> MemoryByLoad:
    """Of so many samples of each instance; `memory_of` gives the memory of one by its number and its loads."""
    total = MemoryByLoad()
    for k in range(instances):
        instance = MeasuredInstance()
        load = RNG.integers(0, 12, MANY).astype(float) if loads is None else loads
        for x, y in zip(load, memory_of(k, load), strict=True):
            total += instance.sample(float(x), float(y))
    return total


def test_a_line_is_found_beneath_noise() -> None:
    """Six MiB a request on 80 of its own, give or take a few; instances whose own memory differs do not disturb it."""
    found = sums(lambda k, load: 80.0 + 40.0 * k + 6.0 * load + RNG.normal(0.0, 4.0, len(load))).line()

    assert found is not None
    assert found.per_request == pytest.approx(6.0, abs=0.5)
    assert found.idle == pytest.approx(120.0, abs=5.0)


def test_the_sums_are_those_of_least_squares() -> None:
    """Of one instance the same slope as numpy's, to the last digits."""
    load = RNG.integers(0, 20, 50).astype(float)
    memory = 30.0 + 2.5 * load + RNG.normal(0.0, 1.0, 50)

    found = sums(lambda k, x: memory, loads=load, instances=1).line()

    assert found is not None
    assert (found.per_request, found.idle) == pytest.approx(tuple(np.polyfit(load, memory, 1)))


@pytest.mark.parametrize(
    ("memory_of", "loads"),
    [
        (lambda k, load: 100.0 + RNG.normal(0.0, 3.0, len(load)), None),
        (lambda k, load: 100.0 - 2.0 * load, None),
        (lambda k, load: np.maximum.accumulate(100.0 + 6.0 * load), None),
        (lambda k, load: 100.0 + 10.0 * np.arange(len(load)) + 0.5 * load, None),
        (lambda k, load: 100.0 + 6.0 * load, np.full(MANY, 4.0)),
        (lambda k, load: 100.0 + 6.0 * load, np.arange(MANY) % 2 / 2.0),
    ],
    ids=["nothing to do with it", "falls", "never given back", "a leak", "no spread", "little spread"],
)
def test_what_the_samples_do_not_tell_is_not_told(
    memory_of: Callable[[int, np.ndarray], np.ndarray], loads: np.ndarray | None
) -> None:
    """Then what is declared, or assumed, stands."""
    assert sums(memory_of, loads=loads).line() is None


def test_instances_of_which_each_was_seen_once_say_nothing() -> None:
    """That one with more to do holds more may have another cause; so may few samples."""
    apart, few = MemoryByLoad(), MemoryByLoad()
    for k in range(200):
        apart += MeasuredInstance().sample(float(k % 10), 50.0 + 6.0 * (k % 10))
    instance = MeasuredInstance()
    for k in range(LEAST_DEGREES):
        few += instance.sample(float(k % 10), 50.0 + 6.0 * (k % 10))

    assert apart.line() is None
    assert few.line() is None
    assert (few + instance.sample(3.0, 68.0)).line() is not None
