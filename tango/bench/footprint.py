"""`tango bench footprint`: how long a stack takes to start, and what its processes take of the machine while nothing runs.

The yardstick of memory and of idle CPU is one worker of plain Celery with one task that does nothing: what any process of a Celery
application costs before it does something.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tango.bench.celery_yardstick import bare_worker
from tango.bench.figures import Figure, Told
from tango.bench.process_use import MIB, CpuMeter, memory_mib
from tango.errors import DependencyError
from tango.stack.state import ADDRESS_VARIABLES, read_stack

SETTLE_S = 10.0
"""Seconds from the end of a start to the first reading: leases, first reconciliations and the page cache come to rest."""
UP_WITHIN_S = 180.0
DOWN_WITHIN_S = 60.0
"""Seconds for `tango up` and `tango down`: ten times what either takes on a busy machine."""


def measure(*, fleet: str = "demo", seconds: float = 30.0, told: Told = print) -> list[Figure]:
    """Start a stack twice, in a fresh and in an existing state folder, and read its processes idle for `seconds`.

    It touches no other stack. Raises: DependencyError if the stack does not start.
    """
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        home = Path(folder) / "stack"
        with _up(home, fleet) as fresh_s:
            told(f"a fresh state folder: ready after {fresh_s:.1f} s")
        with _up(home, fleet) as existing_s:
            told(f"an existing one: ready after {existing_s:.1f} s; now idle for {SETTLE_S + seconds:.0f} s")
            stack = read_stack(home)
            assert stack is not None  # it has just said that it is ready
            with bare_worker(stack.broker_url) as pid:
                time.sleep(SETTLE_S)
                bare, meter = psutil.Process(pid), CpuMeter(home)
                bare_before = bare.cpu_times()
                time.sleep(seconds)
                percent, after = meter.percent(), bare.cpu_times()
                bare_percent = 100 * (after.user + after.system - bare_before.user - bare_before.system) / seconds
                sizes, bare_mib = memory_mib(home), bare.memory_full_info().pss / MIB
    yardstick = "worker of plain Celery"
    return [
        Figure(name="ready, fresh state folder", value=fresh_s, unit="s"),
        Figure(name="ready, existing state folder", value=existing_s, unit="s"),
        Figure(
            name="memory of the stack",
            value=sum(map(sum, sizes.values())),
            unit="MiB",
            yardstick=f"{sum(map(len, sizes.values()))} workers of plain Celery",
            yardstick_value=bare_mib * sum(map(len, sizes.values())),
        ),
        Figure(
            name="idle CPU of the stack",
            value=sum(percent.values()),
            unit="% of a core",
            yardstick=yardstick,
            yardstick_value=bare_percent,
        ),
        *(
            Figure(
                name=f"memory, {role}, largest of {len(found)}",
                value=found[0],
                unit="MiB",
                yardstick=yardstick,
                yardstick_value=bare_mib,
            )
            for role, found in sizes.items()
        ),
        *(Figure(name=f"idle CPU, {role}", value=value, unit="% of a core") for role, value in percent.items()),
    ]


@contextlib.contextmanager
def _up(home: Path, fleet: str) -> Iterator[float]:
    """A stack as `tango up --detach` starts it; gives the seconds until the command was back."""
    began_s = time.perf_counter()
    try:
        _tango(home, "up", "--detach", "--fleet", fleet, within_s=UP_WITHIN_S)
        yield time.perf_counter() - began_s
    finally:
        _tango(home, "down", within_s=DOWN_WITHIN_S)


def _tango(home: Path, *arguments: str, within_s: float) -> None:
    environment = {**{k: v for k, v in os.environ.items() if k not in ADDRESS_VARIABLES}, "TANGO_HOME": str(home)}
    command = (sys.executable, "-c", "from tango.cli.main import run; run()", *arguments)
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=within_s)
    except subprocess.TimeoutExpired as error:
        raise DependencyError(f"tango {arguments[0]} was not done within {within_s:.0f} s") from error
    if done.returncode:
        raise DependencyError(f"tango {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
