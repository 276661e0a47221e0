"""What is periodic about jobs; queue `control`."""

from __future__ import annotations

from workers.app import app
from workers.queues import CONTROL
from workers.roles import scheduler


@app.task(name="tango.drop_job_logs", queue=CONTROL, max_retries=0)
def drop_job_logs() -> dict[str, int]:
    """Forget logs of jobs that are older than they are kept, and the oldest of too many."""
    here = scheduler()
    return {"dropped": here.jobs.drop_logs(here.job_settings)}
