"""The Celery application of the yardstick: one task that does nothing, with the settings that make Celery fastest.

The worker processes that `tango.bench.celery_yardstick` starts import it; TANGO_BENCH_BROKER_URL names the broker.
"""

from __future__ import annotations

import os

from celery import Celery

QUEUE = "bench.noop"

app = Celery("yardstick", broker=os.environ.get("TANGO_BENCH_BROKER_URL", "memory://"))
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=False,
    worker_send_task_events=False,
    task_send_sent_event=False,
    task_default_queue=QUEUE,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"global_keyprefix": "tango-bench."},
    worker_hijack_root_logger=False,
)


@app.task(name="bench.noop", ignore_result=True)
def noop() -> None:
    """Do nothing."""
