"""The history of runs for notebooks: rows of any table, view or query as Apache Arrow, which pandas, Polars and DuckDB take as it is.

    from tango.history import History
    history = History()
    history.runs().to_pandas()
    history.table("request", run=3).to_pandas()
    polars.from_arrow(history.query("SELECT service, count(*) FROM request GROUP BY 1"))

It reads under the role that may only read, as `tango sql` does, and finds the database as every command does: the stack that runs in the
state folder, or `TANGO_READER_URL` and `TANGO_DATABASE_URL`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from tango.bootstrap.environment import read_settings
from tango.domain.dictionary import DICTIONARY
from tango.domain.near_names import near_name
from tango.errors import UsageError
from tango.report.schema_page import columns_of
from tango.store.arrow_rows import arrow_schema, batches, write_rows
from tango.store.query import RowsRead, reading

OF_RUNS = tuple(name for name in DICTIONARY if "run_id" in columns_of(name))
"""Tables and views whose rows belong to runs."""


def rows_of(table: str, run: int | None) -> str:
    """The query of a table's rows, or of those of one run. Raises: UsageError for a name that there is not, or that knows no runs."""
    if table not in DICTIONARY:
        raise UsageError(f"there is no table or view {table!r}{near_name(table, DICTIONARY)}; `tango sql --schema` shows all")
    if run is None:
        return f"SELECT * FROM {table}"
    if table not in OF_RUNS:
        raise UsageError(f"rows of {table} belong to no run; those of these do: {', '.join(OF_RUNS)}")
    return f"SELECT * FROM {table} WHERE run_id = {int(run)}"


class History:
    """Reads the store. Every call is a transaction of its own, so that its rows are those of one instant."""

    def __init__(self, *, timeout_s: float = 3600.0) -> None:
        """`timeout_s`: seconds after which PostgreSQL ends a query."""
        settings = read_settings()
        self._urls = {"reader_url": settings.reader_url, "database_url": settings.database_url}
        self._timeout_s = timeout_s

    @contextlib.contextmanager
    def reading(self, query: str) -> Iterator[RowsRead]:
        """One SELECT, open for as long as the block runs. Raises: as `tango.store.query.reading`."""
        with reading(query, **self._urls, statement_timeout_s=self._timeout_s) as found:
            yield found

    def query(self, query: str) -> pa.Table:
        """The rows of one SELECT. Raises: as `reading`; UsageError for two columns of one name."""
        with self.reading(query) as found:
            schema = arrow_schema(found)
            return pa.Table.from_batches(batches(found, schema), schema)

    def table(self, name: str, *, run: int | None = None) -> pa.Table:
        """The rows of a table or view, of one run or all; docs/schema.md says what its columns hold. Raises: as `query` and `rows_of`."""
        return self.query(rows_of(name, run))

    def runs(self) -> pa.Table:
        """All runs with their main figures (the view `run_summary`), newest first. Raises: as `query`."""
        return self.query("SELECT * FROM run_summary ORDER BY run_id DESC")

    def write(self, query: str, path: Path) -> int:
        """The rows of one SELECT into a file by its ending, a piece at a time; gives how many. Raises: as `query`; FileUnusable."""
        with self.reading(query) as found:
            return write_rows(found, path)
