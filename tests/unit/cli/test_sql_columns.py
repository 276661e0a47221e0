"""`tango sql`: columns."""

from __future__ import annotations

from tango.cli.sql import _distinct


def test_columns_of_one_name_are_kept_apart() -> None:
    """PostgreSQL calls every average `avg`; none of them is lost."""
    assert _distinct(["avg", "n", "avg", "avg"]) == ["avg", "n", "avg_2", "avg_3"]
    assert _distinct(["a", "a", "a_2", "a"]) == ["a", "a_3", "a_2", "a_4"]
    assert len(set(_distinct(["b_2", "b", "b", "b_2", "b_2_2"]))) == 5
