"""Requests that fit nowhere keep nobody behind them waiting, and the oldest still come first."""

from __future__ import annotations

from collections.abc import Callable

from tango.control.be_turns import BeTurns
from tango.domain.lifecycle import Event
from tests.fakes.control_world import ControlWorld, control_world
from tests.fakes.store_world import BATCH

LIMIT = 2


def cycles(world: ControlWorld, turns: BeTurns, count: int, fits: Callable[[int], bool]) -> list[list[int]]:
    """The requests that each cycle looked at; those that fit are withdrawn, as if they had been placed."""
    looked_at = []
    for _ in range(count):
        read = world.requests.pending_be(limit=LIMIT, behind=turns.behind)
        ids = read.pending.request_id.tolist()
        placed = [k for k in ids if fits(k)]
        for k in placed:
            row = world.row(int(read.pending.run_id[0]), k)
            world.state.happens(row, Event.PLACE)
        turns.end(read.reached, is_full=len(ids) >= LIMIT, is_any_left=len(placed) < len(ids))
        looked_at.append(ids)
    return looked_at


def test_every_other_cycle_goes_on_behind_what_fits_nowhere() -> None:
    """To the last, and from behind the oldest again; each time the oldest come in between."""
    world = control_world()
    world.pending(*[BATCH] * 7)

    looked_at = cycles(world, BeTurns(), 8, lambda k: False)

    assert looked_at == [[0, 1], [2, 3], [0, 1], [4, 5], [0, 1], [6], [0, 1], [2, 3]]


def test_what_fits_behind_what_does_not_is_placed() -> None:
    """Within as many cycles as its place asks for."""
    world = control_world()
    world.pending(*[BATCH] * 6)

    looked_at = cycles(world, BeTurns(), 5, lambda k: k >= 2)

    assert looked_at == [[0, 1], [2, 3], [0, 1], [4, 5], [0, 1]]


def test_while_the_oldest_find_nodes_nobody_goes_before_them() -> None:
    """And a cycle that saw all there is has nothing behind it."""
    world = control_world()
    world.pending(*[BATCH] * 5)
    turns = BeTurns()

    looked_at = cycles(world, turns, 3, lambda k: k < 4)

    assert looked_at == [[0, 1], [2, 3], [4]]
    assert turns.behind == {}
