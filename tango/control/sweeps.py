"""Sweeps on workers: the cells of a comparison become simulated runs, workers claim and compute them, the command waits.

    start_sweep ─► rows (PostgreSQL) ─► messages with run ids ─► simulate_claimed: claim ─► compute ─► result, figures, rows
    await_sweep ◄─────────────────────── states ◄──────────────────────────────────────────────────────┘
         └─► what nobody has taken, or whose worker is gone, is published again

As everywhere, the row decides and a message only says where to look. Command, workers and broker may be killed at any time: finished
cells are kept, and the same command continues with the rest.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from tango.analysis.comparison import CellResult
from tango.analysis.metrics import Figure, RunMetrics, ServiceFigures
from tango.domain.simulations import ClaimedSimulation, NewSimulation, OpenedSimulation, SimulatedRows, SimulationState
from tango.errors import BrokerUnavailable, Fenced, StoreError, StoreUnavailable, TangoError
from tango.ports import Publisher, SimulationStore
from tango.settings import LeaseSettings

log = structlog.get_logger(__name__)

MOST_CLAIMS = 4
"""Claims of one cell, after which it fails: a cell that kills its worker each time (out of memory) would kill them all in turn."""
LOST_AFTER = 5.0
"""Age at which a message counts as lost, in units of `LeaseSettings.unclaimed_after_s`. More than one, because a simulator may still be
loading or compiling when its first message comes. Chosen, not measured."""
IDLE_LIMIT, BUSY_LIMIT = 8, 500
"""Most runs that are published again at a time, while no worker holds a lease and while one does. Chosen, not measured."""
LOOK_EVERY_S = 0.5
"""Seconds between two looks of the waiting command at the states of its runs."""
NOBODY_AFTER_S = 8.0
"""Seconds without any worker at work, after which the command says what is missing."""


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


# ---- the worker's side ---------------------------------------------------------------------------------------------------------


def simulate_claimed(
    run_id: int, *, owner: str, store: SimulationStore, compute: Compute, settings: LeaseSettings
) -> dict[str, int | str]:
    """Claim one run, compute its cell, keep the result; a second delivery of the message finds nothing to claim.

    The lease is that of a placement: work of seconds to minutes, whose worker may be away for a while.
    """
    claim = store.claim(run_id, owner=owner, lease_s=settings.placement_s, most_claims=MOST_CLAIMS)
    if claim is None:
        return {"run": run_id, "claimed": 0}
    with _lease_kept(claim, store, settings.placement_s) as lost:

        def stands() -> None:
            if lost.is_set():
                raise Fenced(f"run {run_id} was cancelled, or somebody newer has claimed it")

        try:
            found = compute(claim, stands)
        except Fenced as error:
            log.warning("simulation_left", run_id=run_id, reason=str(error))
            return {"run": run_id, "claimed": 1, "status": "left"}
        except (
            Exception
        ) as error:  # the edge of a task: whatever a policy or a trace raises is this run's end, and not the worker's
            log.warning("simulation_failed", run_id=run_id, exc_info=not isinstance(error, TangoError))
            store.fail(claim, _words(error))
            return {"run": run_id, "claimed": 1, "status": "failed"}
        counted = store.finish(claim, result=found.result.as_dict(), figures=stored_figures(run_id, found.result), rows=found.rows)
    log.info("simulated", run_id=run_id, counted=counted, system=found.result.system, took_s=found.result.figures["wall_s"])
    return {"run": run_id, "claimed": 1, "status": "completed" if counted else "late"}


def stored_figures(run_id: int, result: CellResult) -> dict[str, Figure]:
    """The figures of a simulated run as `run_metric` keeps them: those of a live run, and what only a simulation has."""
    bounds = {f"{name}_bound": value for name, value in result.bound.items()}
    return {**result.figures, "run": run_id, **bounds, "simulated_s": result.details["simulated_s"]}


def metrics_of_result(run_id: int, result: CellResult) -> RunMetrics:
    """A stored result as `RunMetrics`, the form in which the figures of a live run are shown."""
    known = {f.name for f in dataclasses.fields(ServiceFigures)}
    services = tuple(ServiceFigures(**{k: v for k, v in row.items() if k in known}) for row in result.services)  # type: ignore[arg-type]
    return RunMetrics(figures=stored_figures(run_id, result), services=services, details=result.details)


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, TangoError) else f"{type(error).__name__}: {error}"


@contextmanager
def _lease_kept(claim: ClaimedSimulation, store: SimulationStore, lease_s: float) -> Iterator[threading.Event]:
    """Renew the lease in a thread, four times per `lease_s`; gives an event that is set when the claim no longer holds."""
    over, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not over.wait(lease_s / 4):
            try:
                if not store.renew(claim, lease_s=lease_s):
                    lost.set()
                    return
            except (StoreUnavailable, StoreError) as error:
                log.warning("lease_not_renewed", run_id=claim.run_id, error=str(error))

    thread = threading.Thread(target=renew, name=f"lease-{claim.run_id}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()


# ---- the command's side --------------------------------------------------------------------------------------------------------


def start_sweep(
    cells: Sequence[NewSimulation], *, record: bool, forget: bool, store: SimulationStore, publisher: Publisher
) -> list[OpenedSimulation]:
    """Store a run for each cell that is neither finished nor under way, in one transaction, then publish the new runs.

    An unreachable broker is no error: `await_sweep` publishes them again.
    """
    opened = store.open(cells, record=record, forget=forget)
    _publish(publisher, [run.run_id for run in opened if run.is_new])
    return opened


def await_sweep(
    run_ids: Sequence[int],
    *,
    store: SimulationStore,
    publisher: Publisher,
    sleep: Callable[[float], None],
    settings: LeaseSettings,
    ended: Callable[[SimulationState], None],
    nobody: Callable[[], None],
) -> None:
    """Wait until every run has ended; calls `ended` once for each, and `nobody` when no worker has held a lease for a while.

    Without a deadline on purpose: a sweep may take hours, and workers may be started after it. Runs deleted meanwhile are not waited
    for. Raises: StoreUnavailable.
    """
    waiting = sorted(set(run_ids))
    idle_s, next_hint_s = 0.0, NOBODY_AFTER_S
    while waiting:
        states = store.states(waiting)
        for state in states:
            if state.ended:
                ended(state)
        waiting = [state.run_id for state in states if not state.ended]
        if not waiting:
            return
        busy = store.anybody_works()
        lost = store.unclaimed(
            waiting, after_s=LOST_AFTER * settings.unclaimed_after_s, busy=busy, limit=BUSY_LIMIT if busy else IDLE_LIMIT
        )
        _publish(publisher, lost)
        idle_s, next_hint_s = (0.0, NOBODY_AFTER_S) if busy else (idle_s + LOOK_EVERY_S, next_hint_s)
        if idle_s >= next_hint_s:
            nobody()
            next_hint_s = idle_s * 8
        sleep(LOOK_EVERY_S)


def _publish(publisher: Publisher, run_ids: Sequence[int]) -> None:
    if not run_ids:
        return
    try:
        publisher.simulations(run_ids)
    except BrokerUnavailable as error:
        log.warning("simulations_not_published", error=str(error))
