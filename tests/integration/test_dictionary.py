"""The dictionary of the schema: whole, true, in the database where tools look for it, and the same as the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from models import metadata
from models.views import VIEW_COLUMNS, VIEW_NAMES
from tango.cli.main import cli
from tango.domain.dictionary import COMMON, DICTIONARY, GROUPS, described_columns
from tango.errors import UsageError
from tango.report.schema_page import schema_page
from tango.store.database import Database
from tango.store.named_queries import QUERIES, named_query
from tango.store.query import reading
from tango.store.schema import bring_up_to_date
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import BATCH, CHAT, WEB, copy_of, postgres_world

PAGE = Path(__file__).parents[2] / "docs" / "schema.md"


def test_every_table_view_and_column_is_described_and_nothing_else() -> None:
    """In one sentence, which ends with a full stop."""
    columns = {table.name: tuple(c.name for c in table.columns) for table in metadata.sorted_tables} | VIEW_COLUMNS

    assert set(DICTIONARY) == set(columns)
    assert set(VIEW_COLUMNS) == set(VIEW_NAMES)
    for name, of in columns.items():
        assert set(DICTIONARY[name].columns) <= set(of), name
        assert all(text.endswith(".") for text in (DICTIONARY[name].row, *described_columns(name, of).values())), name
        assert DICTIONARY[name].group in GROUPS
    used = {c for name, of in columns.items() for c in of if c not in DICTIONARY[name].columns}
    assert used == set(COMMON)


def test_the_page_is_that_of_the_dictionary() -> None:
    """After a change: `python -m tango.report.schema_page > docs/schema.md`."""
    assert PAGE.read_text(encoding="utf-8") == schema_page()


def test_the_database_says_it_too(database_urls: DatabaseUrls) -> None:
    """As PostgreSQL's own columns and comments have it; texts of another version are replaced at the next start."""
    comments = """
        SELECT c.relname::text, a.attname::text, col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class')
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
          AND c.relname <> 'alembic_version' ORDER BY 1, a.attnum
    """
    owner = Database(database_urls.owner)
    found = owner.rows(comments)

    columns: dict[str, list[str]] = {}
    for name, column, says, row in found:
        columns.setdefault(name, []).append(column)
        assert (row, says) == (DICTIONARY[name].row, described_columns(name, (column,))[column]), (name, column)
    assert {name: tuple(of) for name, of in columns.items() if name in VIEW_COLUMNS} == VIEW_COLUMNS
    owner.execute("COMMENT ON COLUMN run.name IS 'of another version'")
    owner.execute("COMMENT ON TABLE alembic_version IS 'of another version'")
    bring_up_to_date(database_urls.owner)
    assert owner.rows(comments) == found


@pytest.mark.parametrize("name", QUERIES)
def test_every_query_with_a_name_runs(database_urls: DatabaseUrls, name: str) -> None:
    """On a run with rows, on one that there is not, and on the newest."""
    world = postgres_world(database_urls.app)
    run_id = world.create(WEB, CHAT, BATCH, gap_s=0.0)
    world.release(run_id)
    world.ship(copy_of(run_id, 0))
    world.ship(copy_of(run_id, 1)._replace(finished_s=90.0), cluster="c2")

    for which in (None, run_id, 10_000) if QUERIES[name].needs_run else (None,):
        with reading(named_query(name, which), reader_url=database_urls.reader, database_url="", statement_timeout_s=5.0) as found:
            rows = [row for piece in found.pieces() for row in piece]
        if name in ("qos-per-minute", "misses", "slowest"):
            assert bool(rows) is (which != 10_000)


def test_minutes_and_misses_count_what_happened(database_url: str) -> None:
    """Of three LC requests one was in time, one was late and one is under way."""
    world = postgres_world(database_url)
    run_id = world.create(WEB, WEB, WEB, gap_s=0.0)
    world.release(run_id)
    world.ship(copy_of(run_id, 0)._replace(started_s=0.0, finished_s=0.01), copy_of(run_id, 2)._replace(finished_s=90.0))
    database = Database(database_url)

    minutes = database.rows("SELECT minute, due, ended, in_time, qos_rate FROM qos_per_minute WHERE run_id = %s", (run_id,))
    misses = database.rows("SELECT answered, missed, miss_share, worst_ms FROM misses_by_node WHERE run_id = %s", (run_id,))

    assert minutes == [(0, 3, 2, 1, 0.5)]
    assert misses == [(2, 1, 0.5, 90_000.0)]


def test_a_query_is_asked_for_by_name() -> None:
    """What is wrong with the name, or with the run, is told."""
    assert re.search(r"run_id = 7 ", named_query("qos", 7))
    assert "max(run_id)" in named_query("qos", None)
    with pytest.raises(UsageError, match=r"there is no query @slow.*slowest"):
        named_query("slowst", None)
    with pytest.raises(UsageError, match="@queue is not about one run"):
        named_query("queue", 1)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("sql", "no query is given"),
        ("sql --list @qos", "--list goes alone"),
        ("sql --schema requst", "did you mean 'request'"),
        ("sql --run 3 SELECT", "--run goes with a query that has a name"),
    ],
)
def test_options_of_sql_that_do_not_fit_are_refused(line: str, told: str) -> None:
    """Nothing is asked of a database."""
    done = CliRunner().invoke(cli, line.split(" "))

    assert isinstance(done.exception, UsageError)
    assert told in str(done.exception)


def test_the_schema_is_printed_without_a_stack() -> None:
    """Tables, and one's columns with their types."""
    tables = json.loads(CliRunner().invoke(cli, ["sql", "--schema", "-o", "json"]).stdout)
    columns = json.loads(CliRunner().invoke(cli, ["sql", "--schema", "attempt", "-o", "json"]).stdout)

    assert {row["name"] for row in tables} == set(DICTIONARY)
    assert {"column": "work_lost_s", "type": "double precision", "holds": "CPU-seconds that were done and thrown away."} in columns
