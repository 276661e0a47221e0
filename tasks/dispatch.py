"""Dispatch of LC arrivals; queue `lc.<cluster>`."""

from __future__ import annotations

from tango.bootstrap.world import world
from workers.app import app
from workers.publisher import CeleryPublisher


@app.task(name="tango.dispatch_lc", max_retries=0)
def dispatch_lc(run_id: int, cluster: str, request_ids: list[int]) -> dict[str, int]:
    """Choose nodes for the LC arrivals of a window, record, and publish to the chosen clusters."""
    return world().dispatch_lc(run_id, cluster, request_ids, CeleryPublisher(app))
