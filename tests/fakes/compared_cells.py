"""Cells of a comparison by hand: what three figures say, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from tango.analysis.comparison import CellResult


def cells(
    system: str, qos: Sequence[float], be: Sequence[float] = (), cpu: Sequence[float] = (), scenario: str = "p3@0.9"
) -> list[CellResult]:
    """A cell per seed, from 1 on; BE throughput 100 and utilisation 0.5 unless said."""
    n = len(qos)
    figures = zip(qos, be or [100.0] * n, cpu or [0.5] * n, strict=True)
    return [
        CellResult(
            scenario=scenario,
            system=system,
            lc="dss-lc",
            be="dcg-be",
            sharing="hrm",
            seed=seed,
            key="",
            fleet="pair",
            fleet_hash="f" * 64,
            figures={"lc_qos_rate": q, "be_cpu_seconds_per_s": b, "utilization_cpu": u, "simulated_requests": 1000},
            details={},
            services=[],
            bound={},
            distance={},
            series={},
            distributions={},
        )
        for seed, (q, b, u) in enumerate(figures, start=1)
    ]
