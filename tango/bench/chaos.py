"""`tango bench chaos`: a whole stack under each fault of `chaos_faults`, with its books kept meanwhile, and what it took to be well again.

    trace (LC and BE, all clusters) ─► run ──────────────────────────────► completed
    fault          calm ─► strikes ─► all is well from outside ─► calm
    books          every half second: requests, attempts, journals, pods   (`chaos_books`)

A trial is a run of its own: calm, the fault, calm again. What must hold: nothing lost, nothing doubled, no two pods of one request at once,
no node with more than it has, the run completed, and no BE pod left over. A trial without a fault is the yardstick.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tango.bench.chaos_books import Books, look, orphans, pods_of, wrong
from tango.bench.chaos_faults import Fault, faults
from tango.bench.figures import Figure, Told
from tango.bench.overload import BACK_AT
from tango.bench.process_use import MIB, memory_mib, open_descriptors
from tango.bench.waiting import wait_until
from tango.bootstrap.environment import read_settings
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.errors import ConfigError, StoreUnavailable, TangoError
from tango.fleets import load_fleet
from tango.stack.state import read_stack
from tango.stack.tether import tethered
from tango.traces.generators import Recipe, generate
from workers.app import create_app
from workers.publisher import CeleryPublisher

CALM_S, AFTER_S = 5.0, 25.0
"""Seconds of load before a fault strikes, and after all is well again."""
LC_PER_S, BE_PER_S = 15.0, 1.5
"""Requests a second over all clusters: a third of what the fleet serves, so that it can make up for what a fault has held up."""
BE_WORK_S = 2.0
ENDS_WITHIN_S = 120.0
"""Seconds after the last arrival, the longest lease included, within which a run has to be completed."""
DISK_MIB = 2048
"""Size of the disk of the state folder: PostgreSQL's files, and the journals, of a few runs."""
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
class ChaosStack:
    """A stack of its own, started by its command so that its supervisor can be killed."""

    home: Path
    fleet: str
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Bring it up; returns when it is ready. Raises: TangoError with the end of what it said."""
        unwanted = ("TANGO_DATABASE_URL", "TANGO_READER_URL", "TANGO_BROKER_URL", "TANGO_KUBECONFIG")
        environment = {k: v for k, v in os.environ.items() if k not in unwanted} | {"TANGO_HOME": str(self.home)}
        command = [sys.executable, "-c", "from tango.cli.main import run; run()", "up", "--fleet", self.fleet, "--line-rtt-ms", "0"]
        said = self.home.parent / "up.log"
        with said.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command), env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

        def is_over() -> bool:
            assert self._process is not None
            return self._process.poll() is not None

        wait_until(
            lambda: is_over() or ((info := read_stack(self.home)) is not None and info.ready),
            timeout_s=300.0,
            every_s=0.1,
            failure=f"the stack is not ready after five minutes; its logs are in {self.home / 'logs'}",
        )
        if is_over():
            raise TangoError(f"the stack did not start: {said.read_text(errors='replace')[-600:]}")

    def kill(self) -> None:
        """SIGKILL the supervisor; its processes end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            # The next one can begin only when nothing of this one is left.
            wait_until(lambda: read_stack(self.home) is None, timeout_s=30.0, every_s=0.05, failure="the killed stack lives on")

    def stop(self) -> None:
        """Take it down."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
            self._process.kill()
            self._process.wait(30)

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        """Of its database as it is reached now."""
        unwanted = ("TANGO_DATABASE_URL", "TANGO_READER_URL", "TANGO_BROKER_URL", "TANGO_KUBECONFIG")
        here = Stores(read_settings({k: v for k, v in os.environ.items() if k not in unwanted} | {"TANGO_HOME": str(self.home)}))
        try:
            yield here
        finally:
            here.database.close()


@dataclass(slots=True)
class Trial:
    """What one fault did."""

    fault: Fault | None
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
        """For messages."""
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
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder, _disk(Path(folder)) as disk:
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
            grown = _calm(stack, calm_s, told) if calm_s else []
        finally:
            stack.stop()
    figures = [*_figures(trials), *grown]
    if mistakes := [f"{trial.name}: {words}" for trial in trials for words in trial.mistakes]:
        raise TangoError("what must hold did not:\n" + "\n".join(mistakes[:20]))
    return figures


def _told(trial: Trial, told: Told) -> Trial:
    well = "all held" if not trial.mistakes else "; ".join(trial.mistakes[:3])
    told(
        f"{trial.name}: LC in time again after {trial.lc_back_s:.0f} s, {100 * trial.in_time:.1f} % in time, "
        f"run over {trial.ended_s:.0f} s after its last arrival; {trial.looks} looks, {well}"
    )
    return trial


def _figures(trials: Sequence[Trial]) -> list[Figure]:
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


def _trial(stack: ChaosStack, fault: Fault | None, dice: random.Random, *, seconds: float) -> Trial:
    """A run of its own, with the fault in its middle."""
    trial = Trial(fault)
    load_s = CALM_S + seconds + AFTER_S
    run_id, zero_s = _submit(stack, load_s, name=trial.name, seed=dice.randrange(1 << 30))
    with Books(stack.home, run_id) as books:
        _until(zero_s + CALM_S)
        struck_s = time.time() - zero_s
        if fault is None:
            time.sleep(seconds)
        else:
            fault.strike(stack, dice)
        well_s = time.time() - zero_s
        _until(zero_s + max(load_s, well_s + AFTER_S))
        trial.ended_s = _await_end(stack, run_id, zero_s + load_s, trial)
    trial.mistakes += books.mistakes
    trial.looks = books.looks
    if (last := look(stack.home, run_id)) is not None:
        trial.mistakes += [words for words in wrong(None, last) if words not in trial.mistakes]
    if left := asyncio.run(_left_over(stack)):
        trial.mistakes.append(f"BE pods are left over: {left[:5]}")
    with stack.stores() as here:
        rows = here.database.rows(_IN_TIME, (run_id,))
        trial.in_time = sum(in_time for _, in_time in rows) / max(1, len(rows))
        trial.lc_back_s = _back_after(rows, well_s)
        [(lc_s, be_s)] = here.database.rows(_ELSEWHERE, (run_id, ALONE, ALONE, struck_s, well_s))
        trial.lc_p99_elsewhere_s, trial.be_wait_elsewhere_s = (math.nan if v is None else v for v in (lc_s, be_s))
        here.runs.delete(run_id)
    return trial


def _until(at_s: float) -> None:
    time.sleep(max(0.0, at_s - time.time()))


def _submit(stack: ChaosStack, seconds: float, *, name: str, seed: int) -> tuple[int, float]:
    """A run of LC and BE in all clusters; gives its id, and the Unix time of its zero."""
    declared = load_fleet(stack.fleet)
    recipe = Recipe(
        pattern="p3",
        rate_per_s=LC_PER_S + BE_PER_S,
        duration_s=seconds,
        clusters=len(declared.clusters),
        lc_share=LC_PER_S / (LC_PER_S + BE_PER_S),
        be_work_s=BE_WORK_S,
        fleet=declared,
        seed=seed,
    )
    with stack.stores() as here:
        submission = submission_of(here, CeleryPublisher(create_app(here.settings)))
        order = RunOrder(trace=generate(recipe), fleet=declared, system="tango", name=f"chaos: {name}", seed=seed)
        run_id = submission.submit(submission.prepare(order)).run_id
        wait_until(
            lambda: here.runs.run(run_id).started_at_s is not None,
            timeout_s=60.0,
            every_s=0.1,
            failure=f"run {run_id} does not begin",
        )
        return run_id, float(here.runs.run(run_id).started_at_s or 0.0)


def _await_end(stack: ChaosStack, run_id: int, last_s: float, trial: Trial) -> float:
    """Seconds from the last arrival to the end of the run; one that does not end is a mistake, and is cancelled."""
    deadline_s = max(time.time(), last_s) + ENDS_WITHIN_S
    while time.time() < deadline_s:
        with contextlib.suppress(StoreUnavailable), stack.stores() as here:
            if all(run.run_id != run_id for run in here.runs.active_runs()):
                return time.time() - last_s
        time.sleep(0.5)
    with stack.stores() as here:
        live = here.database.rows(
            "SELECT class, state::text, reason, count(*) FROM request WHERE run_id = %s AND finished_s IS NULL GROUP BY 1, 2, 3",
            (run_id,),
        )
        trial.mistakes.append(f"not over {ENDS_WITHIN_S:g} s after the last arrival; live are {live}")
        here.runs.cancel(run_id)
        wait_until(
            lambda: not here.runs.cancelling_runs(), timeout_s=60.0, every_s=0.5, failure=f"run {run_id} cannot be cancelled"
        )
    return math.inf


async def _left_over(stack: ChaosStack, within_s: float = 30.0) -> list[str]:
    """BE pods that are still there so long after their run has ended."""
    deadline_s = time.monotonic() + within_s
    while left := orphans(await pods_of(stack.home)):
        if time.monotonic() > deadline_s:
            break
        await asyncio.sleep(1.0)
    return left


def _back_after(rows: Sequence[tuple[float, bool]], well_s: float) -> float:
    """The least seconds after `well_s` from which on `BACK_AT` of all LC that was due was in time; infinity: none."""
    after = [(due_s, in_time) for due_s, in_time in rows if due_s >= well_s]
    good, back_s = 0, math.inf
    for k, (due_s, in_time) in enumerate(reversed(after), start=1):
        good += in_time
        if good >= BACK_AT * k and k >= LC_PER_S:
            back_s = due_s - well_s
    return max(0.0, back_s)


# ---- what grows ----------------------------------------------------------------------------------------------------------


def _calm(stack: ChaosStack, seconds: float, told: Told) -> list[Figure]:
    """Load without a fault, and what has grown from its first tenth to its end."""
    run_id, zero_s = _submit(stack, seconds, name="calm", seed=1)
    trial = Trial(None)
    with Books(stack.home, run_id) as books:
        _until(zero_s + seconds / 10)
        before = _growing(stack)
        _until(zero_s + seconds)
        after = _growing(stack)
        _await_end(stack, run_id, zero_s + seconds, trial)
    mistakes = trial.mistakes + books.mistakes
    told(f"{seconds:.0f} s of load: {books.looks} looks, {'all held' if not mistakes else '; '.join(mistakes[:3])}")
    if mistakes:
        raise TangoError("what must hold did not: " + "; ".join(mistakes[:20]))
    return [
        Figure(
            name=f"{what} after {seconds:.0f} s of load",
            value=value,
            unit=unit,
            yardstick="after a tenth of that",
            yardstick_value=before[what][0],
        )
        for what, (value, unit) in after.items()
        if what in before
    ]


def _growing(stack: ChaosStack) -> dict[str, tuple[float, str]]:
    """What must not grow with time, and what grows with history alone: values and units by name."""
    found = {f"memory, {role}": (sum(sizes), "MiB") for role, sizes in memory_mib(stack.home).items()}
    found |= {f"descriptors, {role}": (float(count), "") for role, count in open_descriptors(stack.home).items()}
    logs = [file for file in (stack.home / "logs").iterdir() if file.is_file()]
    found["logs"] = sum(file.stat().st_size for file in logs) / MIB, "MiB"
    found["journals"] = sum(file.stat().st_size for file in (stack.home / "data" / "journals").iterdir()) / MIB, "MiB"
    with stack.stores() as here:
        [(size, requests)] = here.database.rows(
            "SELECT pg_database_size(current_database()), (SELECT count(*) FROM request WHERE state IN ('succeeded', 'failed'))"
        )
    found["database"] = size / MIB, "MiB"
    found["requests done"] = float(requests), ""
    return found


@contextmanager
def _disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own under the folder; None where only root could make one."""
    place = folder / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(place)], capture_output=True, check=False
    )
    try:
        yield place if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
