"""`tango sql`: one read-only query over the history of runs, under the database role that may only read."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tango.cli.output import Column, output_option, print_pieces, say

TABLE_ROWS = 10_000
"""A table is for eyes, and its columns are as wide as their widest text, so that all of its rows have to be there before the first."""


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
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=None,
    help=f"Most rows to print.  [default: {TABLE_ROWS:,} in a table, else all]",
)
@output_option(formats=("table", "json", "csv", "yaml"))
def sql(query: str, timeout_s: float, limit: int | None, output: str) -> None:
    """Run one SELECT.

    \b
        tango sql "SELECT * FROM run_summary"
        tango sql -o csv "SELECT * FROM request WHERE run_id = 3" > requests.csv
    """
    from tango.bootstrap.environment import read_settings
    from tango.store.query import reading

    settings = read_settings()
    most = limit if limit is not None else TABLE_ROWS if output == "table" else None
    with reading(query, reader_url=settings.reader_url, database_url=settings.database_url, statement_timeout_s=timeout_s) as found:
        names = _distinct(found.columns)
        print_pieces(
            ([dict(zip(names, row, strict=True)) for row in piece] for piece in found.pieces(most)),
            [Column(name) for name in names],
            output,
        )
    if found.is_cut:
        say(f"these are the first {most:,} rows; there are more (--limit N, or all of them with -o csv)")


def _distinct(columns: Sequence[str]) -> list[str]:
    """Column names made distinct by a number, since rows become dicts and `SELECT avg(a), avg(b)` has two columns `avg`.

    No name that is made is one that the query has.
    """
    taken, names = set(columns), []
    seen: set[str] = set()
    for column in columns:
        name, number = column, 1
        while name in seen or (name != column and name in taken):
            number += 1
            name = f"{column}_{number}"
        seen.add(name)
        names.append(name)
    return names
