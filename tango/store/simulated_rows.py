"""Writing the rows of a simulated run in the form of a live one: requests, lost attempts, node samples, decisions, scaling events.

Times become timestamps by adding simulated seconds to the run's `started_at`. Node samples and scaling events carry the run's id, since a
simulated time says nothing about the live fleet of that time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from tango.domain.lifecycle import FREE_EPOCHS
from tango.domain.outcomes import (
    SCALING_KINDS,
    SCALING_OUTCOMES,
    STATES,
    AttemptLosses,
    Decisions,
    NodeSamples,
    RunOutcomes,
    ScalingEvents,
)
from tango.domain.services import ServiceClass
from tango.domain.simulations import SimulatedRows
from tango.store.columns import copy_columns, known, words
from tango.store.database import Cursor
from tango.store.events import NEXT_DECISION

MOST_SAMPLES = 200_000
"""Most rows of node samples that a run keeps; beyond, every k-th instant is kept, with all its nodes."""
_CLASSES = tuple(c.label for c in ServiceClass)


def write_rows(cursor: Cursor, run_id: int, zero: datetime, rows: SimulatedRows) -> None:
    """Write all rows in the caller's transaction, the requests into a partition of their own. `zero` is the run's `started_at`."""
    of = rows.outcomes
    cursor.execute(f"SELECT {NEXT_DECISION} FROM generate_series(1, %s)", (len(rows.decisions),))
    numbers = [number for (number,) in cursor.fetchall()]
    decided_by = _decided_by(rows, numbers)
    cursor.execute("SELECT make_request_partition(%s)", (run_id,))
    copy_columns(cursor, f"request_{run_id}", _requests(of, decided_by), run_id=run_id)
    cursor.execute("SELECT attach_request_partition(%s)", (run_id,))
    zero_us = round(zero.timestamp() * 1e6)
    copy_columns(cursor, "attempt", _attempts(of, rows.losses, decided_by, zero_us), run_id=run_id)
    copy_columns(cursor, "node_sample", _samples(of, rows.samples, zero_us), run_id=run_id)
    own = {"decision_id": numbers, "run_ids": [f"{{{run_id}}}"] * len(numbers), "weighed": _weighed(rows, run_id)}
    copy_columns(cursor, "decision", {**own, **_decisions(of, rows.decisions, zero_us)})
    copy_columns(cursor, "scaling_event", _scalings(of, rows.scaling, zero_us), run_id=run_id)


def _decided_by(rows: SimulatedRows, numbers: Sequence[int]) -> dict[tuple[int, int], int]:
    """(request, epoch) -> the decision that began this attempt, of those whose candidates are kept; of others nobody asks for it."""
    return {(one["request_id"], one["epoch"]): numbers[row] for row, kept in rows.weighed.items() for one in kept}


def _weighed(rows: SimulatedRows, run_id: int) -> pa.Array:
    """Candidates as JSON, under the number that the run has here; NULL for decisions without."""
    texts = [
        orjson.dumps([{**one, "run_id": run_id} for one in kept]).decode() if (kept := rows.weighed.get(row)) else None
        for row in range(len(rows.decisions))
    ]
    return pa.array(texts, pa.string())


def _requests(of: RunOutcomes, decided_by: Mapping[tuple[int, int], int]) -> dict[str, Any]:
    last = [decided_by.get(at) for at in enumerate(of.epoch.tolist())]
    return {
        "decision_id": pa.array(last, pa.int64()),
        "request_id": np.arange(len(of), dtype=np.int32),
        "class": words(of.service_class, _CLASSES),
        "service": words(of.service, of.services),
        "cluster": words(of.entry_cluster, of.clusters),
        "due_s": of.due_s,
        "target_s": known(of.target_s),
        "cpu_work_s": of.cpu_work_s,
        "memory_mib": of.memory_mib,
        "state": words(of.state, STATES),
        "epoch": of.epoch,
        "attempt": of.attempts,
        "target_cluster": words(of.target_cluster, of.clusters),
        "node": words(of.node, of.nodes),
        "started_s": known(of.started_s),
        "finished_s": known(of.finished_s),
        "reason": words(of.reason, of.reasons),
    }


def _attempts(of: RunOutcomes, losses: AttemptLosses, decided_by: Mapping[tuple[int, int], int], zero_us: int) -> dict[str, Any]:
    """Rows of the attempts that ended without a counted result; the epoch numbers the losses of each request from 1."""
    request = np.zeros(0, np.int64) if losses.request is None else losses.request
    order = np.argsort(request, kind="stable")
    first = np.searchsorted(request[order], request[order], side="left")
    epoch = np.empty(len(request), np.int64)
    epoch[order] = np.arange(len(request)) - first + 1
    last = (epoch == of.epoch[request]) & ~np.isin(of.state[request], [STATES.index("succeeded")])
    is_free = (of.service_class[request] == int(ServiceClass.BE)) & (epoch <= FREE_EPOCHS)
    cluster = np.where(losses.node >= 0, of.node_cluster[losses.node], -1)
    return {
        "request_id": request.astype(np.int32),
        "epoch": epoch.astype(np.int32),
        "class": words(of.service_class[request], _CLASSES),
        "service": words(losses.service, of.services),
        "cluster": words(cluster, of.clusters),
        "node": words(losses.node, of.nodes),
        "outcome": words(np.where(last, of.state[request], len(STATES) + is_free), (*STATES, "requeued", "returned")),
        "reason": words(losses.reason, losses.reasons),
        "decision_id": pa.array([decided_by.get(at) for at in zip(request.tolist(), epoch.tolist(), strict=True)], pa.int64()),
        "work_lost_s": losses.work_lost_s,
        "ended_at": _at(losses.at_s, zero_us),
    }


def _samples(of: RunOutcomes, samples: NodeSamples, zero_us: int) -> dict[str, Any]:
    instants, instant = np.unique(samples.at_s, return_inverse=True)
    kept = instant % max(1, -(-len(samples) // MOST_SAMPLES)) == 0 if len(instants) else np.zeros(0, np.bool_)
    node = samples.node[kept]
    whole = (
        "cpu_allocatable_millicores memory_allocatable_mib lc_cpu_limit_millicores lc_memory_held_mib be_cpu_request_millicores "
        "be_memory_held_mib be_pods"
    )
    return {
        "at": _at(samples.at_s[kept], zero_us),
        "cluster": words(of.node_cluster[node], of.clusters),
        "node": words(node, of.nodes),
        **{name: _whole(getattr(samples, name)[kept]) for name in whole.split()},
        "cpu_used_millicores": known(samples.cpu_used_millicores[kept]),
        "memory_used_mib": known(samples.memory_used_mib[kept]),
        **({"extended": _extended(samples, kept)} if samples.extended else {}),
    }


def _extended(samples: NodeSamples, kept: NDArray[np.bool_]) -> pa.Array:
    """Extended resources as agents write them: JSON by the name of the resource, for nodes that have some."""
    figures = zip(samples.extended_allocatable[:, kept].T.tolist(), samples.extended_held[:, kept].T.tolist(), strict=True)
    texts = []
    for allocatable, held in figures:
        of_node = zip(samples.extended, allocatable, held, strict=True)
        there = {name: {"allocatable": round(most), "held": round(now)} for name, most, now in of_node if most > 0}
        texts.append(json.dumps(there) if there else None)
    return pa.array(texts, pa.string())


def _decisions(of: RunOutcomes, decisions: Decisions, zero_us: int) -> dict[str, Any]:
    be = decisions.kind == int(ServiceClass.BE)
    return {
        "at": _at(decisions.at_s, zero_us),
        "kind": words(decisions.kind, _CLASSES),
        # Empty: the centre, and LC windows, in which the engine decides for all clusters at once.
        "cluster": words(np.where(decisions.cluster < 0, len(of.clusters), decisions.cluster), (*of.clusters, "")),
        "policy": words(decisions.policy, decisions.policies),
        "checkpoint": words(be.astype(np.int32), ("", of.checkpoint)),
        **{name: getattr(decisions, name) for name in ["considered", "placed", "unplaced", "late", "shed"]},
        **{name: getattr(decisions, name) for name in ["snapshot_ms", "decide_ms", "apply_ms"]},
        "note": pa.array([""] * len(decisions), pa.string()),
    }


def _scalings(of: RunOutcomes, scaling: ScalingEvents, zero_us: int) -> dict[str, Any]:
    return {
        "at": _at(scaling.at_s, zero_us),
        "kind": words(scaling.kind, SCALING_KINDS),
        "cluster": words(of.node_cluster[scaling.node], of.clusters),
        "node": words(scaling.node, of.nodes),
        "service": words(scaling.service, of.services),
        "pod": pa.array([""] * len(scaling), pa.string()),
        "before_millicores": _whole(scaling.before_millicores),
        "after_millicores": _whole(scaling.after_millicores),
        "slack": known(scaling.slack),
        "reason": words(scaling.reason, scaling.reasons),
        "actuation_ms": known(scaling.actuation_ms),
        "outcome": words(scaling.outcome, SCALING_OUTCOMES),
    }


def _whole(values: NDArray[np.float64]) -> pa.Array:
    unknown = ~np.isfinite(values)
    return pa.array(np.rint(np.where(unknown, 0.0, values)).astype(np.int64), mask=unknown)


def _at(at_s: NDArray[np.float64], zero_us: int) -> pa.Array:
    return pa.array(zero_us + np.rint(at_s * 1e6).astype(np.int64), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
