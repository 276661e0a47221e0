"""Tokens in memory: implements `tango.ports.tokens.TokenStore`."""

from __future__ import annotations

from dataclasses import replace

from tango.domain.tokens import KnownToken, NewToken, Token
from tango.errors import UsageError


class MemoryTokenStore:
    """Its clock is later by a second at every change; what is valid is never old."""

    def __init__(self) -> None:
        self._kept: dict[str, Token] = {}
        self._now_s = 0.0

    def create(self, token: NewToken) -> Token:
        """One for each digest."""
        self._now_s += 1.0
        made = Token(
            token_id=len(self._kept) + 1,
            tenant=token.tenant,
            name=token.name,
            allows=token.allows,
            tail=token.tail,
            created_at_s=self._now_s,
            revoked_at_s=None,
        )
        return self._kept.setdefault(token.digest, made)

    def tokens(self) -> list[Token]:
        """In order."""
        return list(self._kept.values())

    def revoke(self, token_id: int) -> Token:
        """The first time counts."""
        self._now_s += 1.0
        for digest, token in self._kept.items():
            if token.token_id == token_id:
                at_s = self._now_s if token.revoked_at_s is None else token.revoked_at_s
                self._kept[digest] = replace(token, revoked_at_s=at_s)
                return self._kept[digest]
        raise UsageError(f"there is no token {token_id}")

    def valid(self) -> tuple[KnownToken, ...]:
        """Not revoked."""
        return tuple(
            KnownToken(digest=digest, tenant=token.tenant, allows=token.allows)
            for digest, token in sorted(self._kept.items())
            if token.revoked_at_s is None
        )
