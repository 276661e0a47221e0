"""`tango bench traces`: seconds and peak memory of reading a trace, beside Arrow's own CSV reader on the same file.

Each side runs in a process of its own, since peak memory is a property of a process. Without a file a generated one is read, of the
shape of the `task_events` in Google's 2011 cluster trace.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from tango.bench.children import answer_of, give
from tango.bench.figures import Figure
from tango.traces import borg_shape, read_trace
from tango.traces.generators import Recipe, generate

ROWS = 400_000
"""Rows of the generated file. Chosen: enough for seconds of reading, and of the size of one part of Google's trace."""
_TIMEOUT_S = 300.0
"""Seconds for one side of the comparison, which takes a few."""
_KEYS = ("seconds", "peak_mib")
_YARDSTICK = "pyarrow.csv.read_csv of the same file"


def measure(path: Path | None = None, *, rows: int = ROWS, repeats: int = 3) -> list[Figure]:
    """Seconds (best of `repeats`) and peak memory of reading and validating a trace file, and the rows per second that follow.

    Without `path` a file of `rows` rows is generated. Raises: BadRows if the file has bad rows.
    """
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        if path is None:
            path = Path(folder) / "generated_task_events.csv.gz"
            write_like_google(path, rows)
        count = read_trace(path).rows
        ours = _best([_child("tango", path) for _ in range(repeats)])
        theirs = _best([_child("arrow", path) for _ in range(repeats)])
    of = f"{path.name}, {count} rows"
    rate, yard_rate = count / ours["seconds"], count / theirs["seconds"]
    return [
        Figure(
            name=f"read seconds ({of})", value=ours["seconds"], unit="s", yardstick=_YARDSTICK, yardstick_value=theirs["seconds"]
        ),
        Figure(name="rows per second", value=rate, unit="1/s", yardstick=_YARDSTICK, yardstick_value=yard_rate),
        Figure(name="peak memory", value=ours["peak_mib"], unit="MiB", yardstick=_YARDSTICK, yardstick_value=theirs["peak_mib"]),
    ]


def write_like_google(path: Path, rows: int) -> None:
    """Write a file in the format of Google's `task_events` with `rows` rows: SUBMIT, SCHEDULE and FINISH of tasks of pattern `borg`."""
    tasks = -(-rows // 3)
    trace = generate(Recipe(pattern="borg", rate_per_s=tasks / 3000.0, duration_s=3000.0, seed=1, lc_share=0.03))
    rng = np.random.default_rng(1)
    n = len(trace)
    submit_us = 600_000_000 + (trace.arrival_s * 1e6).astype(np.int64)
    schedule_us = submit_us + rng.integers(1_000_000, 30_000_000, n)
    finish_us = schedule_us + (369e6 * np.exp(borg_shape.LIFE_SIGMA * rng.standard_normal(n))).astype(np.int64)
    time_us = np.concatenate([submit_us, schedule_us, finish_us])
    order = np.argsort(time_us, kind="stable")[:rows]
    task = np.tile(np.arange(n), 3)[order]
    events = np.repeat([0, 1, 4], n)[order]
    cpu = np.clip(0.025 * np.exp(borg_shape.CPU_SIGMA * rng.standard_normal(n)), 0.0001, 0.5).round(4)[task]
    memory = np.clip(0.0255 * np.exp(borg_shape.MEMORY_SIGMA * rng.standard_normal(n)), 0.0001, 0.955).round(5)[task]
    user = pa.DictionaryArray.from_arrays(pa.array(task % 400, pa.int32()), pa.array([f"user{k:039d}=" for k in range(400)]))
    table = pa.table(
        {
            "time": time_us[order],
            "missing": pa.nulls(len(order), pa.int64()),
            "job": 6_000_000_000 + task // 55,
            "task": task % 55,
            "machine": pa.array(3_000_000_000 + task % 12_500, mask=events == 0),
            "event": events,
            "user": user.cast(pa.string()),
            "class": np.where(trace.service_class[task] == 0, 2, 0),
            "priority": np.where(trace.service_class[task] == 0, 9, 1),
            "cpu": cpu,
            "memory": memory,
            "disk": np.full(len(order), 0.0004),
            "constraint": np.zeros(len(order), np.int64),
        }
    )
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    with pa.CompressedOutputStream(str(path), "gzip") as out:
        pa.csv.write_csv(table, out, options)


def _best(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: min(run[key] for run in runs) for key in _KEYS}


def _child(side: str, path: Path) -> dict[str, float]:
    return answer_of([sys.executable, "-m", "tango.bench.trace_reading", side, str(path)], within_s=_TIMEOUT_S)


def _main(side: str, path: str) -> None:
    begin = time.perf_counter()
    if side == "tango":
        read_trace(path)
    else:
        pa.csv.read_csv(path, read_options=pa.csv.ReadOptions(autogenerate_column_names=True))
    seconds = time.perf_counter() - begin
    give({"seconds": seconds, "peak_mib": peak_mib()})


def peak_mib() -> float:
    """Peak resident memory of this process so far, MiB."""
    # VmHWM where there is one: on Linux a child's ru_maxrss begins at the peak of the process that started it.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return float(line.split()[1]) / 1024.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


if __name__ == "__main__":
    _main(*sys.argv[1:3])
