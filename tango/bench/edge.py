"""`tango bench edge`: what distance to the centre costs LC requests that are served in the cluster that they entered.

One stack with an emulated line between its centre and its clusters, each of which has a broker of its own; the same requests at one
round-trip time after another. The yardstick is the same stack with no distance.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tango.bench.figures import Figure, Told
from tango.bench.live import added_ms, running
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.domain.line import LineState
from tango.files import write_whole
from tango.fleets import load_fleet
from tango.stack.local import line_file
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
    seconds: float = 30.0,
    rtts_ms: Sequence[float] = (0.0, 10.0, 30.0, 60.0),
    told: Told = print,
) -> list[Figure]:
    """Arrival to start of service (p50, p99) and the QoS rate at each round-trip time; `rate` in LC requests a second, over all clusters.

    It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if a run does not end.
    """
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        home = Path(folder) / "stack"
        with running(home, fleet, line_rtt_ms=0.0) as stores:
            _times(stores, home, fleet, 0.0, rate, min(seconds, 10.0))  # warm-up: connections, compiled code, caches
            at_zero: tuple[float, ...] = ()
            for rtt_ms in rtts_ms:
                quantiles, qos_rate, stayed = _times(stores, home, fleet, rtt_ms, rate, seconds)
                told(f"{rtt_ms:g} ms: p50 {quantiles[0]:.1f} ms, p99 {quantiles[2]:.1f} ms, QoS rate {qos_rate:.3f}")
                at_zero = at_zero or quantiles
                figures += [
                    Figure(
                        name=f"LC arrival to start of service, {name}, {rtt_ms:g} ms to the centre",
                        value=quantiles[k],
                        unit="ms",
                        yardstick=f"{rtts_ms[0]:g} ms to the centre",
                        yardstick_value=at_zero[k],
                    )
                    for k, name in ((0, "p50"), (2, "p99"))
                ]
                figures.append(Figure(name=f"QoS rate, {rtt_ms:g} ms to the centre", value=qos_rate, unit=""))
                figures.append(Figure(name=f"share served where it entered, {rtt_ms:g} ms to the centre", value=stayed, unit=""))
    return figures


def _times(
    stores: Stores, home: Path, fleet: str, rtt_ms: float, rate: float, seconds: float
) -> tuple[tuple[float, float, float], float, float]:
    """Quantiles in ms, QoS rate and the share that stayed, of one run at this distance."""
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
    return added_ms(quantiles), in_time / count, stayed / count
