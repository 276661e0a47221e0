"""Acknowledges a message in the thread that has run its task, without waking the worker's loop for it.

Celery hands each acknowledgement to the loop, which owns the connection: a word over a pair of sockets, a switch of threads and a turn of
the loop for every message. Where kombu keeps no record of unacknowledged messages on the broker (`ack_emulation` off), to acknowledge is to
note a tag in memory, which kombu lets any thread do. The loop is woken only where it may have stopped to ask for messages, because as
many as it may have are under way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from kombu.transport.virtual import QoS

NEARLY = 2
"""Messages by which those under way may fall short of the most for the loop to be woken all the same: others may be acknowledged at
the same time, and the loop may just be stopping."""


class AcknowledgedAtOnce(bootsteps.StartStopStep):  # type: ignore[misc,unused-ignore]
    """The part of a consumer that says where messages are acknowledged. Celery asks for that when its loop begins, at each connection."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        """Take over from Celery, where the broker need not be told."""
        qos = consumer.task_consumer.channel.qos
        if consumer.hub is not None and getattr(type(qos), "ack", None) is QoS.ack:
            consumer.call_soon_ack = at_once(qos, consumer.hub.call_soon)

    def stop(self, consumer: Any) -> None:
        """Forget the decision: the next connection needs a new one."""
        vars(consumer).pop("call_soon_ack", None)

    terminate = stop


def at_once(qos: Any, wake: Callable[[Callable[[], None]], object]) -> Callable[..., None]:
    """What acknowledges a message, or gives it back, in whatever thread it is called; `wake` has the loop call a function."""

    def acknowledge(how: Callable[..., object], *arguments: object, **named: object) -> None:
        how(*arguments, **named)
        most = qos.prefetch_count
        if most and len(qos._delivered) - len(qos._dirty) + NEARLY >= most:
            wake(_nothing)

    return acknowledge


def _nothing() -> None:
    """The loop asks for messages by itself when it turns."""


def acknowledge_at_once(app: Celery) -> None:
    """Let the workers of an application acknowledge messages where their tasks have run."""
    app.steps["consumer"].add(AcknowledgedAtOnce)
