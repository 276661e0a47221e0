"""Tokens of callers: implements `tango.ports.tokens.TokenStore`."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, NewToken, Token
from tango.errors import UsageError
from tango.ports.tokens import KNOWN_MAX_AGE_S
from tango.store.database import Cursor, Database

_COLUMNS = "token_id, tenant, name, allows, tail, extract(epoch FROM created_at), extract(epoch FROM revoked_at)"
_CREATE = """
INSERT INTO token (tenant, name, allows, digest, tail) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (digest) DO NOTHING
"""
_REVOKE = f"UPDATE token SET revoked_at = coalesce(revoked_at, now()) WHERE token_id = %s RETURNING {_COLUMNS}"
_VALID = "SELECT digest, tenant, allows FROM token WHERE revoked_at IS NULL ORDER BY digest"


class PostgresTokenStore:
    """The token store on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = threading.Lock()
        self._valid: tuple[float, tuple[KnownToken, ...]] | None = None
        """When they were read, on the monotonic clock, and what was found."""

    def create(self, token: NewToken) -> Token:
        """Store a token by its digest; the same digest twice is one token."""

        def create(cursor: Cursor) -> Token:
            cursor.execute(_CREATE, (token.tenant, token.name, [c.label for c in sorted(token.allows)], token.digest, token.tail))
            cursor.execute(f"SELECT {_COLUMNS} FROM token WHERE digest = %s", (token.digest,))
            return _token(cursor.fetchone())

        return self._database.run(create)

    def tokens(self) -> list[Token]:
        """All tokens, by their ids."""
        return [_token(row) for row in self._database.rows(f"SELECT {_COLUMNS} FROM token ORDER BY token_id")]

    def revoke(self, token_id: int) -> Token:
        """The first time counts."""

        def revoke(cursor: Cursor) -> Token | None:
            cursor.execute(_REVOKE, (token_id,))
            row = cursor.fetchone()
            return None if row is None else _token(row)

        found = self._database.run(revoke)
        if found is None:
            raise UsageError(f"there is no token {token_id}; `tango token list` shows those that there are")
        return found

    def valid(self) -> tuple[KnownToken, ...]:
        """Tokens that are not revoked; what was read is used for `KNOWN_MAX_AGE_S`."""
        with self._reading:
            if self._valid is None or time.monotonic() - self._valid[0] > KNOWN_MAX_AGE_S:
                began_s = time.monotonic()
                rows = self._database.rows(_VALID)
                found = tuple(KnownToken(digest=digest, tenant=tenant, allows=_classes(allows)) for digest, tenant, allows in rows)
                self._valid = began_s, found
            return self._valid[1]


def _classes(labels: Sequence[str]) -> frozenset[ServiceClass]:
    return frozenset(ServiceClass[label.upper()] for label in labels)


def _token(row: Any) -> Token:
    token_id, tenant, name, allows, tail, created_at_s, revoked_at_s = row
    return Token(
        token_id=token_id,
        tenant=tenant,
        name=name,
        allows=_classes(allows),
        tail=tail,
        created_at_s=float(created_at_s),
        revoked_at_s=None if revoked_at_s is None else float(revoked_at_s),
    )
