"""What is put forward for a name that there is not."""

from __future__ import annotations

import pytest

from tango.domain.near_names import near_name


@pytest.mark.parametrize(
    ("given", "meant"),
    [("tnago", "tango"), ("Tango", "tango"), ("load_greedy", "load-greedy"), (["x", "ceres2"], "ceres")],
)
def test_a_mistyped_name_is_told_what_was_meant(given: str | list[str], meant: str) -> None:
    """Letters that changed places, another case, another sign; of several names the first that is near to one."""
    assert near_name(given, ("ceres", "load-greedy", "tango")) == f" (did you mean '{meant}'?)"


@pytest.mark.parametrize("given", ["greed", "tnt", "", []])
def test_nothing_is_put_forward_for_what_is_like_no_name(given: str | list[str]) -> None:
    """A guess that is as often wrong sends people astray; the list of names stands beside it."""
    assert near_name(given, ("ceres", "load-greedy", "tango")) == ""
