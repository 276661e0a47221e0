"""Addresses of databases as messages show them."""

from __future__ import annotations

from urllib.parse import unquote

import psycopg2
import psycopg2.extensions
import pytest

from tango.errors import ConfigError
from tango.store.addresses import described, libpq_url, password_of, with_database


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


@pytest.mark.parametrize("url", ["mysql://ann:s3cret@host/db", "host/db", "postgresql://", ""])
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
