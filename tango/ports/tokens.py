"""Tokens of callers: at the centre, where they are made and revoked, and in each cluster's journal, by which its gateway knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.tokens import KnownToken, NewToken, Token


class TokenStore(Protocol):
    """Tokens at the centre. Raises: StoreUnavailable, StoreError."""

    def create(self, token: NewToken) -> Token:
        """Keep a token; one that is known already stays as it is, revoked or not."""
        ...

    def tokens(self) -> list[Token]:
        """All of them, revoked ones too, in the order of their creation."""
        ...

    def revoke(self, token_id: int) -> Token:
        """Let a token be valid no more; one that was revoked before stays so since then. Raises: UsageError for one that is not known."""
        ...

    def valid(self) -> tuple[KnownToken, ...]:
        """Tokens that are not revoked, in order of their digests; what is told is at most `KNOWN_MAX_AGE_S` old."""
        ...


class KnownTokens(Protocol):
    """The part of a cluster's journal that knows whom its gateway lets in. Raises: StoreUnavailable."""

    def admit(self, tokens: Sequence[KnownToken]) -> None:
        """Replace all that are known."""
        ...

    def admitted(self) -> tuple[KnownToken, ...]:
        """The tokens that are known here; none before the first `admit`."""
        ...


KNOWN_MAX_AGE_S = 1.0
"""Seconds; an agent process asks for all its clusters, so that the centre is asked once and not once for each."""
