"""A broker behind a line that goes silent: whoever publishes or consumes has a deadline on this side, and goes on when the line does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery import Celery

from tango.domain.line import LineMode, LineState
from tango.emulation.line import Line
from tango.errors import BrokerUnavailable
from tango.loop_thread import LoopThread
from tango.settings import Settings
from tango.stack.tether import tethered
from tests.integration.live_stack import ROOT
from workers.app import create_app
from workers.publisher import CeleryPublisher

PUBLISHED_WITHIN_S = 20.0
"""Far above what it takes, far below what it took before there was a deadline (60 s)."""
CONSUMES_WITHIN_S = 45.0
"""Seconds in which a consumer has noticed a line that was silent, and has connected again."""


class Door:
    """A line to the broker, on a thread of its own."""

    def __init__(self, broker_url: str) -> None:
        self._line = Line()
        self._loop = LoopThread("line")
        place = urlsplit(broker_url)
        port = self._loop.run(lambda: self._line.open_door((str(place.hostname), int(place.port or 0))), within_s=5.0)
        self.url = place._replace(netloc=f":{place.password}@127.0.0.1:{port}").geturl()

    def become(self, mode: LineMode) -> None:
        """From now on."""

        async def change() -> None:
            self._line.become(LineState(mode=mode))

        self._loop.run(change, within_s=5.0)

    def close(self) -> None:
        """End it."""
        self._loop.run(self._line.close, within_s=5.0)
        self._loop.stop(within_s=5.0)


@pytest.fixture
def door(valkey_url: str) -> Iterator[Door]:
    """Open at first."""
    found = Door(valkey_url)
    yield found
    found.close()


def app_of(url: str) -> Celery:
    """Tango's, on this broker."""
    return create_app(Settings(broker_url=url))


@pytest.mark.parametrize("mode", [LineMode.SWALLOW, pytest.param(LineMode.STALL, marks=pytest.mark.long)])
def test_publishing_into_silence_ends_by_a_deadline(door: Door, mode: LineMode) -> None:
    """On a connection that was well before; when the line is open again the next message is taken at once."""
    publisher = CeleryPublisher(app_of(door.url))
    publisher.replay(1)
    door.become(mode)
    began_s = time.monotonic()

    with pytest.raises(BrokerUnavailable, match="does not take messages"):
        publisher.replay(2)
    lasted_s = time.monotonic() - began_s
    door.become(LineMode.OPEN)
    publisher.replay(3)

    assert lasted_s < PUBLISHED_WITHIN_S


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", [LineMode.SWALLOW, LineMode.STALL, LineMode.CUT])
def test_a_consumer_notices_a_line_that_was_silent(door: Door, valkey_url: str, tmp_path: Path, mode: LineMode) -> None:
    """It has a connection on which nothing will ever come, and gives it up; what was published meanwhile is done."""
    told = tmp_path / "told"
    environment = {**os.environ, "NOOP_BROKER_URL": door.url, "NOOP_FILE": str(told), "PYTHONPATH": str(ROOT)}
    options = ("-Q", "noop", "--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle", "-l", "warning")
    command = [sys.executable, "-m", "celery", "-A", "tests.integration.noop_worker", "worker", *options]
    here = app_of(valkey_url)
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(tethered(command), env=environment, stdout=log, stderr=log, cwd=ROOT)
    try:
        _told_of(here, told, "first", within_s=60.0)
        door.become(mode)
        here.send_task("noop.note", kwargs={"word": "meanwhile"}, queue="noop", ignore_result=True)
        time.sleep(30.0)
        door.become(LineMode.OPEN)
        _told_of(here, told, "last", within_s=CONSUMES_WITHIN_S)

        assert worker.poll() is None, (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait(10)


def _told_of(app: Celery, told: Path, word: str, *, within_s: float) -> None:
    """Publish a task, and wait until it is done."""
    app.send_task("noop.note", kwargs={"word": word}, queue="noop", ignore_result=True)
    deadline_s = time.monotonic() + within_s
    while not told.exists() or word not in told.read_text().split():
        assert time.monotonic() < deadline_s, f"{word} was not told within {within_s} s"
        time.sleep(0.1)
