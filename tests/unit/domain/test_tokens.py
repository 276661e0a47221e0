"""Tokens: what is drawn, what is kept of it, and what is no name."""

from __future__ import annotations

import pytest

from tango.domain.services import ServiceClass
from tango.domain.tokens import digest_of, drawn_token, new_token
from tango.errors import UsageError


def test_a_token_is_long_and_of_it_only_the_hash_is_kept() -> None:
    """256 random bits behind a prefix that scanners can find."""
    token = drawn_token()

    row = new_token(token, tenant="blue", name="", allows=frozenset(ServiceClass))

    assert token.startswith("tango_")
    assert len(token) == 49
    assert (row.digest, row.tail) == (digest_of(token), token[-4:])
    assert token not in repr(row)


@pytest.mark.parametrize("tenant", ["", "Blue", "-a", "a b", "x" * 64])
def test_a_tenant_that_is_no_name_is_refused(tenant: str) -> None:
    """It will stand in rows, addresses and logs."""
    with pytest.raises(UsageError, match="is no tenant, expected at most 63"):
        new_token(drawn_token(), tenant=tenant, name="", allows=frozenset(ServiceClass))


def test_a_token_that_allows_nothing_is_refused() -> None:
    """Nobody means that."""
    with pytest.raises(UsageError, match="name at least one class"):
        new_token(drawn_token(), tenant="default", name="", allows=frozenset())
