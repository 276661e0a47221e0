"""Jobs of other Celery applications that share the broker, queue `submit.<cluster>`; and what is periodic about jobs, queue `control`."""

from __future__ import annotations

from typing import Any

from tango.errors import DependencyError
from workers.app import app
from workers.periodic import PeriodicTask
from workers.queues import CONTROL
from workers.roles import OPEN_RUNS, scheduler


@app.task(
    name="tango.job",
    bind=True,
    ignore_result=False,
    autoretry_for=(DependencyError,),
    retry_backoff=1,
    retry_backoff_max=30,
    max_retries=10,
)
def job(task: Any, tenant: str = "", **order: Any) -> str:
    """Submit a job, as `tango.domain.job_json.ORDER` has its members; the result is its id. Delivered twice it is one job.

    The one message that carries more than ids, because the row is made from it.
    """
    OPEN_RUNS.say()
    return str(scheduler().jobs.submit_order(order, tenant=tenant, key=task.request.id).key)


@app.task(base=PeriodicTask, name="tango.drop_job_logs", queue=CONTROL, max_retries=0)
def drop_job_logs() -> dict[str, int]:
    """Forget logs of jobs that are older than they are kept, and the oldest of too many."""
    here = scheduler()
    return {"dropped": here.jobs.drop_logs(here.job_settings)}
