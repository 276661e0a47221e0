"""Publishes messages to the broker: implements `tango.ports.messages.Publisher` on Celery.

Messages carry ids only and are hints: one may be lost or delivered twice, since the rows in PostgreSQL are the truth.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from celery import Celery, group
from kombu.exceptions import OperationalError

from tango.domain.requests import Batch
from tango.domain.services import ServiceClass
from tango.errors import BrokerUnavailable
from tango.ports.requests import Dispatched
from workers.messages import Messages
from workers.queues import REPLAY, SIMULATE, be_queue, exec_queue, lc_queue

PUBLISH_WITHIN_S = 5.0
"""Seconds after which no further try to publish is begun. A message is a hint: what is not told now is found by the next sweep."""


class Sends(Protocol):
    """What puts a message into a queue, as `Messages` does."""

    def send(self, task: str, queue: str, ids: Mapping[str, object], /) -> None:
        """Raises: what a broker's client raises."""
        ...


class CeleryPublisher:
    """Publishes through one Celery application; thread-safe, because producers come from the application's pool.

    Every method raises BrokerUnavailable if the broker does not take a message.
    """

    def __init__(self, app: Celery, *, messages: Sends | None = None) -> None:
        """`messages` puts them into queues; None: those of the application."""
        self._app = app
        self._messages = messages or Messages(app)

    def arrivals(self, batches: Sequence[Batch]) -> None:
        """Publish one message to `lc.<cluster>` or `be.<cluster>` for all batches of a run, cluster and class.

        Requests of several services that arrive together are so planned together, as one flow; with a message for each service the
        last would wait for the dispatch of the first.
        """
        together: dict[tuple[int, str, int], list[int]] = defaultdict(list)
        for batch in batches:
            together[batch.run_id, batch.cluster, batch.service_class].extend(batch.request_ids)
        for (run_id, cluster, service_class), request_ids in together.items():
            lc = service_class == ServiceClass.LC
            self._send(
                "tango.dispatch_lc" if lc else "tango.admit_be",
                lc_queue(cluster) if lc else be_queue(cluster),
                run_id=run_id,
                cluster=cluster,
                request_ids=request_ids,
            )

    def executions(self, run_id: int, cluster: str, dispatched: Dispatched) -> None:
        """Publish one message to `exec.<cluster>`."""
        self._send(
            "tango.execute_lc",
            exec_queue(cluster),
            run_id=run_id,
            cluster=cluster,
            request_ids=list(dispatched.request_ids),
            epochs=list(dispatched.epochs),
        )

    def replay(self, run_id: int) -> None:
        """Publish one message to `replay`."""
        self._send("tango.replay_run", REPLAY, run_id=run_id)

    def simulations(self, run_ids: Sequence[int]) -> None:
        """Publish one message to `simulate` for each run, as a Celery group on one connection."""
        signatures = (self._app.signature("tango.simulate", kwargs={"run_id": run_id}, ignore_result=True) for run_id in run_ids)
        cells = group(signatures, app=self._app)
        self._reach(SIMULATE, lambda: cells.apply_async(queue=SIMULATE, ignore_result=True))

    def forget(self, cluster: str) -> int:
        """Drop the hints for a cluster that has left; gives how many there were. What other applications have submitted for it stays."""
        dropped = 0

        def purge() -> None:
            nonlocal dropped
            with self._app.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, timeout=3)
                channel = connection.default_channel
                dropped += sum(channel.queue_purge(of(cluster)) or 0 for of in (lc_queue, exec_queue, be_queue))

        self._reach(be_queue(cluster), purge)
        return dropped

    def _send(self, task: str, queue: str, **ids: object) -> None:
        self._reach(queue, lambda: self._messages.send(task, queue, ids))

    def _reach(self, queue: str, send: Callable[[], object]) -> None:
        attempts, until_s = 3, time.monotonic() + PUBLISH_WITHIN_S
        for attempt in range(1, attempts + 1):
            try:
                send()
                return
            except (OperationalError, ConnectionError, TimeoutError) as error:
                # A broker behind a line that swallows everything takes its connection's whole time-out at each try.
                if attempt == attempts or time.monotonic() >= until_s:
                    raise BrokerUnavailable(
                        f"the broker does not take messages ({type(error).__name__}); tried {attempt} times for queue {queue}. "
                        "Start the stack with `tango up`, or check TANGO_BROKER_URL."
                    ) from error
                time.sleep(random.uniform(0.05, 0.2) * attempt)
