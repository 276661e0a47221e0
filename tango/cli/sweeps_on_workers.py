"""`tango compare --on celery`: cells become runs in the stack's database, which workers of the queue `simulate` compute."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tango.cli.output import say
from tango.domain.checkpoints import SHORT
from tango.errors import TangoError

if TYPE_CHECKING:
    from tango.analysis.comparison import CellResult
    from tango.bootstrap.stores import Stores
    from tango.domain.simulations import NewSimulation, SimulationState
    from tango.experiments.cells import Cell
    from tango.experiments.sweeps import Done, KeptResults

WORKER = "celery -A workers.app worker -n simulator@%h -Q simulate --pool solo"
IN_SCENARIO = {("sim", "beta"), ("sim", "staleness_s")}
"""Settings that the variation of a cell names."""


def run_on_workers(cells: Sequence[Cell], *, record: bool, fresh: bool, kept: KeptResults, done: Done) -> list[CellResult]:
    """The results of all cells, in their order. What is finished, here or in the database, is not run again; what is under way is
    awaited.

    Raises: TangoError when cells failed, with why; the others have been waited for and are kept.
    """
    from tango.bootstrap.stores import stores
    from tango.control.sweeps import await_sweep, start_sweep
    from workers.app import app
    from workers.publisher import CeleryPublisher

    here = stores()
    # Rows are in the database alone: for them a result that lies in the folder is not enough.
    results = {} if record else {k: found for k, cell in enumerate(cells) if (found := kept.find(cell.key())) is not None}
    for k, found in results.items():
        done(cells[k], found, True)
    wanted = [k for k in range(len(cells)) if k not in results]
    _register_checkpoints([cells[k] for k in wanted], here)
    ordered = [_ordered(cells[k]) for k in wanted]
    publisher = CeleryPublisher(app)
    opened = start_sweep(ordered, record=record, forget=fresh, store=here.simulations, publisher=publisher)
    rows: dict[int, list[int]] = {}
    for k, run in zip(wanted, opened, strict=True):
        rows.setdefault(run.run_id, []).append(k)
    new = {run.run_id for run in opened if run.is_new}
    finished = {state.run_id for state in here.simulations.states(list(rows)) if state.ended} - new
    _say_what_is_ordered(rows, new, finished)
    failures: list[str] = []

    def ended(state: SimulationState) -> None:
        for k in rows.pop(state.run_id):
            result = _result(here, state.run_id, cells[k])
            if result is None:
                failures.append(f"{cells[k].system.name}, seed {cells[k].seed} (run {state.run_id}): {_why(state)}")
                continue
            kept.keep(result)
            results[k] = result
            done(cells[k], result, state.run_id in finished)

    try:
        await_sweep(
            list(rows),
            store=here.simulations,
            publisher=publisher,
            sleep=time.sleep,
            settings=here.settings.lease,
            ended=ended,
            nobody=lambda: say(
                "no worker has taken a cell yet. Start some with `tango up --simulators N`, or on any host that reaches the database and "
                f"the broker (`tango env` prints their addresses): {WORKER}"
            ),
        )
    except KeyboardInterrupt:
        say("the cells go on without this command; the same command again waits for them")
        raise
    failures += [f"run {run_id} was deleted" for run_id in rows]
    if failures:
        raise TangoError(f"{len(failures)} of {len(cells)} cells failed; the others are kept:\n" + "\n".join(failures))
    return [results[k] for k in range(len(cells))]


def _register_checkpoints(cells: Sequence[Cell], here: Stores) -> None:
    """Put the cells' checkpoints into the registry: a worker on another host has no file of this one."""
    from tango.control.checkpoints import register_checkpoint

    wanted = {cell.checkpoint.digest: cell.checkpoint.path for cell in cells if cell.checkpoint is not None}
    known = {stored.digest for stored in here.checkpoints.registered() if stored.size_bytes} if wanted else set()
    for digest, path in wanted.items():
        if digest not in known:
            register_checkpoint(Path(path), store=here.checkpoints, note="for a comparison on workers")


def _ordered(cell: Cell) -> NewSimulation:
    """The cell as the database takes it. Trace files are named in full: a worker stands in another folder."""
    from tango.domain.simulations import NewSimulation
    from tango.experiments.cells import fleet_of
    from tango.traces.workloads import is_pattern

    def absolute(source: tuple[str, ...]) -> tuple[str, ...]:
        return source if is_pattern(source) else tuple(str(Path(path).absolute()) for path in source)

    workload = dataclasses.replace(cell.workload, lc=absolute(cell.workload.lc), be=absolute(cell.workload.be))
    cell = dataclasses.replace(cell, workload=workload)
    fleet = fleet_of(cell.fleet)
    return NewSimulation(
        key=cell.key(),
        cell=cell.as_dict(),
        name=cell.scenario,
        system=cell.system.name,
        fleet=fleet.name,
        fleet_hash=fleet.source_hash,
        seed=cell.seed,
        trace_source=trace_source(cell),
        span_s=workload.duration_s,
        settings=cell.as_dict()["settings"],
    )


def trace_source(cell: Cell) -> str:
    """The scenario in full: its label, the duration, and every setting that its variation leaves out."""
    others = {
        f"{group}.{name}": value
        for group, values in sorted(cell.settings.items())
        for name, value in sorted(values.items())
        if not (cell.variation and (group, name) in IN_SCENARIO)
    }
    if cell.checkpoint is not None:
        others["checkpoint"] = cell.checkpoint.digest[:SHORT]
    return " ".join(
        [cell.scenario, f"{cell.workload.duration_s:g}s", *(f"{name}={_shown(value)}" for name, value in others.items())]
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _result(here: Stores, run_id: int, cell: Cell) -> CellResult | None:
    from tango.analysis.comparison import CellResult

    found = here.simulations.result(run_id)
    return None if found is None else dataclasses.replace(CellResult.from_dict(found), key=cell.key())


def _why(state: SimulationState) -> str:
    return state.failure or f"it was {state.status}"


def _say_what_is_ordered(rows: dict[int, list[int]], new: set[int], finished: set[int]) -> None:
    if not rows:
        return
    waiting = len(rows) - len(new) - len(finished)
    parts = [f"{len(new)} cells ordered as runs {min(new)} to {max(new)}" if new else "no cell is new"]
    parts += [f"{waiting} are under way already"] if waiting else []
    say(", ".join(parts))
