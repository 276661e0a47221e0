"""Tango's own messages, made whole here and put into their queue in one command.

`Celery.send_task` is for messages of every kind: it looks up the task's options, routes, gives signals, plans retries, makes an object for
the result. That is some two thirds of what a message costs its sender, and none of it is used by messages that carry ids to a queue of
known name. What is put into the queue is what `send_task` would have put there (a test holds the two together), so that workers, Flower and
`celery inspect` know no difference. Where somebody listens to Celery's signals of publishing, as tracing does, `send_task` it is.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from typing import Any

import orjson
from celery import Celery, signals
from celery.utils.nodenames import anon_nodename
from kombu.exceptions import OperationalError

from workers.broker_transport import Channel

_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
"""What follows a task; nothing does."""


class Messages:
    """Sends messages of one Celery application. Thread-safe: the broker's client, which all threads share, is."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._reached: Channel | None = None
        """A channel that the broker has taken the last message over; None: Celery connects again."""

    def send(self, task: str, queue: str, ids: Mapping[str, object]) -> None:
        """Send a message once. Raises: OperationalError, ConnectionError or TimeoutError where the broker does not take it."""
        # What Flower shows of the arguments: Celery would write out all ids, which took longer than to send them.
        shown = ", ".join(f"{len(value)} {name}" if isinstance(value, list) else f"{name}={value}" for name, value in ids.items())
        shown = f"{{{shown}}}"
        channel = self._reached
        if channel is None or channel.closed or _somebody_listens():
            self._send_any(task, queue, ids, shown)
            return
        try:
            channel.put(queue, _whole(self._app, task, queue, ids, shown))
        except (*channel.connection_errors, channel.ResponseError) as error:
            self._reached = None
            raise OperationalError(str(error)) from error

    def _send_any(self, task: str, queue: str, ids: Mapping[str, object], shown: str) -> None:
        with self._app.producer_pool.acquire(block=True) as producer:
            # `declare`: Celery would declare the queue for each message. A list of this broker is there once something is put into it,
            # and those who consume from it have declared it.
            as_shown = {"argsrepr": "()", "kwargsrepr": shown}
            self._app.send_task(
                task,
                kwargs=dict(ids),
                queue=queue,
                producer=producer,
                declare=(),
                ignore_result=True,
                add_to_parent=False,
                **as_shown,
            )
            if isinstance(producer.channel, Channel):
                self._reached = producer.channel


def _somebody_listens() -> bool:
    return bool(signals.before_task_publish.receivers or signals.after_task_publish.receivers or signals.task_sent.receivers)


def _whole(app: Celery, task: str, queue: str, ids: Mapping[str, object], shown: str) -> bytes:
    """A message of Celery's protocol 2 as kombu's Redis transport keeps it, in JSON.

    Source: Celery documentation, "Message Protocol", version 2.
    """
    task_id, root_id, parent_id = str(uuid.uuid4()), None, None
    if (parent := app.current_worker_task) is not None:
        root_id, parent_id = parent.request.root_id or parent.request.id, parent.request.id
    headers: dict[str, Any] = {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": root_id or task_id,
        "parent_id": parent_id,
        "argsrepr": "()",
        "kwargsrepr": shown,
        "origin": anon_nodename(),
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    properties = {
        "correlation_id": task_id,
        "reply_to": app.thread_oid,
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": queue},
        "priority": 0,
        "body_encoding": "base64",
        "delivery_tag": str(uuid.uuid4()),
    }
    body = base64.b64encode(orjson.dumps([[], ids, _EMBEDDED])).decode()
    return orjson.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": properties,
        }
    )
