"""How a checkpoint places: simulated beside `load-greedy` and the shipped checkpoint, with all else the same.

Same LC policy, same sharing rule, same parameters, same requests of each seed: what differs between the three systems is who places BE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tango.analysis.comparison import CellResult, compare
from tango.domain.checkpoints import CheckpointFile
from tango.experiments.cells import Cell, code_digest
from tango.experiments.tuning import merged, tuned_settings
from tango.systems import mixed, system
from tango.traces.workloads import Workload

CANDIDATE, GREEDY, SHIPPED = "candidate", "load-greedy", "shipped"
BASELINES = (GREEDY, SHIPPED)
SCORED = (
    "lc_qos_rate",
    "be_cpu_seconds_per_s",
    "lc_latency_p99_ms",
    "be_completed",
    "utilization_cpu",
    "evictions",
    "waste_cpu_seconds",
)
"""Figures of a run that the registry keeps."""


def cells_to_score(
    checkpoint: CheckpointFile,
    workloads: Sequence[Workload],
    fleet: str,
    seeds: Sequence[int],
    changes: Mapping[str, Mapping[str, Any]],
) -> list[Cell]:
    """Seed by seed: the candidate, `load-greedy` in its place, and the checkpoint that is shipped for its policy."""
    tango = system("tango")
    learned = mixed(tango, be=checkpoint.policy)
    systems = [
        (replace(learned, name=CANDIDATE), checkpoint),
        (replace(mixed(tango, be="load-greedy"), name=GREEDY), None),
        (replace(learned, name=SHIPPED), None),
    ]
    settings = merged(tuned_settings(tango), changes)
    return [
        Cell(workload=workload, fleet=fleet, system=of, seed=seed, settings=settings, bound=False, checkpoint=file)
        for workload in workloads
        for seed in seeds
        for of, file in systems
    ]


def scores_of(results: Sequence[CellResult], *, command: str = "") -> dict[str, Any]:
    """What the registry keeps of the results of `cells_to_score`: JSON.

    `rows`: per scenario and figure the means of the three, and the candidate's paired difference to each of the others with its 95 %
    interval over seeds.
    """
    against = {baseline: compare(results, baseline) for baseline in BASELINES}
    first = against[GREEDY]
    rows = []
    for scenario in first.scenarios:
        for name in SCORED:
            found = {baseline: comparison.row(scenario, CANDIDATE, name) for baseline, comparison in against.items()}
            mine = found[GREEDY]
            if mine is None or mine.value is None:
                continue
            rows.append(
                {
                    "scenario": scenario,
                    "figure": name,
                    "unit": mine.metric.unit,
                    "better": mine.metric.better,
                    "value": mine.value,
                    "differences": {
                        baseline: {
                            "value": row.baseline_value,
                            "mean": row.paired.mean,
                            "low": row.paired.low,
                            "high": row.paired.high,
                        }
                        for baseline, row in found.items()
                        if row is not None
                    },
                }
            )
    return {
        "kind": "simulated",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "fleet": results[0].fleet,
        "fleet_hash": results[0].fleet_hash,
        "seeds": sorted({result.seed for result in results}),
        "code": code_digest(system("tango")),
        "command": command,
        "notes": list(first.notes),
        "rows": rows,
    }
