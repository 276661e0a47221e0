"""Messages on a real broker: those that are made here are those that Celery makes, and consumers read what others send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
import redis
from celery import Celery, signals
from kombu import Consumer, Queue

from tango.domain.requests import batches_of
from tango.domain.services import ServiceClass
from tango.settings import Settings
from tests.waiting import until
from workers.app import create_app
from workers.broker_transport import loaded
from workers.publisher import CeleryPublisher

PREFIX = "tango."
UNIQUE = {"id", "root_id", "correlation_id", "delivery_tag"}
"""What differs from message to message."""


@pytest.fixture
def app(valkey_url: str) -> Iterator[Celery]:
    """Tango's application on an empty broker."""
    with redis.Redis.from_url(valkey_url) as client:
        client.flushdb()
    made = create_app(Settings(broker_url=valkey_url))
    yield made
    made.close()


def told(valkey_url: str, queue: str) -> list[dict[str, Any]]:
    """The messages in a queue, the oldest first, taken out."""
    with redis.Redis.from_url(valkey_url) as client:
        found = client.lrange(PREFIX + queue, 0, -1)[::-1]
        client.delete(PREFIX + queue)
    return [json.loads(message) for message in found]


def arrivals(publisher: CeleryPublisher, *ids: int) -> None:
    """Publish LC arrivals at c1."""
    publisher.arrivals(batches_of([(7, k, int(ServiceClass.LC), "web", "c1") for k in ids]))


def plain(of: Any) -> Any:
    """Without what differs from message to message."""
    return {k: plain(v) for k, v in of.items() if k not in UNIQUE} if isinstance(of, dict) else of


def test_a_message_is_what_celery_would_have_sent(app: Celery, valkey_url: str) -> None:
    """The first one over a connection is sent by Celery itself, later ones are made here: key by key they are the same."""
    publisher = CeleryPublisher(app)

    for _ in range(2):
        arrivals(publisher, 1, 2)

    first, second = told(valkey_url, "lc.c1")
    for name in ("argsrepr", "kwargsrepr"):  # of the headers; `send_task` puts what it does not know into the properties too
        assert first["properties"].pop(name) == first["headers"][name]
    bodies = [json.loads(base64.b64decode(message.pop("body"))) for message in (first, second)]
    assert bodies[0] == bodies[1]
    assert plain(second) == plain(first)
    assert second["headers"]["id"] == second["headers"]["root_id"] == second["properties"]["correlation_id"]
    assert first["headers"]["id"] != second["headers"]["id"]
    assert second["headers"]["kwargsrepr"] == "{run_id=7, cluster=c1, 2 request_ids}"


def test_hints_that_nobody_takes_expire_together_and_what_others_submit_does_not(app: Celery, valkey_url: str) -> None:
    """A minute after the first of them, however many come after it; rows make them again for whoever consumes by then."""
    publisher = CeleryPublisher(app)
    with redis.Redis.from_url(valkey_url) as client:
        for _ in range(3):  # sent by Celery, then by Tango's own writer
            arrivals(publisher, 1)
            publisher.replay(7)
            assert all(50_000 < client.pttl(f"{PREFIX}{queue}") <= 60_000 for queue in ("lc.c1", "replay"))
        client.expire(f"{PREFIX}lc.c1", 5)
        arrivals(publisher, 2)
        publisher.simulations([1, 2])
        app.send_task("tango.job", kwargs={}, queue="submit.c1")

        assert client.llen(f"{PREFIX}lc.c1") == 4
        assert client.ttl(f"{PREFIX}lc.c1") <= 5
        assert 3000 < client.ttl(f"{PREFIX}simulate") <= 3600
        assert client.ttl(f"{PREFIX}submit.c1") == -1


def test_who_listens_to_messages_being_sent_hears_of_each(app: Celery, valkey_url: str) -> None:
    """As tracing does; nothing is made here then."""
    heard: list[str] = []

    def hear(sender: str, **_: object) -> None:
        heard.append(sender)

    publisher = CeleryPublisher(app)
    arrivals(publisher, 1)
    signals.before_task_publish.connect(hear, weak=False)
    try:
        arrivals(publisher, 2)
    finally:
        signals.before_task_publish.disconnect(hear)
    arrivals(publisher, 3)

    assert heard == ["tango.dispatch_lc"]
    assert len(told(valkey_url, "lc.c1")) == 3


def test_a_broker_that_comes_back_gets_the_next_message(app: Celery, valkey_url: str) -> None:
    """Its connections are gone, and so is what was known of them."""
    publisher = CeleryPublisher(app)
    for k in (1, 2):
        arrivals(publisher, k)
    with redis.Redis.from_url(valkey_url) as client:
        client.client_kill_filter(skipme=True)

    arrivals(publisher, 3)

    assert len(told(valkey_url, "lc.c1")) == 3


def test_a_consumer_reads_its_own_queues_and_those_of_others_with_their_priorities(app: Celery) -> None:
    """Of messages that other applications submit each has a list of its priority; and times in headers are kombu's own form."""
    bodies: list[object] = []
    queues = [Queue(name, routing_key=name) for name in ("lc.c1", "exec.c1", "submit.c1")]
    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, 0, False)
        with Consumer(channel, queues, callbacks=[lambda body, message: bodies.append(body)], no_ack=True, accept=["json"]):
            with app.producer_or_acquire() as producer:
                for queue, priority in (("submit.c1", 9), ("submit.c1", 0), ("lc.c1", 0), ("exec.c1", 0)):
                    producer.publish({"to": queue, "with": priority}, routing_key=queue, priority=priority, exchange="")

            def are_all_there() -> bool:
                connection.drain_events(timeout=5)
                return len(bodies) == 4

            until(are_all_there)

    assert sorted(map(str, bodies)) == sorted(
        map(str, [{"to": to, "with": p} for to, p in (("submit.c1", 9), ("submit.c1", 0), ("lc.c1", 0), ("exec.c1", 0))])
    )


JUNK = (
    b"",
    b"no JSON",
    b"[" * 100_000,
    b"\xff\xfe",
    b"null",
    b"[1, 2]",
    b'{"body": "e30="}',
    b'{"body": "e30=", "properties": 7}',
    b'{"body": "e30=", "properties": {"delivery_tag": "1"}, "headers": [1]}',
    b'{"body": "e", "properties": {"delivery_tag": "1", "body_encoding": "base64"}}',
    b'{"body": 7, "properties": {"delivery_tag": "1", "body_encoding": "base64"}}',
    b'{"body": "e30=", "properties": {"delivery_tag": "1", "body_encoding": "rot13"}}',
)
"""What anybody who reaches the broker may put into a queue."""


def test_what_is_no_message_is_dropped_and_the_next_one_is_read(app: Celery, valkey_url: str) -> None:
    """In kombu it ends the worker, which takes its queues from all others of its cluster until it is started again."""
    bodies: list[object] = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, 0, False)
        with Consumer(
            channel,
            [Queue("lc.c1", routing_key="lc.c1")],
            callbacks=[lambda body, message: bodies.append(body)],
            no_ack=True,
            accept=["json"],
        ):
            with redis.Redis.from_url(valkey_url) as client, app.producer_or_acquire() as producer:
                client.lpush(f"{PREFIX}lc.c1", *JUNK)
                producer.publish({"after": "all of it"}, routing_key="lc.c1", exchange="")

            def is_there() -> bool:
                connection.drain_events(timeout=5)
                return bool(bodies)

            until(is_there)

    assert bodies == [{"after": "all of it"}]
    assert told(valkey_url, "lc.c1") == []


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (b'{"a": [1, 2.5, null, "\\u00e4"]}', {"a": [1, 2.5, None, "ä"]}),
        (b'{"a": NaN}', "nan"),
        (b'{"a": {"__type__": "datetime", "__value__": "2026-11-30T00:00:00"}}', {"a": datetime(2026, 11, 30, tzinfo=None)}),
    ],
)
def test_messages_are_read_as_kombu_reads_them(message: bytes, found: object) -> None:
    """Its own types, and what Python takes beyond JSON."""
    read = loaded(message)

    assert str(read["a"]) == "nan" if found == "nan" else read == found
    if b"NaN" not in message and b"__type__" not in message:
        assert read == orjson.loads(message)
