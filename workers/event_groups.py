"""Events of a worker's tasks for Flower, published in groups a few times a second instead of at every turn of the worker's loop.

Celery gathers the events of tasks, and publishes what it has gathered as soon as its loop turns: at a hundred messages a second that
is nearly every event by itself, a sixth of the CPU of a scheduler worker. `celery events` and Flower take groups as they come.
"""

from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps

FLUSH_EVERY_S = 0.5
"""Seconds between two groups: Flower shows a task this much later."""
MOST_IN_GROUP = 400
"""Events that are published at once without waiting further: some 200 KiB."""


class GroupedEvents(bootsteps.StartStopStep):  # type: ignore[misc,unused-ignore]
    """The part of a consumer that publishes what its event dispatcher has gathered. Celery makes a dispatcher for each connection."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **kwargs: Any) -> None:
        super().__init__(consumer, **kwargs)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Take over from Celery, which would publish at once."""
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_limit = MOST_IN_GROUP
        dispatcher.on_send_buffered = None
        self._timer = consumer.timer.call_repeatedly(FLUSH_EVERY_S, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Publish what is left."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    terminate = stop


def group_events(app: Celery) -> None:
    """Let the workers of an application publish their tasks' events in groups."""
    app.steps["consumer"].add(GroupedEvents)
