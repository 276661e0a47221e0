"""Which processes serve the clusters that have joined: agents by what they last wrote, workers by what they answer on the broker.

A worker whose cluster has a broker of its own is not heard here; its cluster's agent is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tango.domain.observations import Picture
from workers.queues import exec_queue, lc_queue

ANSWERS_WITHIN_S = 1.0
"""Seconds for which answers of workers are waited for: all answer at once, and nobody says how many there are."""
Row = dict[str, Any]


def agents(pictures: Iterable[Picture], joined: Sequence[str]) -> list[Row]:
    """A row for the agent of each joined cluster, as `tango status` shows it."""
    rows = []
    for picture in pictures:
        if picture.cluster in joined:
            age_s = picture.agent_age_s
            state = (
                "never heard of" if age_s is None else f"away for {age_s:.0f} s" if picture.is_away else f"heard {age_s:.0f} s ago"
            )
            rows.append({"name": f"agent of {picture.cluster}", "state": state, "role": "agent of a joined cluster"})
    return rows


def answering(app: Celery) -> dict[str, list[str]]:
    """Queues of each worker that answers on the broker, by its name; empty where the broker does not."""
    try:
        found: Mapping[str, list[Mapping[str, Any]]] = app.control.inspect(timeout=ANSWERS_WITHIN_S).active_queues() or {}
    except (OperationalError, OSError):
        return {}
    return {worker: [queue["name"] for queue in queues] for worker, queues in found.items()}


def workers(queues: Mapping[str, Sequence[str]], joined: Sequence[str]) -> list[Row]:
    """A row for each worker that consumes the queues of joined clusters."""
    rows = []
    for worker, consumed in sorted(queues.items()):
        served = [name for name in joined if {lc_queue(name), exec_queue(name)} & set(consumed)]
        if served:
            rows.append({"name": worker, "state": "answers", "role": f"worker of {', '.join(served)}"})
    return rows
