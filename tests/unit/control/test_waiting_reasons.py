"""How many BE requests wait for which reason, as a gauge."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tango.control.waiting_reasons import COUNT_EVERY_S, MOST_KINDS, WaitingReasons
from tango.domain.placement_question import PlacementQuestion
from tango.domain.shares import LcWait
from tango.telemetry import tallies
from tango.telemetry.catalogue import WAITING
from tango.telemetry.slots import read_slots
from tests.fakes.waiting_worlds import fleet, place, waiting

BUT_MEMORY = {node: (0.0, 8192.0 - 100.0, 1.0) for node in range(4)}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where this process counts."""
    tallies.end()
    assert tallies.begin(str(tmp_path)) is not None
    yield tmp_path
    tallies.end()


def gauges(folder: Path) -> dict[str, float]:
    """What a scrape would read, without series that are 0."""
    found = {labels[0]: values[0] for metric, labels, values, _ in read_slots(folder) if metric.name == WAITING.name}
    return {reason: value for reason, value in found.items() if value}


class Ticking:
    """A clock by hand."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_those_left_waiting_are_counted_by_the_reason_that_explain_tells(folder: Path) -> None:
    """Two lack memory that nobody has free, one fits no node, and one that was placed is not counted."""
    question = PlacementQuestion(pending=waiting(100, 256, 300, 9000), snapshot=fleet(held=BUT_MEMORY))
    node = place(question)
    assert node.tolist()[1:] == [-1, -1, -1]

    WaitingReasons().note(question, node)

    assert gauges(folder) == {"WaitingForMemory": 2.0, "FitsNoNode": 1.0}


def test_who_is_behind_others_or_behind_lc_is_counted_so(folder: Path) -> None:
    """One node has room for one of two, which the first takes; and where LC waits in every cluster, for LC."""
    held = BUT_MEMORY | {0: (0.0, 8192.0 - 256.0, 1.0)}
    question = PlacementQuestion(pending=waiting(256, 256), snapshot=fleet(held=held))
    crowded = PlacementQuestion(
        pending=waiting(256), snapshot=fleet(), waits={c: LcWait(late=9, under_way=9) for c in ("c1", "c2")},
        lc_late_share=0.1, lc_first_s=60.0,
    )  # fmt: skip
    reasons = WaitingReasons(monotonic=(clock := Ticking()))

    reasons.note(question, place(question))
    assert gauges(folder) == {"BehindInQueue": 1.0}
    clock.now_s += COUNT_EVERY_S
    reasons.note(crowded, np.array([-1], np.int32))
    assert gauges(folder) == {"LcFirst": 1.0}


def test_they_are_counted_now_and_then_and_are_none_when_nothing_waits(folder: Path) -> None:
    """A second look within the time changes nothing; that nothing waits is told at once, and what waits then too."""
    full = PlacementQuestion(pending=waiting(256, 256), snapshot=fleet(held=BUT_MEMORY))
    one = PlacementQuestion(pending=waiting(256), snapshot=fleet(held=BUT_MEMORY))
    reasons = WaitingReasons(monotonic=(clock := Ticking()))

    reasons.note(full, place(full))
    clock.now_s += COUNT_EVERY_S - 1
    reasons.note(one, place(one))
    assert gauges(folder) == {"WaitingForMemory": 2.0}
    reasons.nothing_waits()
    assert gauges(folder) == {}
    reasons.note(one, place(one))
    assert gauges(folder) == {"WaitingForMemory": 1.0}


def test_all_are_counted_where_each_is_of_a_kind_of_its_own(folder: Path) -> None:
    """Reasons are found for the commonest kinds, and the rest counts with the first of them."""
    sizes = [256 + n for n in range(MOST_KINDS + 20)]
    question = PlacementQuestion(pending=waiting(*sizes), snapshot=fleet(held=BUT_MEMORY))

    WaitingReasons().note(question, place(question))

    assert gauges(folder) == {"WaitingForMemory": float(len(sizes))}
