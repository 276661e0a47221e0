"""What the console reads and does, bound to the stores of its process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tango.analysis.compared_metrics import METRICS
from tango.bootstrap.job_logs import JobLogs
from tango.bootstrap.stores import Stores
from tango.console.reads import Does, Reads
from tango.domain.candidates import shown
from tango.domain.checkpoints import SHORT
from tango.domain.identity import RequestKey
from tango.domain.job_waiting import waiting_words
from tango.domain.jobs import Job, as_refused
from tango.domain.runs import ENDED
from tango.errors import RequestRejected, TangoError, UsageError
from tango.stack.state import supervisor_pid
from tango.stack.supervisor import read_status
from tango.store.run_lists import RunFilter

RUNS_LISTED, JOBS_LISTED = 50, 100
LOG_BYTES = 64 * 1024
"""Of the end of a job's log that a page shows."""
MOST_COMPARED = 6
PROMOTION_WITHIN_S = 120.0
"""Seconds for loading a checkpoint, which torch may need on a machine that has much else to do."""
COMPARED_FACTS = ("run_id", "kind::text", "name", "status::text", "system", "fleet", "trace_source", "speed", "seed", "accepted")


def reads_of(here: Stores, home: Path) -> Reads:
    """Of these stores, and of the stack in this folder."""
    return Reads(
        view=here.live_view,
        processes=ProcessRows(home).rows,
        runs=lambda: here.run_lists.runs(RunFilter(), limit=RUNS_LISTED),
        run=here.run_lists.run,
        compared=lambda run_ids: _compared(here, run_ids),
        request=lambda key: _request(here, key),
        jobs=lambda: [_job_row(job) for job in here.jobs.jobs(limit=JOBS_LISTED)],
        job=lambda key: _job(here, key),
        checkpoints=lambda: _checkpoints(here),
        actions=here.operator_actions.latest,
    )


def does_of(here: Stores) -> Does:
    """By the same use cases as the commands."""
    return Does(
        cancel_run=lambda run_id: _cancel_run(here, run_id),
        cancel_job=lambda key: _cancel_job(here, key),
        promote=_promote,
        record=here.operator_actions.record,
    )


def _compared(here: Stores, run_ids: Sequence[int]) -> dict[str, Any]:
    if not 2 <= len(set(run_ids)) <= MOST_COMPARED:
        raise UsageError(f"found {len(set(run_ids))} runs, expected 2 to {MOST_COMPARED} different ones")
    facts = here.run_lists.facts(run_ids, COMPARED_FACTS)
    if missing := set(run_ids) - {fact["run_id"] for fact in facts}:
        raise UsageError(f"there is no run {min(missing)}")
    figures = here.run_lists.figures(run_ids)
    metrics = [m for m in METRICS if not m.distance and any(m.key in figures[run_id] for run_id in run_ids)]
    return {
        "runs": [{name.partition(":")[0]: value for name, value in fact.items()} for fact in facts],
        "figures": [
            {
                "name": metric.title,
                "better": metric.better,
                "values": [figures[run_id].get(metric.key) for run_id in run_ids],
                "texts": [metric.show(figures[run_id].get(metric.key)) for run_id in run_ids],
            }
            for metric in metrics
        ],
    }


def _request(here: Stores, key: RequestKey) -> dict[str, Any]:
    """With why it is in its state, as `tango explain request` says it."""
    row = here.run_lists.request(key)
    try:
        found = here.explainer.request(key)
    except TangoError as error:  # its way in time is there all the same
        return row | {"explanation": None, "reason": row["reason"] or str(error)}
    why = found.explanation
    explanation = {
        "reason": str(why.reason),
        "words": why.words,
        "figures": {name: value if isinstance(value, str) else f"{value:,.6g}" for name, value in why.figures.items()},
        "would_change": why.would_change,
        "position": why.queue.position if why.queue else 0,
    }
    candidates = {"candidates": [shown(weighed) for weighed in found.weighed], "candidates_not_kept": found.not_kept}
    return row | {"explanation": explanation} | candidates


def _job_row(job: Job) -> dict[str, Any]:
    """What a listing has of a job: not its arguments and its variables."""
    kept = (
        "service",
        "tenant",
        "reason",
        "cluster",
        "node",
        "attempts",
        "exit_code",
        "message",
        "retries",
        "retries_used",
        "priority",
    )
    times = ("submitted_at_s", "started_at_s", "ended_at_s")
    row = {name: getattr(job, name) for name in (*kept, *times)}
    return row | {"job": str(job.key), "state": str(job.state), "waiting": waiting_words(job), "has_ended": job.has_ended}


def _job(here: Stores, key: RequestKey) -> dict[str, Any]:
    job = as_refused(here.jobs.job(key), here.refusals.pauses().states)
    blocks, remarks = list[bytes](), list[str]()
    try:
        JobLogs(here, write=blocks.append, say=remarks.append).show(key)
    except TangoError as error:  # the cluster is away: what is known of the job is shown all the same
        remarks.append(str(error))
    written = b"".join(blocks)[-LOG_BYTES:].decode(errors="replace")
    containers = [asdict(container) for container in job.containers]
    return _job_row(job) | {"log": written, "remarks": remarks, "containers": containers, "args": job.args, "command": job.command}


def _checkpoints(here: Stores) -> dict[str, Any]:
    roles = here.checkpoints.roles()
    rows = [
        {
            "name": found.name,
            "digest": found.digest,
            "policy": found.policy,
            "role": roles.of(found.digest),
            "decides": roles.deciding == found.digest,
            "refused": found.refused,
            "registered_at_s": found.registered_at.timestamp(),
        }
        for found in here.checkpoints.registered()
    ]
    history = [
        {"at_s": e.at.timestamp(), "action": e.action, "digest": e.digest, "actor": e.actor, "note": e.note}
        for e in here.checkpoints.history(limit=20)
    ]
    return {"checkpoints": rows, "history": history}


def _cancel_run(here: Stores, run_id: int) -> str:
    stopped, info = here.runs.cancel(run_id), here.runs.run(run_id)
    if not stopped:
        raise RequestRejected(f"run {run_id} is {info.status} already")
    return (
        f"run {run_id} is cancelled"
        if info.status in ENDED
        else f"run {run_id} is stopped; what is not finished is being cancelled"
    )


def _cancel_job(here: Stores, key: RequestKey) -> str:
    if not here.jobs.withdraw(key):
        raise RequestRejected(f"job {key} has {here.jobs.job(key).state} already")
    return f"job {key} is cancelled"


def _promote(digest: str, actor: str) -> str:
    """In a process of its own: a checkpoint is loaded as a test, by torch, which this one does without."""
    command = (sys.executable, "-m", "workers.promotion", "--digest", digest, "--actor", actor)
    done = subprocess.run(command, capture_output=True, text=True, timeout=PROMOTION_WITHIN_S, env=dict(os.environ), check=False)
    said = done.stdout.strip()
    if done.returncode != 0:
        raise RequestRejected(said or f"the checkpoint {digest[:SHORT]} could not be tried: {done.stderr.strip()[-300:]}")
    return said


class ProcessRows:
    """Rows of `tango status`, each with how long ago its process was last found to be another one than before."""

    def __init__(self, home: Path, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._home, self._clock_s = home, clock_s
        self._restarts: dict[str, int] = {}
        self._ended_at_s: dict[str, float] = {}

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """None where no stack runs in the folder."""
        if supervisor_pid(self._home) is None:
            return []
        return [self._with_end(row) for row in read_status(self._home)["processes"]]

    def _with_end(self, row: Mapping[str, Any]) -> dict[str, Any]:
        name, now_s = row["name"], self._clock_s()
        if row["restarts"] > self._restarts.get(name, row["restarts"]) or row["state"] not in ("running", "starting", "waiting"):
            self._ended_at_s[name] = now_s
        self._restarts[name] = row["restarts"]
        at_s = self._ended_at_s.get(name)
        return {**row, "ended_s": None if at_s is None else now_s - at_s}
