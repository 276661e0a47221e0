"""Runs many cells on this machine: some processes, each cell kept as soon as it is done.

A result is a file under its cell's key, written whole or not at all by the process that made it. A sweep that is killed and started
again finds what was finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path

from tango.analysis.comparison import CellResult
from tango.errors import TangoError, UsageError
from tango.experiments.cells import Cell, run_cell
from tango.experiments.processes import process_pool, uninterrupted
from tango.files import made_folder, write_whole
from tango.sim.warm import warm_up

Done = Callable[[Cell, CellResult, bool], None]
"""Called for each finished cell; the last says whether it was found finished."""


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


def run_cells(
    cells: Sequence[Cell], *, processes: int = 1, kept: KeptResults | None = None, done: Done | None = None
) -> list[CellResult]:
    """The results of all cells, in their order. Raises: the first error of a cell; what was finished by then is kept."""
    results: dict[int, CellResult] = {}
    missing: list[int] = []
    for k, cell in enumerate(cells):
        found = kept.find(cell.key()) if kept else None
        if found is None:
            missing.append(k)
            continue
        results[k] = found
        if done:
            done(cell, found, True)
    for k, result in _made(cells, missing, processes, kept):
        results[k] = result
        if done:
            done(cells[k], result, False)
    return [results[k] for k in range(len(cells))]


def _made(
    cells: Sequence[Cell], missing: Sequence[int], processes: int, kept: KeptResults | None
) -> Iterator[tuple[int, CellResult]]:
    if processes <= 1 or len(missing) <= 1:
        for k in missing:
            yield k, _run_and_keep(cells[k], kept)
        return
    warm_up()  # else every process would compile the engine for itself
    with process_pool(min(processes, len(missing)), __name__) as pool:
        with uninterrupted():
            under_way = {pool.submit(_in_process, cells[k], kept): k for k in missing}
        while under_way:
            ended, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                k, made = under_way.pop(future), future.result()
                if isinstance(made, tuple):
                    raise CellFailed(*made)
                yield k, made


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


def _run_and_keep(cell: Cell, kept: KeptResults | None) -> CellResult:
    result = run_cell(cell)
    if kept:
        kept.keep(result)
    return result
