"""Settings: from the environment, and from the running stack where the environment is silent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tango.bootstrap.environment import ADDRESSES, NO_SETTINGS, read_settings
from tango.errors import ConfigError
from tango.settings import Settings
from tango.stack.state import HomeLock, StackInfo, write_stack

ROOT = Path(__file__).parents[3]
OWN = StackInfo(
    database_url="postgresql://app@/own", reader_url="postgresql://reader@/own", broker_url="redis://own", kubeconfig="/own/config"
)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[str]:
    """A state folder whose stack runs: this process is its supervisor."""
    lock = HomeLock(tmp_path)
    write_stack(tmp_path, OWN)
    yield str(tmp_path)
    lock.release()


def test_a_running_stack_gives_all_its_addresses_the_readers_too(home: str) -> None:
    """Queries of people go through the role that may only read, without any variable being set."""
    found = read_settings({"TANGO_HOME": home})

    assert (found.database_url, found.reader_url, found.broker_url) == (OWN.database_url, OWN.reader_url, OWN.broker_url)


def test_somebodys_own_database_is_never_paired_with_our_reader(home: str) -> None:
    """Its server does not know the role; the broker of the stack serves all the same."""
    found = read_settings({"TANGO_HOME": home, "TANGO_DATABASE_URL": "postgresql://me@/mine"})

    assert (found.database_url, found.reader_url, found.broker_url) == ("postgresql://me@/mine", "", OWN.broker_url)


def test_a_stack_that_does_not_run_gives_nothing(tmp_path: Path) -> None:
    """Its file may be left from a crash: without the lock it does not count."""
    write_stack(tmp_path, OWN)

    found = read_settings({"TANGO_HOME": str(tmp_path)})

    assert (found.database_url, found.broker_url) == ("", "")


def test_tunables_take_their_fields_type(tmp_path: Path) -> None:
    """`TANGO_<GROUP>_<FIELD>`: numbers, words and yes or no."""
    env = {"TANGO_HOME": str(tmp_path), "TANGO_BE_TICK_S": "0.5", "TANGO_LC_START_HERE": "0", "TANGO_BE_BATCH_LIMIT": "7"}

    found = read_settings(env)

    assert (found.be.tick_s, found.lc.start_here, found.be.batch_limit) == (0.5, False, 7)


def test_a_tunable_of_another_type_is_refused_by_name(tmp_path: Path) -> None:
    """The message says which variable, what was found and what was expected."""
    with pytest.raises(ConfigError, match="TANGO_BE_TICK_S is 'soon', expected float"):
        read_settings({"TANGO_HOME": str(tmp_path), "TANGO_BE_TICK_S": "soon"})


@pytest.mark.parametrize(("word", "expected"), [("on", True), ("TRUE", True), ("off", False), ("no", False)])
def test_a_switch_takes_the_usual_words(tmp_path: Path, word: str, expected: bool) -> None:
    """In any case."""
    assert read_settings({"TANGO_HOME": str(tmp_path), "TANGO_LC_START_HERE": word}).lc.start_here is expected


def test_a_word_that_is_neither_on_nor_off_is_refused(tmp_path: Path) -> None:
    """A typing error must not switch a setting off in silence."""
    with pytest.raises(ConfigError, match="TANGO_LC_START_HERE is 'ture', expected bool"):
        read_settings({"TANGO_HOME": str(tmp_path), "TANGO_LC_START_HERE": "ture"})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TANGO_BE_TICKS", "TANGO_BE_TICK_S"),
        ("TANGO_TICK_S", "TANGO_BE_TICK_S"),
        ("TANGO_DATABASE_URI", "TANGO_DATABASE_URL"),
        ("TANGO_HOMES", "TANGO_HOME"),
        ("TANGO_CORRECT_HORSE", ""),
    ],
)
def test_a_variable_that_nobody_reads_is_refused_with_the_one_that_was_meant(tmp_path: Path, name: str, meant: str) -> None:
    """A mistyped setting would keep its default in silence."""
    with pytest.raises(ConfigError) as raised:
        read_settings({"TANGO_HOME": str(tmp_path), name: "1"})

    assert f"{name} is no setting" in str(raised.value)
    assert ("did you mean" in str(raised.value)) == bool(meant)
    assert meant in str(raised.value)
    assert raised.value.exit_status == 2


def test_variables_of_other_parts_and_of_kubernetes_are_left_alone(tmp_path: Path) -> None:
    """Those that some part of Tango reads, and what a pod finds beside a service that is called `tango` or `tango-db`."""
    links = ("TANGO_SERVICE_HOST", "TANGO_PORT_80_TCP_ADDR", "TANGO_DB_SERVICE_PORT_SQL", "TANGO_DB_PORT", "TANGO_DB_PORT_5432_TCP")

    found = read_settings({**dict.fromkeys((*NO_SETTINGS, *links), "x"), "TANGO_HOME": str(tmp_path)})

    assert found == Settings()


def test_every_variable_that_is_read_somewhere_is_known() -> None:
    """A new one that is not listed would be refused wherever it is set."""
    folders = ("tango", "workers", "tasks", "migrations", "models")
    read = {
        name
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"(TANGO_[A-Z][A-Z_]*)"', path.read_text(encoding="utf-8"))
    }

    assert "TANGO_HOME" in read
    assert read <= {*ADDRESSES.values(), *NO_SETTINGS}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("TANGO_LC_SCORE_WEIGHTS", "1,2,3", "expected 4 numbers, separated by commas"),
        ("TANGO_LC_SCORE_WEIGHTS", "a,b,c,d", "expected 4 numbers"),
        ("TANGO_SIM_BETA", "some", "expected float"),
        ("TANGO_BE_TICK_S", "nan", "expected float"),
    ],
)
def test_a_value_of_any_kind_of_setting_is_looked_at(tmp_path: Path, name: str, text: str, expected: str) -> None:
    """Several numbers, one that has no default, and one that compares with nothing."""
    with pytest.raises(ConfigError, match=f"{name} is '{text}', {expected}"):
        read_settings({"TANGO_HOME": str(tmp_path), name: text})


def test_settings_of_several_numbers_or_without_a_default_can_be_set(tmp_path: Path) -> None:
    """They are numbers then, and no texts."""
    env = {"TANGO_HOME": str(tmp_path), "TANGO_LC_SCORE_WEIGHTS": "0.1, 0.2,0.3,0.4", "TANGO_SIM_BETA": "0.5"}

    found = read_settings(env)

    assert (found.lc.score_weights, found.sim.beta) == ((0.1, 0.2, 0.3, 0.4), 0.5)
