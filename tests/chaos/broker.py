"""The brokers of a chaos world behind the production publisher: one at the centre and one beside each cluster, with what may go wrong."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from tests.chaos.network import Network
from tests.chaos.timeline import Process, Timeline
from workers.publisher import CeleryPublisher

Handler = Callable[..., Any]


@dataclass(slots=True, eq=False)
class Consumer:
    """A worker process: it takes messages of its queues while it has a free slot."""

    process: Process
    handlers: Mapping[str, Handler]
    """By task."""
    slots: int
    life: int
    busy: int = 0


@dataclass(slots=True)
class Message:
    """One message."""

    task: str
    kwargs: dict[str, Any]
    until_s: float


@dataclass(slots=True)
class Broker:
    """One broker. Messages are hints: it may lose them, deliver them twice, and in any order."""

    site: str
    timeline: Timeline
    network: Network
    dice: random.Random
    queues: dict[str, deque[Message]] = field(default_factory=dict)
    consumers: dict[str, list[Consumer]] = field(default_factory=dict)
    away_until_s: float = 0.0
    drops_until_s: float = 0.0
    doubles_until_s: float = 0.0
    shuffles_until_s: float = 0.0

    def consume(self, queues: list[str], handlers: Mapping[str, Handler], *, slots: int) -> None:
        """The running process takes messages of these queues until it dies."""
        process = self.timeline.current
        assert process is not None
        consumer = Consumer(process, handlers, slots, process.life)
        for queue in queues:
            others = [c for c in self.consumers.get(queue, []) if c.process.alive and c.life == c.process.life]
            self.consumers[queue] = [*others, consumer]
            self.queues.setdefault(queue, deque())
            self._pump(queue)

    def send(self, task: str, queue: str, ids: Mapping[str, Any]) -> None:
        """As `workers.messages.Messages`. Raises: OperationalError."""
        timeline, network = self.timeline, self.network
        process = timeline.current
        assert process is not None
        with timeline.step(f"send {task}", network.latency_s(process.machine.name, self.site)):
            if self.away_until_s > timeline.now_s:
                network.seen.add("broker away")
                raise OperationalError("the broker is away")
            self.put(task, dict(ids), queue)

    def put(self, task: str, kwargs: dict[str, Any], queue: str, *, expires_s: float = float("inf")) -> None:
        """Take a message."""
        timeline, network, dice = self.timeline, self.network, self.dice
        copies = 1
        if self.drops_until_s > timeline.now_s and dice.random() < 0.5:
            network.seen.add("message dropped")
            copies = 0
        elif self.doubles_until_s > timeline.now_s and dice.random() < 0.5:
            network.seen.add("message doubled")
            copies = 2
        for _ in range(copies):
            message = Message(task, copy.deepcopy(kwargs), timeline.now_s + expires_s)
            late_s = dice.uniform(0.0005, 0.003)
            if self.shuffles_until_s > timeline.now_s:
                network.seen.add("messages reordered")
                late_s = dice.uniform(0.0, 5.0)
            timeline.at(timeline.now_s + late_s, lambda message=message: self._arrive(queue, message))  # type: ignore[misc]

    def flush(self) -> None:
        """Lose everything that waits."""
        if any(self.queues.values()):
            self.network.seen.add("broker flushed")
        for queue in self.queues.values():
            queue.clear()

    def lose_power(self) -> None:
        """What came last is not on its disk."""
        for queue in self.queues.values():
            kept = [message for message in queue if self.dice.random() < 0.5]
            queue.clear()
            queue.extend(kept)

    def _arrive(self, queue: str, message: Message) -> None:
        self.queues.setdefault(queue, deque()).append(message)
        self._pump(queue)

    def _pump(self, queue: str) -> None:
        waiting = self.queues[queue]
        while waiting:
            free = [c for c in self.consumers.get(queue, []) if c.process.alive and c.life == c.process.life and c.busy < c.slots]
            if not free:
                return
            message = waiting.popleft()
            if message.until_s >= self.timeline.now_s:
                self._deliver(queue, message, free[self.dice.randrange(len(free))])

    def _deliver(self, queue: str, message: Message, consumer: Consumer) -> None:
        consumer.busy += 1
        handler = consumer.handlers[message.task]

        def work() -> None:
            try:
                handler(**message.kwargs)
            finally:
                consumer.busy -= 1
                if consumer.process.alive:
                    self.timeline.at(self.timeline.now_s, lambda: self._pump(queue))

        consumer.process.spawn(work)


def publisher_of(broker: Broker) -> CeleryPublisher:
    """The production publisher, with this broker for its own."""
    return CeleryPublisher(Celery(set_as_current=False), messages=broker)
