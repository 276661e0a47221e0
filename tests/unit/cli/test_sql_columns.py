"""`tango sql`: columns."""

from __future__ import annotations

from tango.cli.sql import _distinct


def test_columns_of_one_name_are_kept_apart() -> None:
    """PostgreSQL calls every average `avg`; none of them is lost."""
    assert _distinct(["avg", "n", "avg", "avg"]) == ["avg", "n", "avg_2", "avg_3"]
