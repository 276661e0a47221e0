"""A pool of processes that run episodes. A unit of work gives the same result in any of them, and results come back in order, so that the
number of processes changes nothing in a training.

Torch computes on one thread in each process. Units and results are made of arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import torch

from tango.errors import TangoError
from tango.experiments.processes import end_processes, end_with_parent, fork_context, uninterrupted

LOADED = "tango.training.learners"
"""What processes that run episodes have imported when they begin: torch, the engine, and every learner."""
_Unit = TypeVar("_Unit")
_Played = TypeVar("_Played")


class PlayFailed(TangoError):
    """An episode failed in another process: the message, and the exit status of the error there."""

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class Collectors:
    """So many processes, started with the first work for them; with one job all is done here."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None
        torch.set_num_threads(1)

    def map(
        self, play: Callable[[_Unit], _Played], units: Sequence[_Unit], done_one: Callable[[], None] = lambda: None
    ) -> list[_Played]:
        """What `play`, a function of a module, gives for each unit; `done_one` is called after each. Raises: PlayFailed when a process
        cannot, or has died."""
        done: list[_Played] = []
        if self._jobs == 1 or len(units) == 1:
            for unit in units:
                done.append(play(unit))
                done_one()
            return done
        if self._pool is None:
            done.append(play(units[0]))  # here first, so that not every process compiles for itself
            done_one()
            self._pool = ProcessPoolExecutor(self._jobs, mp_context=fork_context(LOADED), initializer=_begin)
        try:
            with uninterrupted():  # the first submissions start the processes
                under_way = [self._pool.submit(_played, play, unit) for unit in units[len(done) :]]
            for future in under_way:
                found, failure = future.result()
                if failure is not None:
                    raise PlayFailed(*failure)
                assert found is not None
                done.append(found)
                done_one()
        except BrokenProcessPool as error:
            raise PlayFailed("a process that runs episodes has died (killed, or out of memory); continue with --resume") from error
        return done

    def close(self) -> None:
        """Stop the processes."""
        if self._pool is not None:
            end_processes(self._pool)
            self._pool = None


def _begin() -> None:
    end_with_parent()
    torch.set_num_threads(1)


def _played(play: Callable[[_Unit], _Played], unit: _Unit) -> tuple[_Played | None, tuple[str, int] | None]:
    """What was played, or message and exit status: errors with data of their own do not come through between processes."""
    try:
        return play(unit), None
    except TangoError as error:
        return None, (str(error), error.exit_status)
