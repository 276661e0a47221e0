"""`tango sql`: one read-only query over the history of runs, under the database role that may only read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import click

from tango.cli.output import Column, output_option, print_rows


@click.command()
@click.argument("query")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Statement timeout in seconds.",
)
@click.option("--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="Most rows to print.")
@output_option(formats=("table", "json", "csv", "yaml"))
def sql(query: str, timeout_s: float, limit: int, output: str) -> None:
    """Run one SELECT, e.g. `tango sql "SELECT * FROM run_summary"`."""
    from tango.bootstrap.environment import read_settings
    from tango.store.query import read_only_query

    settings = read_settings()
    columns, rows = read_only_query(
        query,
        reader_url=settings.reader_url,
        database_url=settings.database_url,
        statement_timeout_s=timeout_s,
        row_limit=limit,
    )
    names = _distinct(columns)
    print_rows([dict(zip(names, row, strict=True)) for row in rows], [Column(name) for name in names], output)


def _distinct(columns: Sequence[str]) -> list[str]:
    """Column names made distinct by a number, since rows become dicts and `SELECT avg(a), avg(b)` has two columns `avg`."""
    seen: Counter[str] = Counter()
    names = []
    for column in columns:
        seen[column] += 1
        names.append(column if seen[column] == 1 else f"{column}_{seen[column]}")
    return names
