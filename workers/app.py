"""The Celery application: its settings, under which no work is lost, and the beat schedule of the periodic tasks.

`celery -A workers.app worker|beat|inspect|flower` all import this module. The import reads the environment (through `tango.bootstrap`)
and opens no connection. What workers are made of, and how they warm up, is in `roles.py`, which the task modules import.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery, signals

from tango.bootstrap.environment import configure_logging, read_settings
from tango.settings import Settings
from tango.stack.broker_address import broker_address
from tango.stack.inherited import leave_out_others
from workers import celery_figures, vital_signs
from workers.acknowledging import acknowledge_at_once
from workers.broker_transport import spoken_to
from workers.event_groups import group_events
from workers.queues import CONTROL, REPLAY, SIMULATE, declared

TASK_MODULES = (
    "tasks.replay",
    "tasks.dispatch",
    "tasks.execute",
    "tasks.admission",
    "tasks.placement",
    "tasks.sharing",
    "tasks.reconcile",
    "tasks.simulate",
    "tasks.jobs",
    "tasks.requests",
)


def create_app(settings: Settings) -> Celery:
    """Build the Celery application for these settings; opens no connection."""
    # Once more, for who makes an application of settings of its own: a broker's certificate is verified whoever connects.
    app = Celery("tango", include=list(TASK_MODULES))
    app.conf.update(
        **spoken_to(broker_address(settings.broker_url)),
        # JSON only: a message can carry ids, never code.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        # For the one task whose result somebody waits for, another application that submits a job: sent to whoever asks, kept nowhere.
        result_backend="rpc://",
        # A message is acknowledged after its task has run, so that a worker which is stopped gives back what it has not begun. The
        # message of a task that failed is acknowledged too: the request's row, by its lease, decides about a retry.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=True,
        task_acks_on_timeout=True,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=True,
        worker_soft_shutdown_timeout=10,
        worker_enable_soft_shutdown_on_idle=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=5,
        # A broker whose disk is full refuses each command: that passes, and must not end the worker.
        broker_channel_error_retry=True,
        broker_transport_options={
            # kombu would note each message in two more round trips, to deliver it again five minutes after its worker has died. The
            # keeper of a journal, or the centre's reconciler, publishes it again within seconds, by the row.
            "ack_emulation": False,
            # Seconds for one answer. A try to publish takes two of them where nothing answers: one on the connection that it has, one to
            # log in on another.
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "global_keyprefix": "tango.",
        },
        # The reconciler publishes lost messages again, so a publisher may give up within a second on a broker that is away.
        task_publish_retry=True,
        task_publish_retry_policy={"max_retries": 1, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.5},
        worker_send_task_events=True,
        # A worker says what it received and ran. What publishers sent would be a message to Flower more for each message.
        task_send_sent_event=False,
        task_default_queue=CONTROL,
        task_create_missing_queues=True,
        task_queues=declared((CONTROL, REPLAY, SIMULATE)),
        worker_hijack_root_logger=False,
        worker_max_memory_per_child=800_000,
        timezone="UTC",
        beat_scheduler="workers.ticks:Ticks",
        beat_max_loop_interval=1.0,
        beat_schedule={
            # No `expires`: it would be told by another host's clock (`workers.periodic`).
            name: {
                "task": task,
                "schedule": every_s,
                "idle": settings.ticks.idle_s,
                "options": {"queue": CONTROL},
            }
            for name, task, every_s in (
                ("place-be", "tango.place_be", settings.be.tick_s),
                ("reassure", "tango.reassure", settings.sharing.tick_s),
                ("reconcile", "tango.reconcile", settings.ticks.reconcile_s),
                ("sweep-cancelled", "tango.sweep_cancelled", settings.cancel.tick_s),
                ("drop-job-logs", "tango.drop_job_logs", settings.job.drop_every_s),
                *([("prune-runs", "tango.prune_runs", settings.retention.tick_s)] if settings.retention.is_on else []),
            )
        },
    )
    group_events(app)
    acknowledge_at_once(app)
    vital_signs.show()
    celery_figures.show()
    return app


@signals.setup_logging.connect  # type: ignore[untyped-decorator,unused-ignore]
def _log_as_events(loglevel: int = 20, **_: object) -> None:
    configure_logging(loglevel)


@signals.worker_ready.connect  # type: ignore[untyped-decorator,unused-ignore]
def _tell_supervisor(**_: object) -> None:
    """Create the ready file, which the local stack's supervisor waits for."""
    if path := os.environ.get("TANGO_READY_FILE"):
        Path(path).touch(mode=0o600)


# Celery's command line looks for variables of its own after it has imported this.
leave_out_others()
app = create_app(read_settings())
