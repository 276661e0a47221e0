"""What brokers know, as metrics: the lengths of queues, clients, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tango.telemetry import catalogue as of
from tango.telemetry.readings import Readings
from workers.broker_health import queues_of
from workers.queues import exec_queue, lc_queue

CENTRE = "centre"
"""The broker that all share who have none of their own."""


class BrokerFigures:
    """The metrics of `Source.BROKER`."""

    def __init__(self, centre: Celery, of_clusters: Mapping[str, Celery]) -> None:
        """An application for the centre's broker, and for each that a cluster has of its own."""
        self._apps = {CENTRE: centre, **of_clusters}

    def __call__(self, clusters: Sequence[str]) -> Readings:
        """Of all brokers; of one that does not answer, that it does not."""
        found = Readings()
        apart = {queue for name in self._apps if name != CENTRE for queue in (lc_queue(name), exec_queue(name))}
        for name, app in self._apps.items():
            queues = [q for q in queues_of(clusters) if q not in apart] if name == CENTRE else [lc_queue(name), exec_queue(name)]
            of_broker = Readings()
            is_up = _read(app, name, queues, of_broker)
            found.add(of.BROKER_UP, (name,), float(is_up))
            if is_up:
                found.merge(of_broker)
        return found


def _read(app: Celery, name: str, queues: Sequence[str], found: Readings) -> bool:
    """Whether it answered all that was asked."""
    with app.connection_for_read() as connection:
        away = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
            channel: Any = connection.default_channel
            info = channel.client.info()
            for queue in queues:
                found.add(of.QUEUE_LENGTH, (queue,), float(channel._size(queue)))  # of all priorities
        except away:
            return False
    found.add(of.BROKER_MEMORY, (name,), float(info.get("used_memory", 0)))
    if most := float(info.get("maxmemory", 0)):
        found.add(of.BROKER_MOST_MEMORY, (name,), most)
    found.add(of.BROKER_CLIENTS, (name,), float(info.get("connected_clients", 0)))
    found.add(of.BROKER_EVICTED, (name,), float(info.get("evicted_keys", 0)))
    return True
