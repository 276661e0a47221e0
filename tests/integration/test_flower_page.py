"""Flower as Tango starts it: nothing of it is shown without the login."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery
from flower import urls

from tango.stack.broker import free_port
from tango.stack.processes import FLOWER_LOGIN, flower_program
from tests.integration.live_stack import ROOT
from tests.waiting import until

OPEN = {"/healthcheck", "/login", "/logout", "/static/x"}
"""What says nothing of the stack: that Flower lives, its login page and the way out, its pictures."""


def pages() -> list[str]:
    """A path for every pattern of Flower's."""
    patterns = [h[0] if isinstance(h, tuple) else h.regex.pattern.rstrip("$") for h in urls.handlers]
    return [re.sub(r"\(\.[+*]\)", "x", p).replace("/?", "") for p in patterns if p != ".*"]


@pytest.fixture(scope="module")
def flower(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where it answers."""
    port = free_port()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")}
    told = {"TANGO_BROKER_URL": valkey_url, "TANGO_HOME": str(tmp_path_factory.mktemp("home")), FLOWER_LOGIN: "tango:hidden"}
    process = subprocess.Popen(
        [sys.executable, "-m", *flower_program(port)], env={**kept, **told, "PYTHONPATH": str(ROOT)}, cwd=Path("/")
    )
    try:
        until(lambda: process.poll() is not None or status(f"http://127.0.0.1:{port}/healthcheck") == 200)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait(10)


def status(url: str, method: str = "GET", *, login: str = "") -> int:
    """Of an answer; 0: nobody answers."""
    headers = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()} if login else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=10.0) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError:
        return 0


def test_the_broker_page_shows_the_queues_with_their_depths(flower: str, valkey_url: str) -> None:
    """It said that the broker was not supported, since Celery speaks to it by a transport of Tango's own."""
    with Celery(broker=valkey_url, set_as_current=False) as application:
        application.conf.broker_transport_options = {"global_keyprefix": "tango."}
        for _ in range(3):
            application.send_task("nobody", queue="simulate")
    request = urllib.request.Request(f"{flower}/api/queues/length")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"tango:hidden").decode())

    with urllib.request.urlopen(request, timeout=10.0) as answer:
        depths = {queue["name"]: queue["messages"] for queue in json.load(answer)["active_queues"]}

    assert status(f"{flower}/broker", login="tango:hidden") == 200
    assert depths["simulate"] == 3


def test_no_page_is_shown_without_the_login(flower: str) -> None:
    """Its API and its metrics neither, by either method; with the login the metrics are there."""
    found = {path: (status(flower + path), status(flower + path, "POST")) for path in pages()}

    assert "/metrics" in found
    shown = {path for path, codes in found.items() if not set(codes) <= {401, 403, 405} or codes == (405, 405)}
    assert shown <= OPEN
    assert (status(flower + "/metrics", login="tango:wrong"), status(flower + "/metrics", login="tango:hidden")) == (401, 200)
