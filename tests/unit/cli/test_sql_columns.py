"""`tango sql`: columns."""

from __future__ import annotations

import click
import pytest

from tango.cli.sql import _distinct, sql


def test_columns_of_one_name_are_kept_apart() -> None:
    """PostgreSQL calls every average `avg`; none of them is lost."""
    assert _distinct(["avg", "n", "avg", "avg"]) == ["avg", "n", "avg_2", "avg_3"]
    assert _distinct(["a", "a", "a_2", "a"]) == ["a", "a_3", "a_2", "a_4"]
    assert len(set(_distinct(["b_2", "b", "b", "b_2", "b_2_2"]))) == 5


@pytest.mark.parametrize("query", ["-- of today\nSELECT 1", "--of today\nSELECT 1", "/* of today */ SELECT 1", "--\n"])
def test_a_query_may_begin_with_a_comment(query: str) -> None:
    """What begins with two dashes is an option for click; whatever has a line break or a blank behind them is none."""
    assert parsed(query).strip() == query.strip()
    assert parsed("--limit", "3", query).strip() == query.strip()


def test_a_mistyped_option_is_still_told() -> None:
    """It is no query."""
    with pytest.raises(click.NoSuchOption, match="--limt"):
        parsed("--limt=3", "SELECT 1")


def parsed(*arguments: str) -> str:
    """The query that a command line has."""
    query: str = sql.make_context("sql", list(arguments)).params["query"]
    return query
