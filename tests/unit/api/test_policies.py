"""Systems with functions: named so that nobody takes them for others, and refused where they cannot be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tango import api
from tango.errors import CheckpointError, UsageError


def mine(requests: Any, snapshot: Any, settings: Any) -> Any:
    """Never asked here."""


def scoring(requests: Any, snapshot: Any, settings: Any) -> Any:
    """Called as a policy of Tango's."""


def test_a_system_goes_by_its_parts_unless_it_is_named() -> None:
    """A function by its own name, and under the name that the caller gives its system."""
    assert api.system("tango", lc=mine).called == "mine/dcg-be/burst"
    assert api.system("tango", be="load-greedy").called == "dss-lc/load-greedy/burst"
    named = api.system("load-greedy", lc=mine, be=mine, called="ours")
    assert (named.called, named.system.name) == ("ours", "ours/ours/hrm")
    assert api.system("tango", called="shipped").system.name == "tango"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"be": lambda pending: None}, r"BE policy '<lambda>' cannot be called with \(requests, snapshot, settings\)"),
        ({"be": scoring}, r"a function is called 'scoring', which names a policy"),
        ({"lc": mine, "called": "a.py:b"}, r"a function is called 'a\.py:b'"),
        ({"lc": 3}, r"the LC policy is 3, expected a name or a function"),
        ({"be": mine, "called": "tango"}, r"a system that is not 'tango' is called so"),
        ({"be": "load-gredy"}, r"did you mean 'load-greedy'"),
    ],
)
def test_what_would_be_taken_for_another_or_cannot_be_asked_is_refused(given: dict[str, Any], told: str) -> None:
    """With what to do."""
    with pytest.raises(UsageError, match=told):
        api.system("load-greedy", **given)


def test_a_checkpoint_that_is_not_there_is_told(tmp_path: Path) -> None:
    """When the system is named, and not when it is to decide."""
    with pytest.raises(CheckpointError, match=r"missing\.pt"):
        api.system("tango", checkpoint=tmp_path / "missing.pt")
