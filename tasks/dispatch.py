"""Dispatch of LC arrivals; queue `lc.<cluster>`."""

from __future__ import annotations

from workers.app import app
from workers.roles import cluster_worker


@app.task(name="tango.dispatch_lc", max_retries=0)
def dispatch_lc(run_id: int, cluster: str, request_ids: list[int]) -> dict[str, int]:
    """Choose nodes for the LC arrivals of a window, record that in the journal, and start the calls."""
    return cluster_worker(cluster).dispatch.dispatch(run_id, cluster, request_ids)
