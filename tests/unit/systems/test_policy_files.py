"""Policies in files of the user's own: named, kept under the digest of their text, refused when that has changed, and told by line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.cli.policy import BE_TEMPLATE, LC_TEMPLATE
from tango.domain.requests import BePending
from tango.domain.smallest import smallest_arrivals, smallest_pending, smallest_snapshot
from tango.errors import FileRefused, PolicyFailed, TangoError, UsageError
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LcSettings, Settings
from tango.systems import be_policy, decided_be, decided_lc, lc_policy, system, usable_system
from tango.systems.policy_files import file_policy, short_names, stored_name

SETTINGS = Settings()


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    """A policy file."""
    path = folder / name
    path.write_text(text)
    return path


def pending() -> BePending:
    """Requests of the smallest world."""
    return smallest_pending()


def test_the_templates_decide(tmp_path: Path) -> None:
    """What `tango policy new` writes plans by the step that checks plans."""
    be = be_policy(f"{written(tmp_path, BE_TEMPLATE.format(name='mine'))}:mine", SETTINGS)
    lc = lc_policy(f"{written(tmp_path, LC_TEMPLATE.format(name='mine'), 'lc.py')}:mine", SETTINGS)

    placed = decided_be(be, pending(), smallest_snapshot(), BeSettings(), cycle="a test")
    sent = decided_lc(lc, smallest_arrivals(), smallest_snapshot(), LcSettings(), cycle="a test")

    assert (placed.node >= 0).all()
    assert (sent.node >= 0).all()


def test_a_mix_with_files_is_a_system(tmp_path: Path) -> None:
    """Its name has absolute paths and digests, and is read again by any process."""
    be, lc = (
        written(tmp_path, BE_TEMPLATE.format(name="mine")),
        written(tmp_path, LC_TEMPLATE.format(name="yours"), "lc.py"),
    )

    found = usable_system(f"{lc}:yours/{be}:mine/hrm", SETTINGS)

    assert found == system(found.name)
    assert found.sharing == "hrm"
    assert found.be == stored_name(f"{be}:mine")
    assert file_policy(found.lc) == (lc, "yours", stored_name(f"{lc}:yours")[-12:])
    assert callable(be_policy(found.be, SETTINGS))
    assert usable_system("tango", SETTINGS, be=f"{be}:mine").name == f"dss-lc/{found.be}/burst"
    assert system("dss-lc/load-greedy/burst").be == "load-greedy"
    assert usable_system("load-greedy/load-greedy/hrm", SETTINGS).name == "load-greedy"


def test_a_path_from_here_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that decide have another working directory."""
    written(tmp_path, BE_TEMPLATE.format(name="mine"))
    monkeypatch.chdir(tmp_path)

    assert stored_name("mine.py:mine").startswith(f"{tmp_path}/mine.py:mine@")


def test_another_text_is_refused(tmp_path: Path) -> None:
    """A run's decisions are those of the text it was submitted with."""
    path = written(tmp_path, BE_TEMPLATE.format(name="mine"))
    kept = stored_name(f"{path}:mine")
    be_policy(kept, SETTINGS)
    written(tmp_path, BE_TEMPLATE.format(name="mine") + "\n# changed\n")

    for ask in (lambda: be_policy(kept, SETTINGS), lambda: usable_system(f"dss-lc/{kept}/burst", SETTINGS)):
        with pytest.raises(UsageError, match=r"has changed: its digest is [0-9a-f]{12}, [0-9a-f]{12} was named"):
            ask()
    assert stored_name(f"{path}:mine") != kept


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (None, UsageError, "cannot be read: No such file"),
        ("def other(a, b, c): ...\n", UsageError, "has no function 'mine', it has: other"),
        ("import numpy\n", UsageError, "it has: none"),
        ("def mine(a, b): ...\n", FileRefused, r"cannot be called with \(requests, snapshot, settings\)"),
        ("mine = 3\n", UsageError, "has no function 'mine'"),
        ("def mine(a, b, c)\n", FileRefused, r"mine\.py:1: expected ':'"),
        ("\n1 / 0\n", FileRefused, r"when it is read, at .*mine\.py:2: ZeroDivisionError"),
        ("import not_there\n", FileRefused, r"mine\.py:1: ModuleNotFoundError: No module named 'not_there'"),
        ("raise OSError('no')\n", FileRefused, "OSError: no"),
        ("import sys\nsys.exit(3)\n", FileRefused, r"mine\.py:2: SystemExit"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_by_name(tmp_path: Path, text: str | None, kind: type[TangoError], told: str) -> None:
    """Where a system is named, and not when requests wait for its decision."""
    if text is not None:
        written(tmp_path, text)

    with pytest.raises(kind, match=told):
        usable_system("tango", SETTINGS, be=f"{tmp_path}/mine.py:mine")


def test_an_exception_is_told_with_file_and_line(tmp_path: Path) -> None:
    """That of the policy, also where it was raised in a library that it called; live the fallback decides, and the plan says why."""
    text = "import numpy as np\n\ndef mine(pending, snapshot, settings):\n    return np.zeros(3).reshape(2, 2)\n"
    policy = be_policy(f"{written(tmp_path, text)}:mine", SETTINGS)

    with pytest.raises(PolicyFailed, match=rf"failed in a test, at {tmp_path}/mine.py:4: ValueError: cannot reshape"):
        decided_be(policy, pending(), smallest_snapshot(), BeSettings(), cycle="a test")
    plan = decided_be(policy, pending(), smallest_snapshot(), BeSettings(), cycle="a test", fallback=place_load_greedy)

    assert "mine.py:4: ValueError" in plan.fallback_reason
    assert np.array_equal(plan.node, place_load_greedy(pending(), smallest_snapshot(), BeSettings()).node)


def test_tables_show_the_names_of_files() -> None:
    """Paths would fill the line."""
    be, lc = "/home/me/place.py:near_home@b5799f5e38fc", "/srv/x/lc.py:mine@abaaa65040f9"

    assert short_names(f"dss-lc/{be}/burst") == "dss-lc/place.py:near_home@b5799f5e38fc/burst"
    assert short_names(f"{lc}/{be}/hrm") == "lc.py:mine@abaaa65040f9/place.py:near_home@b5799f5e38fc/hrm"
    assert short_names("dss-lc/load-greedy/burst") == "dss-lc/load-greedy/burst"
    assert short_names("tango") == "tango"
