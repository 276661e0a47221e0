"""Beat's schedule: as set while a run is open, rarely while none is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from redis.exceptions import ConnectionError as BrokerAway

from tango.settings import Settings
from workers import ticks
from workers.app import create_app
from workers.open_runs import OpenRuns, read_word
from workers.ticks import LOOK_EVERY_S, OPEN_FOR_S, Ticks

IDLE_S = 3.0


class Client:
    """The part of a Redis client that holds hashes; away, when it is told so."""

    def __init__(self) -> None:
        self.words: dict[tuple[str, str], str] = {}
        self.is_away = False
        self.waiting = 0

    def hset(self, name: str, field: str, value: str) -> None:
        """Keep."""
        if self.is_away:
            raise BrokerAway("away")
        self.words[name, field] = value

    def llen(self, queue: str) -> int:
        """Messages that wait."""
        if self.is_away:
            raise BrokerAway("away")
        return self.waiting

    def hget(self, name: str, field: str) -> str | None:
        """What was kept."""
        if self.is_away:
            raise BrokerAway("away")
        return self.words.get((name, field))


class Beat(Ticks):
    """A beat on a clock of its own, which notes what it sends and when."""

    def __init__(self, client: Client) -> None:
        self.at_s = 1000.0
        self.now_s = lambda: self.at_s
        self.client = client
        self.sent: list[tuple[float, str]] = []
        connection = SimpleNamespace(connection_errors=(BrokerAway,), channel_errors=())
        self.__dict__["connection"] = connection
        self.__dict__["producer"] = SimpleNamespace(channel=SimpleNamespace(client=client))
        app = Celery("test", broker="memory://")
        app.conf.beat_schedule = {
            "often": {"task": "often", "schedule": 0.2, "idle": IDLE_S},
            "seldom": {"task": "seldom", "schedule": 1.0, "idle": IDLE_S},
        }
        super().__init__(app)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Note."""
        self.sent.append((self.at_s, entry.name))

    def beats(self, seconds: float) -> dict[str, int]:
        """Beat for so long; how often each task was sent meanwhile."""
        until_s, before = self.at_s + seconds, len(self.sent)
        while self.at_s < until_s:
            self.at_s += max(self.tick(), 1e-3)
        names = [name for _, name in self.sent[before:]]
        return {name: names.count(name) for name in sorted({*names})}

    def word(self, text: str) -> None:
        """Somebody says that a run is open."""
        self.client.hset("ticks", "open", text)


@pytest.fixture
def idle() -> Beat:
    """A beat that nobody has told of a run for long."""
    beat = Beat(Client())
    beat.beats(OPEN_FOR_S + IDLE_S)
    return beat


def test_a_beat_that_has_just_started_keeps_the_usual_rhythm() -> None:
    """Runs may be open already, and nobody says so before the first reconciliation."""
    sent = Beat(Client()).beats(OPEN_FOR_S - 1.0)

    assert sent == {"often": pytest.approx(45, abs=1), "seldom": pytest.approx(9, abs=1)}


def test_without_open_runs_every_task_comes_rarely(idle: Beat) -> None:
    """A tick that finds nothing to do still costs milliseconds in four processes."""
    assert idle.beats(30.0) == {"often": pytest.approx(10, abs=1), "seldom": pytest.approx(10, abs=1)}


def test_a_word_of_an_open_run_brings_the_next_tick_within_one_look(idle: Beat) -> None:
    """The first BE request of a run waits no longer for its placement than any other."""
    idle.beats(1.0)
    said_at_s = idle.at_s
    idle.word("a")

    idle.beats(1.0)

    assert min(at_s for at_s, name in idle.sent if at_s >= said_at_s and name == "often") <= said_at_s + LOOK_EVERY_S


def test_a_word_holds_for_a_while_and_each_new_one_prolongs_it(idle: Beat) -> None:
    """Run after run the rhythm stays; after the last one it becomes rare again."""
    idle.word("a")
    first = idle.beats(OPEN_FOR_S - 1.0)
    idle.word("b")
    second = idle.beats(OPEN_FOR_S - 1.0)
    idle.beats(2.0)
    after = idle.beats(30.0)

    assert (first["often"], second["often"]) == (pytest.approx(45, abs=2), pytest.approx(45, abs=2))
    assert after["often"] == pytest.approx(10, abs=1)


def test_a_broker_that_is_away_leaves_the_rhythm_as_it_was(idle: Beat) -> None:
    """Beat goes on; whether messages arrive is another matter."""
    idle.client.is_away = True

    assert idle.beats(30.0)["often"] == pytest.approx(10, abs=1)


def test_ticks_that_were_missed_are_not_made_up_for(idle: Beat) -> None:
    """After a pause of the machine one tick of each comes, and not a burst."""
    idle.word("a")
    idle.beats(1.0)
    idle.at_s += 60.0
    idle.word("b")

    assert idle.beats(1.0)["often"] == pytest.approx(6, abs=1)


def test_open_runs_are_said_once_a_second_and_again_after_a_failure() -> None:
    """Each message of a run says it: most of them must cost nothing."""
    client = Client()
    app, channel = Pool(client), SimpleNamespace(client=client)
    runs = OpenRuns(app)  # type: ignore[arg-type]

    client.is_away = True
    runs.say()
    client.is_away = False
    runs.say()
    word = read_word(channel)
    runs.say()

    assert word is not None
    assert read_word(channel) == word


class Pool:
    """An application with one producer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.producer_pool = self
        self.connection = SimpleNamespace(connection_errors=(BrokerAway,), channel_errors=())
        self.channel = SimpleNamespace(client=client)

    def acquire(self, *, block: bool) -> Pool:
        """Itself."""
        return self

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_the_application_beats_by_this_schedule() -> None:
    """Each periodic task has its settings' rhythm, and rests as long as the settings say."""
    settings = Settings(broker_url="memory://")
    app = create_app(settings)

    assert app.conf.beat_scheduler == f"{ticks.__name__}:{Ticks.__name__}"
    entries = {name: (entry["schedule"], entry["idle"]) for name, entry in app.conf.beat_schedule.items()}
    assert entries == {
        "place-be": (settings.be.tick_s, settings.ticks.idle_s),
        "reassure": (settings.sharing.tick_s, settings.ticks.idle_s),
        "reconcile": (settings.ticks.reconcile_s, settings.ticks.idle_s),
        "sweep-cancelled": (settings.cancel.tick_s, settings.ticks.idle_s),
        "drop-job-logs": (60.0, 3.0),
    }


def test_ticks_that_nobody_takes_are_not_added(idle: Beat) -> None:
    """While no scheduler runs a few wait; when one does, they go on at their rhythm and none is made up for."""
    idle.word("open")
    idle.client.waiting = ticks.MOST_WAITING
    assert idle.beats(5.0) == {}

    idle.client.waiting = 0
    idle.word("still open")

    assert idle.beats(1.0)["often"] in (4, 5, 6)


def test_no_tick_expires_by_a_clock() -> None:
    """A scheduler that is ahead of beat by more than a period would drop every one."""
    schedule = create_app(Settings(broker_url="memory://")).conf.beat_schedule

    assert schedule
    assert not any("expires" in entry["options"] for entry in schedule.values())
