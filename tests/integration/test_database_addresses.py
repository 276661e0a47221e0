"""Databases by every URL that libpq takes, and what a server that says no is told as; on a real PostgreSQL."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from tango.errors import ConfigError, StoreUnavailable
from tango.store.addresses import described
from tango.store.backup import back_up
from tango.store.database import Database
from tango.store.migrate import migrate
from tango.store.query import reading
from tango.store.schema import bring_up_to_date
from tests.conftest import DatabaseUrls
from tests.foreign import FILLING


def _ask(url: str) -> None:
    Database(url).rows("SELECT 1")


def _read(url: str) -> None:
    with reading("SELECT 1", reader_url="", database_url=url, statement_timeout_s=10.0):
        pass


def _back_up(url: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        back_up(url, Path(folder) / "a.dump", folders=(), told=lambda _: None)


DOORS = [_ask, _read, _back_up, migrate, bring_up_to_date]
"""Whatever connects."""


def _of(url: str, **changed: str) -> str:
    """The URL with other parts, all of them in its query."""
    parts = {**parse_dsn(url), **changed}
    return "postgresql://?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in parts.items())


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("wrong", [{"password": "s3cret"}, {"user": "nobody_here"}, {"dbname": "none_here"}])
def test_a_login_that_is_refused_is_told_in_the_servers_words(
    database_urls: DatabaseUrls, door: Callable[[str], None], wrong: dict[str, str]
) -> None:
    """By everything that connects, at once, and not as a server that does not answer."""
    with pytest.raises(StoreUnavailable, match=r"refuses the login \((password|database|role) .*of that URL") as refused:
        door(_of(database_urls.owner, **wrong))
    assert refused.value.is_refused
    assert "s3cret" not in str(refused.value)


def test_the_second_of_two_hosts_serves_where_the_first_is_away(database_urls: DatabaseUrls) -> None:
    """Each with a port, which generic parsers of URLs do not read; for migrations too."""
    place = parse_dsn(database_urls.owner)
    url = _of(database_urls.owner, host=f"/nowhere,{place['host']}", port=f"1,{place.get('port', '5432')}")

    migrate(url)
    _read(url)

    assert Database(url).rows("SELECT current_user") == [(place["user"],)]


def test_variables_of_another_server_lead_nobody_away_from_the_stack_s_own(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its URLs leave nothing to them, for Tango as for psql."""
    for name, value in FILLING.items():
        monkeypatch.setenv(name, value)

    for door in DOORS[:2]:
        door(database_urls.app)
    assert "PG" not in described(database_urls.app)
    assert described(database_urls.app).count("&") == 0


@pytest.mark.parametrize(("name", "value"), [("PGTZ", "Asia/Tokyo"), ("PGDATESTYLE", "German")])
def test_a_variable_that_changes_sessions_is_refused_where_nobody_has_taken_it_out(
    database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """As in a notebook, whose environment is its own."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{name} in the environment overrides the settings of Tango's sessions; unset it"):
        Database(database_urls.app).rows("SELECT 1")


def test_options_of_the_url_hold_beside_those_of_tango(database_urls: DatabaseUrls) -> None:
    """Tango's own win where both say the same: no session is without its time-outs."""
    url = _of(database_urls.app, options="-c work_mem=3MB -c statement_timeout=0")
    found = Database(url).rows("SELECT current_setting('work_mem'), current_setting('statement_timeout')")
    assert found == [("3MB", "1min")]


def test_only_statements_of_people_have_processes_started_beside_them(database_urls: DatabaseUrls) -> None:
    """Tango's own read few rows: a wrong guess of how many would cost each of them tens of milliseconds."""
    asked = "SELECT current_setting('max_parallel_workers_per_gather')::int, current_setting('jit')"
    own = Database(database_urls.app).rows(asked)
    with reading(asked, reader_url=database_urls.reader, database_url="", statement_timeout_s=10.0) as found:
        ((workers, _),) = [row for piece in found.pieces() for row in piece]

    assert own == [(0, "off")]
    assert workers > 0


ODD = {
    "extra_float_digits": "-10",
    "bytea_output": "escape",
    "intervalstyle": "sql_standard",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "search_path": "mine",
}
"""Settings that a database or a role may have for other applications, and that change what is sent, read or meant."""
ODD_QUERY = r"SELECT 0.1234567890123456::float8, '\x00ff'::bytea::text, interval '-1 day 02:03:04' || '', 'a\nb', '€'"
AS_IT_IS = (0.1234567890123456, r"\x00ff", "-1 days +02:03:04", r"a\nb", "€")


def test_settings_of_a_database_change_nothing_of_what_is_read(database_urls: DatabaseUrls) -> None:
    """Fewer digits of floats would be other figures; a path of its own would lead to other tables, or make them elsewhere."""
    with psycopg2.connect(database_urls.admin) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA mine; GRANT ALL ON SCHEMA mine TO PUBLIC; SELECT current_database()")
        name = (cursor.fetchone() or ("",))[0]
        for setting, value in ODD.items():
            cursor.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")

    migrate(database_urls.owner)
    own = Database(database_urls.app).rows(ODD_QUERY)
    with reading(ODD_QUERY, reader_url=database_urls.reader, database_url="", statement_timeout_s=10.0) as found:
        people_s = [row for piece in found.pieces() for row in piece]

    assert own == people_s == [AS_IT_IS]
    made = "SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relname = 'alembic_version'"
    assert Database(database_urls.app).rows(made) == [("public",)]
    assert Database(database_urls.app).rows("SELECT count(*) FROM run") == [(0,)]
