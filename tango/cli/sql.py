"""`tango sql`: one read-only query over the history of runs, under the database role that may only read."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.output import ListColumn, output_option, print_pieces, print_rows, say
from tango.domain.near_names import near_name
from tango.errors import RequestRejected, UsageError

_COMMENT = re.compile(r"--(\s|[^\n]*\n)")
"""How a query begins that begins with a comment, which for click is an option."""
MOST_BYTES = 4 << 20
"""Length of the longest query that is read from standard input."""
TABLE_ROWS = 10_000
"""A table is for eyes, and its columns are as wide as their widest text, so that all of its rows have to be there before the first."""


class _QueryCommand(click.Command):
    """Takes a query for a query where it begins with a comment."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with a line break before what is a comment."""
        return super().parse_args(ctx, [f"\n{arg}" if _COMMENT.match(arg) else arg for arg in args])


@click.command(cls=_QueryCommand)
@click.argument("query", required=False, shell_complete=names.QUERIES)
@click.option(
    "--run",
    "run_id",
    type=Whole(min=1),
    default=None,
    help="Of an @query: the run; default: the newest.",
    shell_complete=names.RUNS,
)
@click.option("--list", "lists", is_flag=True, help="List the queries that have names.")
@click.option("--schema", "schema", is_flag=True, help="List tables and views; with one's name as QUERY its columns.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Real(0.1, 3600),
    default=30.0,
    show_default=True,
    help="Statement timeout in seconds.",
)
@click.option(
    "--limit",
    type=Whole(min=1),
    default=None,
    help=f"Most rows to print.  [default: {TABLE_ROWS:,} in a table, else all]",
)
@output_option(formats=("table", "json", "csv", "yaml"))
def sql(
    query: str | None,
    run_id: int | None,
    lists: bool,
    schema: bool,
    timeout_s: float,
    limit: int | None,
    output: str,
) -> None:
    """Run one SELECT (- reads it from standard input), or a query that has a name.

    \b
        tango sql "SELECT * FROM run_summary"
        tango sql -o csv "SELECT * FROM request WHERE run_id = 3" > requests.csv
        tango sql - < report.sql               # from a file
        tango sql @slowest --run 3
        tango sql --list                       # all queries that have names
        tango sql --schema                     # all tables and views
        tango sql --schema attempt             # what its columns hold
    """
    if lists or schema:
        if lists and (schema or query):
            raise UsageError("--list goes alone")
        _print_queries(output) if lists else _print_schema(query, output)
        return
    if not query:
        raise UsageError("no query is given: a SELECT in quotes, or a name such as @slowest; `tango sql --list` shows all")
    if query == "-":
        content = sys.stdin.buffer.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise RequestRejected(f"standard input has more than {MOST_BYTES:,} bytes, which no query has")
        query = content.decode("utf-8-sig", "surrogateescape")  # what is no text is refused as in an argument
        if not query.strip():
            raise UsageError("standard input has no query; `tango sql - < FILE` reads one from a file")
    query = query.strip()
    if query.startswith("@"):
        from tango.store.named_queries import named_query

        query = named_query(query[1:], run_id)
    elif run_id is not None:
        raise UsageError("--run goes with a query that has a name, such as @slowest")
    from tango.bootstrap.environment import read_settings
    from tango.store.query import reading

    settings = read_settings()
    most = limit if limit is not None else TABLE_ROWS if output == "table" else None
    with reading(query, reader_url=settings.reader_url, database_url=settings.database_url, statement_timeout_s=timeout_s) as found:
        if found.warning:
            say(found.warning)
        names = _distinct(found.columns)
        print_pieces(
            ([dict(zip(names, row, strict=True)) for row in piece] for piece in found.pieces(most)),
            [ListColumn(name) for name in names],
            output,
        )
    if found.is_cut:
        say(f"these are the first {most:,} rows; there are more (--limit N, or all of them with -o csv)")


def _print_queries(output: str) -> None:
    from tango.store.named_queries import QUERIES

    rows = [{"query": f"@{name}", "asks": query.asks, "of_a_run": query.needs_run} for name, query in QUERIES.items()]
    print_rows(rows, (ListColumn("query", priority=10), ListColumn("asks", priority=9), ListColumn("of_a_run", priority=5)), output)


def _print_schema(name: str | None, output: str) -> None:
    from tango.domain.dictionary import DICTIONARY, described_columns
    from tango.report.schema_page import columns_of, kind_of, type_of

    if name is None:
        tables = [{"name": n, "kind": kind_of(n), "group": d.group, "a_row_is": d.row} for n, d in DICTIONARY.items()]
        print_rows(
            tables, (ListColumn("name", priority=10), ListColumn("kind", priority=5), ListColumn("a_row_is", priority=9)), output
        )
        return
    if name not in DICTIONARY:
        raise UsageError(f"there is no table or view {name!r}{near_name(name, DICTIONARY)}; `tango sql --schema` shows all")
    say(DICTIONARY[name].row)
    described = described_columns(name, columns_of(name))
    columns = [{"column": column, "type": type_of(name, column), "holds": text} for column, text in described.items()]
    print_rows(
        columns, (ListColumn("column", priority=10), ListColumn("type", priority=5), ListColumn("holds", priority=9)), output
    )


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
