"""Each fault in the middle of a run of its own, with the books kept meanwhile, and what it took to be well again."""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tango.bench.chaos.books import Books, StackLooks, look, orphans, pods_of, wrong
from tango.bench.chaos.faults import InjectedFault, faults
from tango.bench.chaos.growth import load_alone
from tango.bench.chaos.load import LC_PER_S, await_end, submit_load, until
from tango.bench.chaos.stack import ChaosStack, own_disk
from tango.bench.figures import Figure, Told
from tango.bench.overload import BACK_AT
from tango.errors import ConfigError, TangoError

CALM_S, AFTER_S = 5.0, 25.0
"""Seconds of load before a fault strikes, and after all is well again."""
ALONE = "c1"
"""The cluster that is struck alone."""

_IN_TIME = """
SELECT due_s, coalesce(state = 'succeeded' AND finished_s - due_s <= target_s, false) FROM request
WHERE run_id = %s AND class = 'lc' ORDER BY due_s
"""
_ELSEWHERE = """
SELECT (percentile_cont(0.99) WITHIN GROUP (ORDER BY finished_s - due_s) FILTER (WHERE class = 'lc')),
       (percentile_cont(0.5) WITHIN GROUP (ORDER BY started_s - due_s) FILTER (WHERE class = 'be'))
FROM request WHERE run_id = %s AND cluster <> %s AND target_cluster <> %s AND due_s BETWEEN %s AND %s
"""


@dataclass(slots=True)
class FaultTrial:
    """What one fault did."""

    fault: InjectedFault | None
    """None: nothing was done."""
    mistakes: list[str] = field(default_factory=list)
    looks: int = 0
    lc_back_s: float = math.nan
    """Seconds after all was well from outside until LC was in time again; infinity: not while there was load."""
    ended_s: float = math.nan
    """Seconds from the last arrival until the run was completed."""
    in_time: float = math.nan
    """Share of LC in time over the whole trial."""
    lc_p99_elsewhere_s: float = math.nan
    """While the fault lasted, of requests that entered and were served in the other clusters."""
    be_wait_elsewhere_s: float = math.nan

    @property
    def name(self) -> str:
        """The fault's name, for messages."""
        return self.fault.name if self.fault else "no fault"


def measure(
    *,
    names: Sequence[str] = (),
    kills: int = 100,
    seed: int = 1,
    fleet: str = "demo",
    calm_s: float = 0.0,
    told: Told = print,
) -> list[Figure]:
    """The named faults, all where none is named, one after another on one stack; then `calm_s` of load alone, to see what grows.

    It starts a stack of its own in a temporary folder and touches no other. Raises: ConfigError for a name that is not known;
    TangoError, after everything was told, if something did not hold.
    """
    known = {fault.name: fault for fault in faults(kills, ALONE)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"there is no fault {unknown[0]!r}; known are: {', '.join(known)}")
    chosen = [known[name] for name in names] if names else list(known.values())
    dice = random.Random(f"chaos {seed}")
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, own_disk(Path(folder)) as disk:
        stack = ChaosStack(home=(disk or Path(folder)) / "stack", fleet=fleet)
        if disk is None and any(fault.needs_disk for fault in chosen):
            told("left out: disk full, since only root can make a disk to fill")
            chosen = [fault for fault in chosen if not fault.needs_disk]
        try:
            stack.start()
            _trial(stack, None, dice, seconds=5.0)  # warm-up: connections, compiled code, caches
            trials = [_told(_trial(stack, None, dice, seconds=10.0), told)]
            for fault in chosen:
                trials.append(_told(_trial(stack, fault, dice, seconds=fault.seconds), told))
            grown = load_alone(stack, calm_s, told) if calm_s else []
        finally:
            stack.stop()
    figures = [*_figures(trials), *grown]
    if mistakes := [f"{trial.name}: {words}" for trial in trials for words in trial.mistakes]:
        raise TangoError("what must hold did not:\n" + "\n".join(mistakes[:20]))
    return figures


def _told(trial: FaultTrial, told: Told) -> FaultTrial:
    well = "all held" if not trial.mistakes else "; ".join(trial.mistakes[:3])
    told(
        f"{trial.name}: LC in time again after {trial.lc_back_s:.0f} s, {100 * trial.in_time:.1f} % in time, "
        f"run over {trial.ended_s:.0f} s after its last arrival; {trial.looks} looks, {well}"
    )
    return trial


def _figures(trials: Sequence[FaultTrial]) -> list[Figure]:
    calm = trials[0]
    found = []
    for trial in trials[1:]:
        assert trial.fault is not None
        found += [
            Figure(name=f"{trial.name}: LC in time again after", value=trial.lc_back_s, unit="s"),
            Figure(
                name=f"{trial.name}: LC in time", value=trial.in_time, unit="", yardstick="no fault", yardstick_value=calm.in_time
            ),
            Figure(
                name=f"{trial.name}: run over after its last arrival",
                value=trial.ended_s,
                unit="s",
                yardstick="no fault",
                yardstick_value=calm.ended_s,
            ),
        ]
        if trial.fault.cluster:
            found += [
                Figure(
                    name=f"{trial.name}: LC p99 in the other clusters",
                    value=1e3 * trial.lc_p99_elsewhere_s,
                    unit="ms",
                    yardstick="no fault",
                    yardstick_value=1e3 * calm.lc_p99_elsewhere_s,
                ),
                Figure(
                    name=f"{trial.name}: BE wait in the other clusters, p50",
                    value=1e3 * trial.be_wait_elsewhere_s,
                    unit="ms",
                    yardstick="no fault",
                    yardstick_value=1e3 * calm.be_wait_elsewhere_s,
                ),
            ]
    return found


# ---- one trial -----------------------------------------------------------------------------------------------------------


def _trial(stack: ChaosStack, fault: InjectedFault | None, dice: random.Random, *, seconds: float) -> FaultTrial:
    """A run of its own, with the fault in its middle."""
    trial = FaultTrial(fault)
    load_s = CALM_S + seconds + AFTER_S
    run_id, zero_s = submit_load(stack, load_s, name=trial.name, seed=dice.randrange(1 << 30))
    with Books(StackLooks(stack.home, run_id)) as books:
        until(zero_s + CALM_S)
        struck_s = time.time() - zero_s
        if fault is None:
            time.sleep(seconds)
        else:
            fault.strike(stack, dice)
        well_s = time.time() - zero_s
        until(zero_s + max(load_s, well_s + AFTER_S))
        trial.ended_s, late = await_end(stack, run_id, zero_s + load_s)
    trial.mistakes += late + books.mistakes
    trial.looks = books.looks
    if (last := look(stack.home, run_id)) is not None:
        trial.mistakes += [words for words in wrong(None, last) if words not in trial.mistakes]
    if left := asyncio.run(_left_over(stack)):
        trial.mistakes.append(f"BE pods are left over: {left[:5]}")
    with stack.stores() as here:
        rows = here.database.rows(_IN_TIME, (run_id,))
        trial.in_time = sum(in_time for _, in_time in rows) / max(1, len(rows))
        trial.lc_back_s = back_after(rows, well_s)
        [(lc_s, be_s)] = here.database.rows(_ELSEWHERE, (run_id, ALONE, ALONE, struck_s, well_s))
        trial.lc_p99_elsewhere_s, trial.be_wait_elsewhere_s = (math.nan if v is None else v for v in (lc_s, be_s))
        here.runs.delete(run_id)
    return trial


async def _left_over(stack: ChaosStack, within_s: float = 30.0) -> list[str]:
    """BE pods that are still there so long after their run has ended."""
    deadline_s = time.monotonic() + within_s
    while left := orphans(await pods_of(stack.home)):
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(1.0)
    return left


def back_after(rows: Sequence[tuple[float, bool]], well_s: float) -> float:
    """The least seconds after `well_s` from which on `BACK_AT` of all LC that was due was in time; infinity: none."""
    after = [(due_s, in_time) for due_s, in_time in rows if due_s >= well_s]
    good, back_s = 0, math.inf
    for k, (due_s, in_time) in enumerate(reversed(after), start=1):
        good += in_time
        if good >= BACK_AT * k and k >= LC_PER_S:
            back_s = due_s - well_s
    return max(0.0, back_s)
