"""LC requests of other Celery applications, queue `submit.<cluster>`."""

from __future__ import annotations

from typing import Any

from celery.exceptions import Ignore

from tango.errors import DependencyError
from workers.app import app
from workers.queues import lc_queue
from workers.roles import cluster_worker, serves_cluster


@app.task(
    name="tango.request",
    bind=True,
    ignore_result=False,
    autoretry_for=(DependencyError,),
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=10,
)
def request(task: Any, tenant: str = "", **order: Any) -> str:
    """Accept a request, as `tango.domain.call_json.ORDER` has its members; the result is its id. Delivered twice it is one request.

    The scheduler takes these messages from the centre's broker for all clusters. It has none of their journals, and hands the message on to
    the workers of the cluster.
    """
    _, _, cluster = task.request.delivery_info["routing_key"].partition(".")
    if not serves_cluster(cluster):
        of = {"task_id": task.request.id, "reply_to": task.request.reply_to, "correlation_id": task.request.correlation_id}
        task.apply_async(kwargs={"tenant": tenant, **order}, queue=lc_queue(cluster), **of)
        raise Ignore
    return str(cluster_worker(cluster).take_order(order, tenant=tenant, key=f"celery:{task.request.id}"))
