"""What a message may be: JSON, and never code."""

from __future__ import annotations

import pickle

import pytest
from kombu.exceptions import ContentDisallowed
from kombu.serialization import loads, prepare_accept_content

from tango.settings import Settings
from workers.app import create_app


def test_a_pickled_message_is_refused_unread() -> None:
    """Whoever reaches the broker may send one; read, it would run what it names. YAML neither."""
    app = create_app(Settings(broker_url="memory://"))
    accepted = prepare_accept_content(app.conf.accept_content)

    assert app.conf.accept_content == ["json"]
    assert (app.conf.task_serializer, app.conf.result_serializer, app.conf.event_serializer) == ("json", "json", "json")
    for kind, encoding, body in (
        ("application/x-python-serialize", "binary", pickle.dumps({"run_id": 1})),
        ("application/x-yaml", "utf-8", "run_id: 1"),
    ):
        with pytest.raises(ContentDisallowed):
            loads(body, kind, encoding, accept=accepted)
    assert loads('{"run_id": 1}', "application/json", "utf-8", accept=accepted) == {"run_id": 1}
