"""What comes in from outside is taken or refused by name, whatever is in it, and never ends the process that reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import DatabaseUrls
from tests.fuzz.doors import doors

DOORS = tuple(doors(""))
COUNT, LONG_COUNT = 125, 10_000
"""Inputs of a door: a thousand at all of them together, and ten thousand at each in the long suite."""


def driven(command: list[str], folder: Path, **environment: str) -> dict[str, Any]:
    """What a child has found. Fails where it was ended by an input, and names that."""
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)
    at, last = folder / "at", folder / "input"
    where = f"at {at.read_text()}, of {last.read_bytes()[:2000]!r}" if at.exists() else "before the first input"
    assert ended.returncode == 0, f"the process ended with {ended.returncode} {where}\n{ended.stderr[-3000:]}"
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def checked(folder: Path, urls: DatabaseUrls, names: tuple[str, ...], *, count: int, seed: int) -> None:
    """Drive these doors, and look at what they answered."""
    command = [sys.executable, "-m", "tests.fuzz.child", str(count), str(seed), str(folder), *names]
    found = driven(command, folder, DATABASE_URL=urls.reader)

    assert not found["failures"], f"{len(found['failures'])} answers are no refusal, such as:\n" + "\n".join(found["failures"][:3])
    for name in names:
        assert found["counts"][name]["refused"] > 0, f"nothing was refused at {name}"
        assert sum(found["counts"][name].values()) == count


def test_every_door_takes_what_is_mutated_or_refuses_it_by_name(tmp_path: Path, database_urls: DatabaseUrls) -> None:
    """A thousand inputs, in one process that must live through them."""
    checked(tmp_path, database_urls, DOORS, count=COUNT, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("name", DOORS)
def test_a_door_takes_ten_thousand_or_refuses_them_by_name(name: str, tmp_path: Path, database_urls: DatabaseUrls) -> None:
    """Other ones than above."""
    checked(tmp_path, database_urls, (name,), count=LONG_COUNT, seed=2)


def test_an_input_that_ends_the_process_is_named(tmp_path: Path) -> None:
    """By a signal, with the input that did it."""
    (tmp_path / "at").write_text("traces 7")
    (tmp_path / "input").write_bytes(b"deep")

    with pytest.raises(AssertionError, match=r"ended with -6 at traces 7, of b'deep'"):
        driven([sys.executable, "-c", "import os; os.abort()"], tmp_path)
