"""What `tango compare --on celery` says while the workers of the queue `simulate` compute its cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tango.cli.output import say
from tango.cli.publishing import publisher

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult
    from tango.control.sweeps import SweepOrder
    from tango.experiments.cells import Cell
    from tango.experiments.sweeps import Done, KeptResults

WORKER = "celery -A workers.app worker -n simulator@%h -Q simulate --pool solo"
"""Pool `solo`: a worker computes one cell at a time in its own process, so that a host takes as many workers as it has cores to give."""


def run_on_workers(cells: Sequence[Cell], *, record: bool, fresh: bool, kept: KeptResults, done: Done) -> list[CellResult]:
    """The results of all cells, in their order. Raises: as `Sweep.order` and `Sweep.results`."""
    from tango.bootstrap.stores import stores
    from tango.bootstrap.sweeps import sweep_of
    from tango.experiments.cells_on_workers import ordered

    sweep = sweep_of(stores(), publisher(), kept)
    order = sweep.order([ordered(cell) for cell in cells], record=record, forget=fresh)
    _say_what_is_ordered(order)
    try:
        return sweep.results(order, done=lambda k, result, before: done(cells[k], result, before), nobody=_say_what_to_start)
    except KeyboardInterrupt:
        say("the cells go on without this command; the same command again waits for them")
        raise


def _say_what_is_ordered(order: SweepOrder) -> None:
    if not order.awaited:
        return
    parts = [
        f"{len(order.new)} cells ordered as runs {min(order.new)} to {max(order.new)}" if order.new else "no cell is new",
    ]
    parts += [f"{order.under_way} are under way already"] if order.under_way else []
    say(", ".join(parts))


def _say_what_to_start() -> None:
    say(
        "no worker has taken a cell yet. Start some with `tango up --simulators N`, or on any host that reaches the database and "
        f"the broker (`tango env` prints their addresses): {WORKER}"
    )
