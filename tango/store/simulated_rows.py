"""Rows of a simulated run, as a live one would have left them: requests, lost attempts, node samples, decisions, scaling events.

Instants become timestamps by adding simulated seconds to the run's `started_at`. Node samples and scaling events carry the run's
number, since the time of a simulated run says nothing about the fleet that is there.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

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
from tango.store.database import Cursor

MOST_SAMPLES = 200_000
"""Rows of node samples that are kept of a run: whole instants, evenly thinned."""
_CLASSES = tuple(c.label for c in ServiceClass)


def write_rows(cursor: Cursor, run_id: int, zero: datetime, rows: SimulatedRows) -> None:
    """Write everything, in the caller's transaction; the requests into a partition of their own."""
    of = rows.outcomes
    cursor.execute("SELECT make_request_partition(%s)", (run_id,))
    _copy(cursor, f"request_{run_id}", run_id, _requests(of))
    cursor.execute("SELECT attach_request_partition(%s)", (run_id,))
    zero_us = round(zero.timestamp() * 1e6)
    _copy(cursor, "attempt", run_id, _attempts(of, rows.losses, zero_us))
    _copy(cursor, "node_sample", run_id, _samples(of, rows.samples, zero_us))
    _copy(cursor, "decision", None, {"run_ids": [f"{{{run_id}}}"] * len(rows.decisions), **_decisions(of, rows.decisions, zero_us)})
    _copy(cursor, "scaling_event", run_id, _scalings(of, rows.scaling, zero_us))


def _copy(cursor: Cursor, table: str, run_id: int | None, columns: Mapping[str, Any]) -> None:
    found = pa.table(dict(columns))
    if run_id is not None:
        found = found.add_column(0, "run_id", pa.array(np.full(len(found), run_id, np.int32)))
    text = io.BytesIO()
    # NULL is unquoted and empty, empty text is quoted: COPY's own way to tell them apart.
    pyarrow.csv.write_csv(found, text, pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed"))
    text.seek(0)
    cursor.copy_expert(f"COPY {table} ({', '.join(found.column_names)}) FROM STDIN (FORMAT csv)", text)


def _requests(of: RunOutcomes) -> dict[str, Any]:
    return {
        "request_id": np.arange(len(of), dtype=np.int32),
        "class": _words(of.service_class, _CLASSES),
        "service": _words(of.service, of.services),
        "cluster": _words(of.entry_cluster, of.clusters),
        "due_s": of.due_s,
        "target_s": _known(of.target_s),
        "cpu_work_s": of.cpu_work_s,
        "memory_mib": of.memory_mib,
        "state": _words(of.state, STATES),
        "epoch": of.epoch,
        "attempt": of.attempts,
        "target_cluster": _words(of.target_cluster, of.clusters),
        "node": _words(of.node, of.nodes),
        "started_s": _known(of.started_s),
        "finished_s": _known(of.finished_s),
        "reason": _words(of.reason, of.reasons),
    }


def _attempts(of: RunOutcomes, losses: AttemptLosses, zero_us: int) -> dict[str, Any]:
    """Attempts that came to nothing; an epoch is the place of the loss among those of its request."""
    request = np.zeros(0, np.int64) if losses.request is None else losses.request
    order = np.argsort(request, kind="stable")
    first = np.searchsorted(request[order], request[order], side="left")
    epoch = np.empty(len(request), np.int64)
    epoch[order] = np.arange(len(request)) - first + 1
    last = (epoch == of.attempts[request]) & ~np.isin(of.state[request], [STATES.index("succeeded")])
    cluster = np.where(losses.node >= 0, of.node_cluster[losses.node], -1)
    return {
        "request_id": request.astype(np.int32),
        "epoch": epoch.astype(np.int32),
        "class": _words(of.service_class[request], _CLASSES),
        "service": _words(losses.service, of.services),
        "cluster": _words(cluster, of.clusters),
        "node": _words(losses.node, of.nodes),
        "outcome": _words(np.where(last, of.state[request], len(STATES)), (*STATES, "requeued")),
        "reason": _words(losses.reason, losses.reasons),
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
        "cluster": _words(of.node_cluster[node], of.clusters),
        "node": _words(node, of.nodes),
        **{name: _whole(getattr(samples, name)[kept]) for name in whole.split()},
        "cpu_used_millicores": _known(samples.cpu_used_millicores[kept]),
        "memory_used_mib": _known(samples.memory_used_mib[kept]),
    }


def _decisions(of: RunOutcomes, decisions: Decisions, zero_us: int) -> dict[str, Any]:
    be = decisions.kind == int(ServiceClass.BE)
    return {
        "at": _at(decisions.at_s, zero_us),
        "kind": _words(decisions.kind, _CLASSES),
        # No cluster: the centre, and an LC window of all clusters together.
        "cluster": _words(np.where(decisions.cluster < 0, len(of.clusters), decisions.cluster), (*of.clusters, "")),
        "policy": _words(decisions.policy, decisions.policies),
        "checkpoint": _words(be.astype(np.int32), ("", of.checkpoint)),
        **{name: getattr(decisions, name) for name in ["considered", "placed", "unplaced", "late", "shed"]},
        **{name: getattr(decisions, name) for name in ["snapshot_ms", "decide_ms", "apply_ms"]},
        "note": pa.array([""] * len(decisions), pa.string()),
    }


def _scalings(of: RunOutcomes, scaling: ScalingEvents, zero_us: int) -> dict[str, Any]:
    return {
        "at": _at(scaling.at_s, zero_us),
        "kind": _words(scaling.kind, SCALING_KINDS),
        "cluster": _words(of.node_cluster[scaling.node], of.clusters),
        "node": _words(scaling.node, of.nodes),
        "service": _words(scaling.service, of.services),
        "pod": pa.array([""] * len(scaling), pa.string()),
        "before_millicores": _whole(scaling.before_millicores),
        "after_millicores": _whole(scaling.after_millicores),
        "slack": _known(scaling.slack),
        "reason": _words(scaling.reason, scaling.reasons),
        "actuation_ms": _known(scaling.actuation_ms),
        "outcome": _words(scaling.outcome, SCALING_OUTCOMES),
    }


def _words(index: NDArray[Any], names: tuple[str, ...]) -> pa.Array:
    """Names by their place; NULL for -1."""
    places = pa.array(index.astype(np.int32), mask=index < 0)
    return pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string())).cast(pa.string())


def _known(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))


def _whole(values: NDArray[np.float64]) -> pa.Array:
    unknown = ~np.isfinite(values)
    return pa.array(np.rint(np.where(unknown, 0.0, values)).astype(np.int64), mask=unknown)


def _at(at_s: NDArray[np.float64], zero_us: int) -> pa.Array:
    return pa.array(zero_us + np.rint(at_s * 1e6).astype(np.int64), pa.int64()).cast(pa.timestamp("us", tz="UTC"))
