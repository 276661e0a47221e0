"""Cells of a comparison; queue `simulate`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace

from tango.bootstrap.stores import stores
from tango.control.sweeps import Simulated, simulate_claimed
from tango.domain.simulations import ClaimedSimulation, SimulatedRows
from tango.errors import UsageError
from workers.app import app
from workers.queues import SIMULATE


@app.task(name="tango.simulate", queue=SIMULATE, max_retries=0)
def simulate(run_id: int) -> dict[str, int | str]:
    """Claim a simulated run, compute its cell and store its result; do nothing if another worker holds it or it has ended."""
    here = stores()
    owner = f"{socket.gethostname()}:{os.getpid()}"
    return simulate_claimed(run_id, owner=owner, store=here.simulations, compute=_compute, settings=here.settings.lease)


def _compute(claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
    """Simulate the cell and compute its figures. Raises: UsageError where this worker would get another result than the key stands for."""
    # Imported here, since they load the engine, the solver and in part torch, which workers of other queues do not need.
    from tango.experiments.cells import Cell, evaluated, simulate_cell

    cell = Cell.from_dict(claim.cell)
    if cell.key() != claim.key:
        raise UsageError(
            "this worker would make another result than the command asks for: its version of Tango, its trace files or its checkpoints "
            f"differ (key {cell.key()[:12]}, expected {claim.key[:12]}). Bring them to the same state and start the worker again."
        )
    if cell.checkpoint is not None and cell.checkpoint.changed():
        from tango.bootstrap.checkpoint_files import file_here

        # The file lies on the host of the command; the registry has it for all others.
        cell = replace(cell, checkpoint=file_here(cell.checkpoint.digest, cell.checkpoint.policy, stores().checkpoints))
    run, requests = simulate_cell(cell, progress=lambda _share, _now_s: stands())
    rows = SimulatedRows(
        outcomes=run.outcomes, losses=run.losses, samples=run.samples, decisions=run.decisions, scaling=run.scaling
    )
    return Simulated(result=evaluated(cell, run, requests), rows=rows if claim.record else None)
