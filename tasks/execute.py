"""Execution of LC requests that no place was free for; queue `exec.<cluster>`."""

from __future__ import annotations

from workers.app import app
from workers.roles import cluster_worker


@app.task(name="tango.execute_lc", max_retries=0)
def execute_lc(run_id: int, cluster: str, request_ids: list[int], epochs: list[int]) -> dict[str, int]:
    """Claim the rows and start their calls; the slot is free as soon as they are under way."""
    return {"claimed": cluster_worker(cluster).executor.execute(run_id, request_ids, epochs)}
