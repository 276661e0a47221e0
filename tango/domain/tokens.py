"""Tokens: by what a gateway knows who calls, and what he may send. Only their hashes are kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from tango.domain.services import ServiceClass
from tango.domain.tenants import DEFAULT_TENANT, is_tenant_name
from tango.errors import UsageError

TOKEN_BYTES = 32
"""Random bytes of a token: no one can try 2^256 of them, so that a fast hash without salt keeps it as well as a slow one would."""
PREFIX = "tango_"
"""How a token begins, so that scanners of repositories and logs can find one that has slipped out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token that has no row yet. Raises: UsageError for a tenant or name that is none."""

    tenant: str = DEFAULT_TENANT
    name: str = ""
    """By which people know it; empty: none."""
    allows: frozenset[ServiceClass] = frozenset(ServiceClass)
    """Classes whose requests its holder may send."""
    digest: str
    """SHA-256 of the token, hexadecimal."""
    tail: str
    """Last four characters of the token, by which its holder can tell it from others."""

    def __post_init__(self) -> None:
        for field, found in (("tenant", self.tenant), ("name", self.name)):
            if not is_tenant_name(found) and not (field == "name" and not found):
                raise UsageError(
                    f"{found!r} is no {field}, expected at most 63 of a-z, 0-9 and `-`, with a letter or digit first and last"
                )
        if not self.allows:
            raise UsageError("a token that allows neither lc nor be is of no use; name at least one class")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the store has it."""

    token_id: int
    tenant: str
    name: str
    allows: frozenset[ServiceClass]
    tail: str
    created_at_s: float
    """Unix time, as the next."""
    revoked_at_s: float | None
    """None: it is valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToken:
    """A token that is valid, as a gateway knows it."""

    digest: str
    tenant: str
    allows: frozenset[ServiceClass]


def drawn_token() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token(token: str, *, tenant: str, name: str, allows: frozenset[ServiceClass]) -> NewToken:
    """The row of this token. Raises: UsageError."""
    return NewToken(tenant=tenant, name=name, allows=allows, digest=digest_of(token), tail=token[-4:])
