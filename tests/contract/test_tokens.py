"""`TokenStore` on the fake and on PostgreSQL, `KnownTokens` on the fake and on SQLite."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, NewToken, digest_of, drawn_token, new_token
from tango.errors import UsageError
from tango.ports.tokens import KNOWN_MAX_AGE_S, KnownTokens, TokenStore
from tango.store.database import Database
from tango.store.tokens import PostgresTokenStore
from tests.fakes.journal_world import memory_journal_world, sqlite_journal_world
from tests.fakes.tokens import MemoryTokenStore

BOTH, LC = frozenset(ServiceClass), frozenset({ServiceClass.LC})


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> TokenStore:
    """One implementation after the other."""
    if request.param == "memory":
        return MemoryTokenStore()
    return PostgresTokenStore(Database(request.getfixturevalue("database_url")))


@pytest.fixture(params=["memory", "sqlite"])
def known(request: pytest.FixtureRequest, tmp_path: Path) -> KnownTokens:
    """A journal, one implementation after the other."""
    if request.param == "memory":
        return memory_journal_world().journal
    return sqlite_journal_world(tmp_path / "c1.db").journal


def new(tenant: str = "default", name: str = "", allows: frozenset[ServiceClass] = BOTH) -> tuple[str, NewToken]:
    """A token and its row."""
    token = drawn_token()
    return token, new_token(token, tenant=tenant, name=name, allows=allows)


def test_a_token_is_kept_by_its_hash_and_is_valid_from_then_on(store: TokenStore) -> None:
    """Of the token itself its last four characters are kept, and nothing else."""
    token, row = new("blue", "camera-1", LC)

    made = store.create(row)

    assert (made.tenant, made.name, made.allows, made.tail, made.revoked_at_s) == ("blue", "camera-1", LC, token[-4:], None)
    assert store.tokens() == [made]
    assert store.valid() == (KnownToken(digest=digest_of(token), tenant="blue", allows=LC),)


def test_a_token_that_is_revoked_is_valid_no_more(store: TokenStore) -> None:
    """It stays in the list, revoked since the first time; to keep it again changes nothing."""
    (_, row), (_, other) = new(), new("blue")
    made = store.create(row)
    store.create(other)

    first = store.revoke(made.token_id)
    second = store.revoke(made.token_id)
    again = store.create(row)

    assert first.revoked_at_s is not None
    assert first == second == again
    assert [token.revoked_at_s is None for token in store.tokens()] == [False, True]
    assert [token.tenant for token in store.valid()] == ["blue"]


def test_what_is_valid_is_at_most_a_second_old(store: TokenStore) -> None:
    """An agent may ask for each of its clusters; a token that is revoked is out within seconds all the same."""
    _, row = new()
    made = store.create(row)
    before = store.valid()
    store.revoke(made.token_id)

    until_s = time.monotonic() + 2 * KNOWN_MAX_AGE_S
    while store.valid() and time.monotonic() < until_s:
        time.sleep(0.05)

    assert len(before) == 1
    assert store.valid() == ()


def test_a_token_that_is_not_known_cannot_be_revoked(store: TokenStore) -> None:
    """The error says which, and where to look."""
    with pytest.raises(UsageError, match="there is no token 7"):
        store.revoke(7)


def test_a_journal_knows_the_tokens_that_it_was_told_last(known: KnownTokens) -> None:
    """None before the first time; each time replaces all."""
    first = KnownToken(digest="a" * 64, tenant="default", allows=BOTH)
    second = KnownToken(digest="b" * 64, tenant="blue", allows=LC)
    before = known.admitted()
    known.admit([first])
    known.admit([second])

    assert before == ()
    assert known.admitted() == (second,)
