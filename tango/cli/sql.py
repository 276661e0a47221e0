"""`tango sql`: read-only queries over run history."""

from __future__ import annotations

import click

from tango.cli.output import Column, output_option, print_rows


@click.command()
@click.argument("query")
@click.option("--timeout", "timeout_s", default=30.0, show_default=True, help="Statement timeout in seconds.")
@click.option("--limit", default=10_000, show_default=True, help="Rows at the most.")
@output_option(formats=("table", "json", "csv", "yaml"))
def sql(query: str, timeout_s: float, limit: int, output: str) -> None:
    """Run one SELECT, e.g. `tango sql "SELECT * FROM run_summary"`."""
    from tango.bootstrap import read_settings
    from tango.store.query import read_only_query

    settings = read_settings()
    columns, rows = read_only_query(
        query,
        reader_url=settings.reader_url,
        database_url=settings.database_url,
        statement_timeout_s=timeout_s,
        row_limit=limit,
    )
    print_rows([dict(zip(columns, row, strict=True)) for row in rows], [Column(name) for name in columns], output)
