"""The worker's side of a sweep: claim a simulated run, compute its cell, keep the result.

The row decides and a message only says where to look, so that a message may come twice, late or never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from tango.analysis.comparison import CellResult
from tango.control.run_figures import stored_figures
from tango.domain.simulations import ClaimedSimulation, SimulatedRows
from tango.errors import Fenced, StoreError, StoreUnavailable, TangoError
from tango.ports.simulations import SimulationStore
from tango.settings import LeaseSettings

log = structlog.get_logger(__name__)

MOST_CLAIMS = 4
"""Claims of one cell, after which it fails: a cell that kills its worker each time (out of memory) would kill them all in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """The result of computing a cell."""

    result: CellResult
    rows: SimulatedRows | None
    """Rows as a live run would have left them; None where they are not to be kept."""


class Compute(Protocol):
    """Computes a claimed cell. It must call `stands` every few seconds, which raises Fenced when the claim no longer holds."""

    def __call__(self, claim: ClaimedSimulation, stands: Callable[[], None]) -> Simulated:
        """Raises: whatever a simulation raises."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationWorker:
    """Computes the cells of sweeps, one message at a time."""

    store: SimulationStore
    compute: Compute
    settings: LeaseSettings
    owner: str
    """This process, as leases name it."""

    def work(self, run_id: int) -> dict[str, int | str]:
        """Claim one run, compute its cell, keep the result; a second delivery of the message finds nothing to claim."""
        # The lease is that of a placement: work of seconds to minutes, whose worker may be away for a while.
        claim = self.store.claim(run_id, owner=self.owner, lease_s=self.settings.placement_s, most_claims=MOST_CLAIMS)
        if claim is None:
            return {"run": run_id, "claimed": 0}
        return {"run": run_id, "claimed": 1, "status": self._computed(claim)}

    def _computed(self, claim: ClaimedSimulation) -> str:
        """What became of a claimed run: completed, late (somebody else completed it first), failed or left."""
        with self._lease_kept(claim) as lost:

            def stands() -> None:
                if lost.is_set():
                    raise Fenced(f"run {claim.run_id} was cancelled, or somebody newer has claimed it")

            try:
                found = self.compute(claim, stands)
            except Fenced as error:
                log.warning("simulation_left", run_id=claim.run_id, reason=str(error))
                return "left"
            # The edge of a task: whatever a policy or a trace raises is the end of this run, and not of the worker.
            except Exception as error:
                log.warning("simulation_failed", run_id=claim.run_id, exc_info=not isinstance(error, TangoError))
                self.store.fail(claim, str(error) if isinstance(error, TangoError) else f"{type(error).__name__}: {error}")
                return "failed"
            result = found.result
            counted = self.store.finish(
                claim, result=result.as_dict(), figures=stored_figures(claim.run_id, result), rows=found.rows
            )
        log.info("simulated", run_id=claim.run_id, counted=counted, system=result.system, took_s=result.figures["wall_s"])
        return "completed" if counted else "late"

    @contextmanager
    def _lease_kept(self, claim: ClaimedSimulation) -> Iterator[threading.Event]:
        """Renew the lease in a thread, four times per lease; gives an event that is set when the claim no longer holds."""
        lease_s = self.settings.placement_s
        over, lost = threading.Event(), threading.Event()

        def renew() -> None:
            while not over.wait(lease_s / 4):
                try:
                    if not self.store.renew(claim, lease_s=lease_s):
                        lost.set()
                        return
                except (StoreUnavailable, StoreError) as error:
                    log.warning("lease_not_renewed", run_id=claim.run_id, error=str(error))
                except Exception:  # the next quarter of the lease brings another try
                    log.exception("lease_not_renewed", run_id=claim.run_id)

        thread = threading.Thread(target=renew, name=f"lease-{claim.run_id}", daemon=True)
        thread.start()
        try:
            yield lost
        finally:
            over.set()
            thread.join(lease_s)  # a renewal that takes longer than the lease changes nothing any more
