"""Addresses of databases as messages show them."""

from __future__ import annotations

from urllib.parse import quote, unquote

import psycopg2
import psycopg2.extensions
import pytest

from tango.errors import ConfigError, StoreUnavailable
from tango.store.addresses import described, libpq_url, not_reached, own_options, password_of, with_database


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@host:5433/db", "postgresql://ann:***@host:5433/db"),
        ("postgres://ann:s3%40cret@/db?host=/run/pg", "postgresql://ann:***@/db?host=/run/pg"),
        ("postgresql+psycopg2://ann@host/db", "postgresql://ann@host/db"),
        (
            "postgresql://host/db?user=ann&password=s3cret&sslmode=require",
            "postgresql://ann:***@host/db?sslmode=require",
        ),
        ("postgresql://ann:s3cret#1@host:5433/db", "postgresql://ann:***@host:5433/db"),
        ("postgresql://ann:s3cret?x=1@host/db?sslmode=require", "postgresql://ann:***@host/db?sslmode=require"),
        ("postgresql://ann:s3cret:5@a,b:5433/db", "postgresql://ann:***@a,b:5433/db"),
        ("postgresql://ann:s3cret@a:1,b:2/db?sslpassword=s3cret", "postgresql://ann:***@a:1,b:2/db"),
        ("postgresql://:s3cret@/db", "postgresql://:***@/db"),
    ],
)
def test_no_message_shows_a_password(url: str, shown: str) -> None:
    """Wherever libpq takes a password from, and however the user wrote the scheme."""
    assert described(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ann:s3cret@host/db",
        "host/db",
        "postgresql://",
        "",
        "ann:s3cret@host/db",
        "password=s3cret host=h",
        "s3cret@h/a?b=://c",
    ],
)
def test_another_scheme_is_refused_without_showing_the_address(url: str) -> None:
    """The message names what was expected; the password stays out of it."""
    with pytest.raises(ConfigError, match=r"expected postgresql:// or postgres://") as refused:
        libpq_url(url)
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:s3/cret@host/db", "postgresql://ann:1/s3cret@host/db", "postgresql://h/db?s3cret=1"]
)
def test_what_libpq_would_take_for_a_host_is_refused_without_showing_it(url: str) -> None:
    """A slash ends the host: the password would be a port, and stand in PostgreSQL's own message."""
    for read in (libpq_url, described, password_of):
        with pytest.raises(ConfigError, match="the database URL") as refused:
            read(url)
        assert "s3" not in str(refused.value)


@pytest.mark.parametrize("password", ["plain", "a#b", "a?b=c", "a:b", "a b%20", "%2F"])
def test_a_password_is_the_one_that_libpq_reads(password: str) -> None:
    """Also when the same server's other database is meant."""
    url = f"postgresql://ann:{password}@host:5433/db?sslmode=require"

    other = psycopg2.extensions.parse_dsn(with_database(url, "tango"))

    assert password_of(url) == unquote(password)
    assert other == {
        "user": "ann",
        "password": unquote(password),
        "host": "host",
        "port": "5433",
        "dbname": "tango",
        "sslmode": "require",
    }


@pytest.mark.parametrize("said", ["-csearch_path=mine", "-c search_path=mine,public", "-c work_mem=8MB --search-path=mine"])
def test_a_url_that_names_another_schema_is_refused(said: str) -> None:
    """Half of Tango would look there, and half in `public`."""
    with pytest.raises(ConfigError, match="Tango's tables stand in the schema public: name a database of its own instead"):
        libpq_url(f"postgresql://host/db?options={quote(said)}")


def test_what_a_url_says_of_its_sessions_comes_before_what_tango_says() -> None:
    """Of two that say the same the last one counts."""
    url = "postgresql://host/db?options=-c%20work_mem%3D8MB%20-c%20timezone%3DJapan"
    assert own_options(url, "-c timezone=UTC") == "-c work_mem=8MB -c timezone=Japan -c timezone=UTC"
    assert own_options("postgresql://host/db", "-c timezone=UTC") == "-c timezone=UTC"


_AT = 'connection to server at "10.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("libpq_says", "told"),
    [
        (f'{_AT}FATAL:  password authentication failed for user "ann"', "refuses the login (password authentication failed"),
        (f"{_AT}FATAL:  Passwort-Authentifizierung für Benutzer »ann« fehlgeschlagen", "refuses the login (Passwort-Authent"),
        (f'{_AT}FATAL:  database "db" does not exist', 'refuses the login (database "db" does not exist)'),
        (
            f'{_AT}Connection refused\n\tIs the server running?\n{_AT}FATAL:  role "x" is not permitted to log in',
            "refuses the login",
        ),
        (f"{_AT}Connection refused\n{_AT}timeout expired", "Connection refused; connection to server"),
        (f"{_AT}FATAL:  the database system is starting up", "does not answer"),
        (f"{_AT}FATAL:  sorry, too many clients already", "does not answer"),
        ('could not translate host name "h1" to address: Name or service not known', "does not answer"),
        ('invalid port number: "99999"', "cannot be used: invalid port number"),
        ('invalid sslmode value: "bogus"', "cannot be used: invalid sslmode value"),
        ('definition of service "abc" not found', "cannot be used: definition of service"),
    ],
)
def test_a_server_that_says_no_is_not_told_as_one_that_is_silent(libpq_says: str, told: str) -> None:
    """Nor is a wrong URL; and what passes by itself is tried again."""
    found = not_reached("postgresql://ann:s3cret@10.0.0.1/db", psycopg2.OperationalError(libpq_says))

    assert told in str(found)
    assert "s3cret" not in str(found)
    assert isinstance(found, ConfigError) == ("cannot be used" in told)
    if isinstance(found, StoreUnavailable):
        assert found.is_refused == ("refuses" in told)
