"""`tango bench edge`: what distance to the centre costs LC requests that are served in the cluster that they entered.

One stack with an emulated line between its centre and its clusters, each of which has a broker of its own; the same requests at one
round-trip time after another. The yardstick is the same stack with no distance.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tango.bench.figures import Figure, Told
from tango.bench.live import added_ms, running
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.domain.line import LineState
from tango.files import write_whole
from tango.fleets import load_fleet
from tango.stack.home import line_file
from tango.traces.generators import Recipe, generate
from workers.app import create_app
from workers.publisher import CeleryPublisher

_TIMES = """
SELECT count(*), count(*) FILTER (WHERE state = 'succeeded' AND finished_s - due_s <= target_s),
       count(*) FILTER (WHERE target_cluster = cluster),
       percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY started_s - due_s) FILTER (WHERE target_cluster = cluster)
FROM request WHERE run_id = %s AND class = 'lc'
"""


def measure(
    *,
    fleet: str = "demo",
    rate: float = 20.0,
    seconds: float = 20.0,
    rounds: int = 3,
    rtts_ms: Sequence[float] = (0.0, 10.0, 30.0, 60.0),
    told: Told = print,
) -> list[Figure]:
    """Arrival to start of service (p50, p99) and the QoS rate at each round-trip time; `rate` in LC requests a second, over all clusters.

    Each distance is measured once a round, and the median of the rounds counts: a machine that is busy for a moment would else pass for
    distance. It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if a run does not end.
    """
    found: dict[float, list[_Times]] = {rtt_ms: [] for rtt_ms in rtts_ms}
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        home = Path(folder) / "stack"
        with running(home, fleet, line_rtt_ms=0.0) as stores:
            _times(stores, home, fleet, 0.0, rate, min(seconds, 10.0))  # warm-up: connections, compiled code, caches
            for k in range(rounds):
                for rtt_ms in rtts_ms:
                    times = _times(stores, home, fleet, rtt_ms, rate, seconds)
                    told(
                        f"round {k + 1}, {rtt_ms:g} ms: p50 {times.p50_ms:.1f} ms, p99 {times.p99_ms:.1f} ms, QoS {times.qos_rate:.3f}"
                    )
                    found[rtt_ms].append(times)
    at = {rtt_ms: _Times(*(median(column) for column in zip(*rows, strict=True))) for rtt_ms, rows in found.items()}
    nearest = at[rtts_ms[0]]
    return [
        Figure(
            name=f"LC {name}, {rtt_ms:g} ms to the centre",
            value=getattr(times, field),
            unit=unit,
            yardstick=f"{rtts_ms[0]:g} ms to the centre",
            yardstick_value=getattr(nearest, field),
        )
        for rtt_ms, times in at.items()
        for name, field, unit in (
            ("arrival to start of service, p50", "p50_ms", "ms"),
            ("arrival to start of service, p99", "p99_ms", "ms"),
            ("QoS rate", "qos_rate", ""),
            ("share served where it entered", "stayed", ""),
        )
    ]


class _Times(NamedTuple):
    """What one run at one distance gave, of requests that were served where they entered."""

    p50_ms: float
    p99_ms: float
    qos_rate: float
    stayed: float


def _times(stores: Stores, home: Path, fleet: str, rtt_ms: float, rate: float, seconds: float) -> _Times:
    write_whole(line_file(home), LineState(rtt_ms=rtt_ms).as_text())
    time.sleep(1.0)  # the line's process looks at its file every 50 ms; what was on its way arrives
    declared = load_fleet(fleet)
    trace = generate(
        Recipe(
            pattern="p3", rate_per_s=rate, duration_s=seconds, clusters=len(declared.clusters), lc_share=1.0, fleet=declared, seed=1
        )
    )
    submission = submission_of(stores, CeleryPublisher(create_app(stores.settings)))
    order = RunOrder(trace=trace, fleet=declared, system="tango", name=f"bench {rtt_ms:g} ms", seed=1)
    run_id = submission.submit(submission.prepare(order)).run_id
    wait_until(
        lambda: not stores.runs.active_runs(),
        timeout_s=4 * seconds + 60,
        every_s=0.2,
        failure=f"the run at {rtt_ms:g} ms did not end",
    )
    [(count, in_time, stayed, quantiles)] = stores.database.rows(_TIMES, (run_id,))
    p50_ms, _, p99_ms = added_ms(quantiles)
    return _Times(p50_ms, p99_ms, in_time / count, stayed / count)
