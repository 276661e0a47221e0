"""Live runs in memory."""

from __future__ import annotations

from dataclasses import replace

from tango.domain.runs import LiveUse, RunInfo, RunKind, RunStatus
from tango.errors import UsageError
from tests.fakes.memory_state import MemoryState, Run, Share

OWN_NUMBERS = 10_000
"""Numbers of a block that the centre uses at the most: none of its blocks is used up by a test."""


class MemoryLiveRuns:
    """Implements `tango.ports.live_runs.LiveRunStore`. A day never ends, unless a test changes `MemoryState.live_day`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def use(self) -> LiveUse:
        """What was said last."""
        return self._state.live_use

    def set_use(self, use: LiveUse) -> RunInfo:
        """From now on."""
        with self._state.lock:
            self._state.live_use, self._state.live_is_wanted = use, True
            return open_live_run(self._state).info

    def want(self) -> RunInfo:
        """There is one from now on."""
        with self._state.lock:
            self._state.live_is_wanted = True
            return open_live_run(self._state).info

    def turn(self) -> RunInfo | None:
        """Where one is wanted; empty ones that are over are gone."""
        with self._state.lock:
            if not self._state.live_is_wanted:
                return None
            found = open_live_run(self._state).info
            for run_id, run in list(self._state.runs.items()):
                if run.info.kind is RunKind.LIVE and run.info.status is RunStatus.COMPLETED and not run.rows:
                    del self._state.runs[run_id]
                    self._state.shares = {of: share for of, share in self._state.shares.items() if of[0] != run_id}
            return found

    def numbers(self, run_id: int, cluster: str) -> tuple[int, int] | None:
        """The next block, of an open run."""
        with self._state.lock:
            run = self._state.runs.get(run_id)
            if run is None or not _is_open(run):
                return None
            first = run.next_number
            run.next_number += self._state.number_block
            return first, run.next_number - 1


def _is_open(run: Run) -> bool:
    return run.info.status is RunStatus.RUNNING and run.closed_at_s is None


def own_number(state: MemoryState, run: Run) -> int:
    """A number of an open run for what enters at the centre."""
    if not run.own_numbers:
        run.own_numbers = list(range(run.next_number, run.next_number + min(state.number_block, OWN_NUMBERS)))
        run.next_number += state.number_block
    return run.own_numbers.pop(0)


def open_live_run(state: MemoryState) -> Run:
    """The open run, which is of what is in use and of this day; opened where there is none, and one of another use is closed.

    Raises: UsageError before a fleet is declared.
    """
    use = state.live_use
    day = "" if use.run_name else state.live_day
    wanted = use.run_name or f"live {day}".strip(), use.system, use.reassure
    for run in state.runs.values():
        if run.info.kind is RunKind.LIVE and _is_open(run):
            if (run.info.name, run.info.system, run.info.reassure) == wanted:
                return run
            run.info = replace(run.info, status=RunStatus.DRAINING)
            run.closed_at_s = state.now_s()
    if not state.clusters:
        raise UsageError("no fleet is declared yet, so that nobody can serve requests; start one with `tango up --fleet NAME`")
    run_id = max([*state.runs, *state.deleted], default=0) + 1
    name, system, reassure = wanted
    info = RunInfo(
        run_id=run_id,
        name=name,
        status=RunStatus.RUNNING,
        system=system,
        fleet="",
        seed=0,
        speed=1.0,
        reassure=reassure,
        started_at_s=state.now_s(),
        accepted=0,
        kind=RunKind.LIVE,
    )
    state.runs[run_id] = Run(info, [])
    state.shares |= {(run_id, cluster): Share(accepted=0, opened=True) for cluster in state.clusters}
    return state.runs[run_id]
