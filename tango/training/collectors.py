"""Processes that play: a unit of work is the same in any of them, and units come back in order, so that their number changes nothing.

Torch computes on one thread in each. What goes to them and comes back is arrays.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch

from tango.sim.processes import end_processes, end_with_parent, uninterrupted

_Unit = TypeVar("_Unit")
_Played = TypeVar("_Played")


class Collectors:
    """So many processes, started with the first work for them; with one job all is done here."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        torch.set_num_threads(1)

    def map(self, play: Callable[[_Unit], _Played], units: Sequence[_Unit]) -> list[_Played]:
        """What `play`, a function of a module, gives for each unit."""
        if self._jobs == 1 or len(units) == 1:
            return [play(unit) for unit in units]
        with uninterrupted():  # the first submissions start the processes
            if self._pool is None:
                self._pool = ProcessPoolExecutor(self._jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)
            under_way = [self._pool.submit(play, unit) for unit in units]
        return [future.result() for future in under_way]

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            end_processes(self._pool)
            self._pool = None


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)
