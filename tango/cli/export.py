"""`tango export`: rows of a run as a file for pandas, DuckDB and Polars."""

from __future__ import annotations

from pathlib import Path

import click

from tango.cli import names
from tango.cli.bounds import Whole
from tango.cli.confirm import force_option, require_free
from tango.cli.output import output_option, print_mapping
from tango.cli.progress import spinner
from tango.errors import UsageError


@click.command()
@click.argument("run_id", metavar="RUN", type=Whole(min=1), required=False, shell_complete=names.RUNS)
@click.option(
    "--to",
    "path",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .parquet, .arrow or .csv.",
)
@click.option(
    "--table",
    default="request",
    show_default=True,
    help="Table or view (`tango sql --schema` shows all).",
    shell_complete=names.TABLES,
)
@click.option("--sql", "query", help="One SELECT, in place of a run and a table.")
@force_option
@output_option(formats=("table", "json", "yaml"))
def export(run_id: int | None, path: Path, table: str, query: str | None, force: bool, output: str) -> None:
    """Write the rows of a run to a file, whole or not at all.

    \b
        tango export 3 --to requests.parquet
        tango export 3 --table attempt --to attempts.parquet
        tango export --sql "SELECT * FROM run_summary" --to runs.csv
        duckdb -c "SELECT service, count(*) FROM 'requests.parquet' GROUP BY 1"

    In Python: `from tango.history import History; History().table("request", run=3).to_pandas()`.
    """
    from tango.history import History, rows_of
    from tango.store.arrow_rows import FORMATS, write_rows

    if (run_id is None) == (query is None):
        raise UsageError("expected a RUN, or --sql with a query")
    if path.suffix not in FORMATS:
        raise UsageError(f"{path.name} ends in {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    require_free(path, force)
    history = History()
    if run_id is not None and not len(history.query(f"SELECT 1 AS is_there FROM run WHERE run_id = {run_id}")):
        raise UsageError(f"there is no run {run_id}; `tango run list` shows those that there are")
    with history.reading(query or rows_of(table, run_id)) as found, spinner(f"Writing {path.name}"):
        written = write_rows(found, path)
    print_mapping({"rows": written, "file": str(path), "bytes": path.stat().st_size}, output)
