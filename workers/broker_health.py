"""How a broker stands, for `tango doctor` and `tango cluster list`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tango.domain.findings import BrokerFacts
from workers.joined import answering
from workers.queues import CONTROL, REPLAY, SIMULATE, be_queue, exec_queue, lc_queue, submit_queue

TRIES = 5
"""Times that a clock is read, as of the database."""
_OF_CLUSTER = (lc_queue, exec_queue, be_queue, submit_queue)


def queues_of(clusters: Iterable[str]) -> list[str]:
    """All queues of a stack with these clusters."""
    return [CONTROL, REPLAY, SIMULATE, *(of(name) for name in clusters for of in _OF_CLUSTER)]


def broker_facts(app: Celery, clusters: Iterable[str]) -> BrokerFacts:
    """What can be asked of the broker; one that does not answer is a fact too. A setting that may not be read is left out."""
    with app.connection_for_read() as connection:
        away = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=3)
            client = connection.default_channel.client
            ahead_s, answer_s = _clock(client)
            info = client.info("memory") | client.info("persistence")
            waiting = {name: int(client.llen(name)) for name in queues_of(clusters)}
            return BrokerFacts(
                maxmemory_policy=str(info.get("maxmemory_policy", "")),
                maxmemory_bytes=int(info.get("maxmemory", 0)),
                used_bytes=int(info.get("used_memory", 0)),
                is_appended=bool(int(info.get("aof_enabled", 1))),
                ahead_s=ahead_s,
                answer_ms=answer_s * 1e3,
                waiting=waiting,
                consumers=dict(Counter(queue for consumed in answering(app).values() for queue in consumed)),
            )
        except away as error:
            return BrokerFacts(failure=f"the broker does not answer: {error}")


def waiting_messages(app: Celery, clusters: Iterable[str]) -> dict[str, int]:
    """Messages that wait in the queues of each cluster on the broker of the centre; nothing where it does not answer."""
    with app.connection_for_read() as connection:
        away = (OperationalError, OSError, *connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
            channel: Any = connection.default_channel
            return {name: sum(int(channel._size(of(name))) for of in _OF_CLUSTER) for name in clusters}
        except away:
            return {}


def _clock(client: Any) -> tuple[float, float]:
    """(seconds by which the broker's clock is ahead, seconds of an answer), by the quickest of a few tries."""
    best = (float("inf"), 0.0)
    for _ in range(TRIES):
        began_s, began = time.time(), time.perf_counter()
        seconds, microseconds = client.time()
        took_s = time.perf_counter() - began
        best = min(best, (took_s, seconds + microseconds / 1e6 - (began_s + took_s / 2)))
    return best[1], best[0]
