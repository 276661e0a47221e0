"""Rows leave the store as files and as Arrow with their types, whole or not at all."""

from __future__ import annotations

import datetime
import json
import math
from pathlib import Path

import psycopg2
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
import pytest
from click.testing import CliRunner

from tango.cli.main import cli
from tango.errors import RequestRejected, TangoError, UsageError
from tango.history import OF_RUNS, History, rows_of
from tango.store.query import PIECE
from tests.conftest import DatabaseUrls


@pytest.fixture
def history(database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> History:
    """Of a database with one run of two requests."""
    with psycopg2.connect(database_urls.app) as connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO run (name, status, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, settings)"
            " VALUES ('a', 'accepted', 'tango', 'demo', '', 1, 1, true, 't', 1, 2, '{}') RETURNING run_id"
        )
        (run_id,) = cursor.fetchone()
        assert run_id == 1
    monkeypatch.setenv("TANGO_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("TANGO_READER_URL", database_urls.reader)
    monkeypatch.setenv("TANGO_DATABASE_URL", database_urls.app)
    return History()


TYPES = (
    "SELECT 7::smallint AS small, 8 AS whole, 9::bigint AS large, 0.5::float8 AS real, 1.25::numeric AS exact, true AS yes,"
    " 'x'::text AS text, '{\"a\": 1}'::jsonb AS json, ARRAY[1, 2] AS list, '2026-11-30 12:00+00'::timestamptz AS at,"
    " 'NaN'::float8 AS odd, ARRAY['-Infinity'::float8, NULL] AS odds, 'running'::request_state AS state, NULL::int AS nothing"
)


def test_columns_have_the_types_that_they_have_in_postgresql(history: History) -> None:
    """Times are instants in UTC, enumerations and JSON are text, numbers that are not finite stay what they are."""
    found = history.query(TYPES)

    assert [str(field.type) for field in found.schema] == [
        *("int16", "int32", "int64", "double", "double", "bool", "string", "string", "list<item: int32>"),
        *("timestamp[us, tz=UTC]", "double", "list<item: double>", "string", "int32"),
    ]
    [row] = found.to_pylist()
    assert row["at"] == datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)
    assert (row["exact"], row["list"], row["state"], row["nothing"]) == (1.25, [1, 2], "running", None)
    assert math.isnan(row["odd"])
    assert row["odds"] == [-math.inf, None]
    assert json.loads(row["json"]) == {"a": 1}


@pytest.mark.parametrize("value", ["'infinity'::timestamptz", "'0044-03-15 BC'::date", "ARRAY['-infinity'::timestamptz]"])
def test_a_time_that_a_file_has_no_value_for_is_refused_by_its_column(history: History, tmp_path: Path, value: str) -> None:
    """It would be missing in the file, and nothing would say so."""
    with pytest.raises(UsageError, match=r"the column 'never' has .*write it as text"):
        history.write(f"SELECT {value} AS never", tmp_path / "rows.parquet")

    assert history.query(f"SELECT ({value})::text AS never").num_rows == 1


@pytest.mark.parametrize("rows", [0, 1, PIECE, 2 * PIECE + 1])
@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".csv"])
def test_a_file_has_all_rows(history: History, tmp_path: Path, ending: str, rows: int) -> None:
    """In their order, however many pieces they come in, and none where there are none."""
    path = tmp_path / f"rows{ending}"

    assert history.write(f"SELECT k, 'row ' || k AS name FROM generate_series(1, {rows}) k", path) == rows

    read = {".parquet": pyarrow.parquet.read_table, ".csv": pyarrow.csv.read_csv, ".arrow": _read_arrow}[ending](path)
    assert read.column_names == ["k", "name"]
    assert read.num_rows == rows
    assert read["k"].to_pylist() == list(range(1, rows + 1))


def _read_arrow(path: Path) -> pa.Table:
    with pyarrow.ipc.open_file(path) as file:
        return file.read_all()


def test_a_query_that_fails_leaves_the_file_that_was_there(history: History, tmp_path: Path) -> None:
    """And nothing beside it."""
    path = tmp_path / "rows.parquet"
    path.write_text("precious")

    with pytest.raises(RequestRejected, match="division by zero"):
        history.write(f"SELECT 1 / ({PIECE + 10} - k) FROM generate_series(1, {PIECE + 20}) k", path)

    assert [(file.name, file.read_text()) for file in tmp_path.iterdir() if file.is_file()] == [("rows.parquet", "precious")]


def test_the_command_writes_a_table_of_a_run(history: History, tmp_path: Path) -> None:
    """And says how many rows, of what size."""
    path = tmp_path / "run.parquet"

    done = CliRunner().invoke(cli, ["export", "1", "--table", "run", "--to", str(path), "-o", "json"])

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["rows"] == 1
    assert pyarrow.parquet.read_table(path).to_pylist()[0]["name"] == "a"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["9", "--to", "x.parquet"], "there is no run 9"),
        (["1", "--to", "x.xlsx"], "x.xlsx ends in '.xlsx', expected one of .parquet, .arrow, .csv"),
        (["1", "--table", "requests", "--to", "x.parquet"], "there is no table or view 'requests' (did you mean 'request'?)"),
        (["1", "--table", "cluster", "--to", "x.parquet"], "rows of cluster belong to no run"),
        (["--to", "x.parquet"], "expected a RUN, or --sql with a query"),
        (["--sql", "SELECT 1 AS a, 2 AS a", "--to", "x.parquet"], "two columns are called 'a'"),
        (["--sql", "SELECT ARRAY[1] AS a", "--to", "x.csv"], "CSV has no lists, and 'a' is one"),
        (["--sql", "DELETE FROM run", "--to", "x.csv"], "only reads"),
    ],
)
@pytest.mark.usefixtures("history")
def test_what_cannot_be_written_is_refused_with_what_to_do(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no file is made."""
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(cli, ["export", *words], standalone_mode=False)

    assert isinstance(done.exception, TangoError)
    assert says in str(done.exception)
    assert list(tmp_path.glob("*.*")) == []


def test_tables_of_runs_are_told_from_others() -> None:
    """By their column."""
    assert {"request", "attempt", "run", "run_summary"} <= set(OF_RUNS)
    with pytest.raises(UsageError, match="belong to no run"):
        rows_of("cluster", 1)
