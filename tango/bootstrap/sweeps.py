"""What sweeps on workers need, on the side of the command and on that of a worker."""

from __future__ import annotations

import time

from tango.bootstrap.stores import Stores
from tango.control.simulation_worker import Compute, SimulationWorker
from tango.control.sweeps import ResultFolder, Sweep
from tango.ports.messages import Publisher


def sweep_of(here: Stores, publisher: Publisher, kept: ResultFolder) -> Sweep:
    """Sweeps on the workers of this stack."""
    return Sweep(
        simulations=here.simulations,
        checkpoints=here.checkpoints,
        publisher=publisher,
        kept=kept,
        settings=here.settings.lease,
        sleep=time.sleep,
    )


def simulation_worker_of(here: Stores, compute: Compute) -> SimulationWorker:
    """The simulator of this process."""
    return SimulationWorker(store=here.simulations, compute=compute, settings=here.settings.lease, owner=here.owner)
