"""Addresses of databases as messages show them."""

from __future__ import annotations

import pytest

from tango.errors import ConfigError
from tango.store.database import described, libpq_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:s3cret@host:5433/db", "postgresql://ann:***@host:5433/db"),
        ("postgres://ann:s3%40cret@/db?host=/run/pg", "postgresql://ann:***@/db?host=/run/pg"),
        ("postgresql+psycopg2://ann@host/db", "postgresql://ann@host/db"),
        (
            "postgresql://host/db?user=ann&password=s3cret&sslmode=require",
            "postgresql://host/db?user=ann&password=***&sslmode=require",
        ),
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
