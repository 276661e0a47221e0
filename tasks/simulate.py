"""Cells of a comparison; queue `simulate`."""

from __future__ import annotations

from workers.app import app
from workers.queues import SIMULATE
from workers.roles import simulation_worker


@app.task(name="tango.simulate", queue=SIMULATE, max_retries=0)
def simulate(run_id: int) -> dict[str, int | str]:
    """Claim a simulated run, compute its cell, and keep figures and result, unless somebody has it already."""
    return simulation_worker().work(run_id)
