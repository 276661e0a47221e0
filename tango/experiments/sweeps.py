"""Runs many cells on this machine: some processes, each cell kept as soon as it is done.

A result is a file under its cell's key, written whole or not at all by the process that made it. A sweep that is killed and started
again finds what was finished. Cells whose policies are functions of the caller's are simulated in this process and not kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tango.analysis.comparison import CellResult
from tango.errors import TangoError, UsageError
from tango.experiments.cells import NO_POLICIES, Cell, OwnPolicies, run_cell
from tango.experiments.processes import process_pool, uninterrupted
from tango.files import made_folder, write_whole
from tango.sim.warm import warm_up

Done = Callable[[Cell, CellResult, bool], None]
"""Called for each finished cell; the last says whether it was found finished."""
NONE_OWN: Mapping[int, OwnPolicies] = MappingProxyType({})


class KeptResults:
    """Finished cells in a folder."""

    def __init__(self, folder: Path, *, forget: bool = False) -> None:
        self._folder = folder
        self._forget = forget

    def find(self, key: str) -> CellResult | None:
        """The result under a key; a file that cannot be read counts as none."""
        if self._forget:
            return None
        try:
            return CellResult.from_dict(json.loads((self._folder / f"{key}.json").read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, UsageError):
            return None

    def keep(self, result: CellResult) -> None:
        """Write a result, whole or not at all. Raises: FileUnusable."""
        made_folder(self._folder, mode=0o700)
        write_whole(self._folder / f"{result.key}.json", json.dumps(result.as_dict(), separators=(",", ":")))


class StandingProcesses:
    """Processes that stay from one call of `run_cells` to the next, of which each would load the engine anew otherwise.

    A block, for the main thread; they start with the first call that needs several, and end with the block.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._until_over = ExitStack()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> StandingProcesses:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._until_over.__exit__(*raised)

    def pool(self) -> ProcessPoolExecutor:
        """The processes, which run from now on."""
        if self._pool is None:
            self._pool = self._until_over.enter_context(process_pool(self.count, __name__))
        return self._pool


def run_cells(
    cells: Sequence[Cell],
    *,
    processes: int | StandingProcesses = 1,
    kept: KeptResults | None = None,
    done: Done | None = None,
    own: Mapping[int, OwnPolicies] = NONE_OWN,
) -> list[CellResult]:
    """The results of all cells, in their order. `own` has the functions of the caller's that decide, by the place of their cell.

    Raises: the first error of a cell; what was finished by then is kept.
    """
    results: dict[int, CellResult] = {}
    missing: list[int] = []
    for k, cell in enumerate(cells):
        found = kept.find(cell.key()) if kept and k not in own else None
        if found is None:
            missing.append(k)
            continue
        results[k] = found
        if done:
            done(cell, found, True)
    for k, result in _made(cells, missing, processes, kept, own):
        results[k] = result
        if done:
            done(cells[k], result, False)
    return [results[k] for k in range(len(cells))]


def _made(
    cells: Sequence[Cell],
    missing: Sequence[int],
    processes: int | StandingProcesses,
    kept: KeptResults | None,
    own: Mapping[int, OwnPolicies],
) -> Iterator[tuple[int, CellResult]]:
    here = [k for k in missing if k in own]
    away = [k for k in missing if k not in own]
    count = processes if isinstance(processes, int) else processes.count
    if count <= 1 or len(away) <= 1:
        here, away = list(missing), []
    if not away:
        yield from ((k, _run_and_keep(cells[k], kept, own.get(k, NO_POLICIES))) for k in here)
        return
    warm_up()  # else every process would compile the engine for itself
    with ExitStack() as until_made:
        if isinstance(processes, int):
            pool = until_made.enter_context(process_pool(min(count - bool(here), len(away)), __name__))
        else:
            pool = processes.pool()
        with uninterrupted():
            under_way = {pool.submit(_in_process, cells[k], kept): k for k in away}
        yield from ((k, _run_and_keep(cells[k], kept, own.get(k, NO_POLICIES))) for k in here)
        while under_way:
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                k, made = under_way.pop(future), _result(future)
                if isinstance(made, tuple):
                    raise CellFailed(*made)
                yield k, made


def _result(future: Future[CellResult | tuple[str, int]]) -> CellResult | tuple[str, int]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        # Each process imports the program that began this one, to know its names. Without the line it would begin the same once more.
        raise CellFailed(
            "a process that simulates ended before its result was there: it was killed, or the script that began this lacks the line "
            'if __name__ == "__main__": above what it does, which several processes need',
            TangoError.exit_status,
        ) from error


class CellFailed(TangoError):
    """A cell that another process could not run: its message, and the exit status of the error there."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def _in_process(cell: Cell, kept: KeptResults | None) -> CellResult | tuple[str, int]:
    """The result, or message and exit status: errors with data of their own do not come through between processes."""
    try:
        return _run_and_keep(cell, kept)
    except TangoError as error:
        return f"{cell.scenario}, {cell.system.name}, seed {cell.seed}: {error}", error.exit_status


def _run_and_keep(cell: Cell, kept: KeptResults | None, own: OwnPolicies = NO_POLICIES) -> CellResult:
    result = run_cell(cell, own=own)
    if kept and result.key:
        kept.keep(result)
    return result
