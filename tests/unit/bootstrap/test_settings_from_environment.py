"""Settings: from the environment, and from the running stack where the environment is silent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tango.bootstrap.environment import read_settings
from tango.errors import ConfigError
from tango.stack.state import HomeLock, StackInfo, write_stack

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
