"""Admission of BE arrivals; queue `be.<cluster>`."""

from __future__ import annotations

from workers.app import app
from workers.roles import OPEN_RUNS, scheduler


@app.task(name="tango.admit_be", max_retries=0)
def admit_be(run_id: int, cluster: str, request_ids: list[int]) -> dict[str, int]:
    """Mark the BE arrivals of a window pending for the centre, or failed where they fit no node."""
    OPEN_RUNS.say()
    return scheduler().admission.admit(run_id, request_ids)
