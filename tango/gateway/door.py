"""The door: who calls, and whether there is a place for one request more, in all and of his tenant."""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, digest_of
from tango.gateway.headers import TOKEN, AnyHeaders
from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings

_SEND_IT = f"send one as `Authorization: Bearer TOKEN` or `{TOKEN}: TOKEN`; `tango token create` makes one"


class Door:
    """Tokens and places of one gateway; everything in the thread of its event loop."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._by_digest: dict[str, KnownToken] = {}
        self._inside: Counter[str] = Counter()
        self._bytes = 0

    def know(self, tokens: Sequence[KnownToken]) -> None:
        """Let these in from now on, and no others."""
        self._by_digest = {token.digest: token for token in tokens}

    def caller(self, headers: AnyHeaders, *, wants: ServiceClass | None = None) -> KnownToken:
        """Who calls. Raises: Problem without a valid token, or where his token does not allow the class that he wants."""
        digest = digest_of(_token(headers))
        # Looked up by the hash of what was sent, which nobody can choose: how long that takes tells nothing of the tokens there are.
        token = self._by_digest.get(digest)
        if token is None or not hmac.compare_digest(token.digest, digest):
            raise Problem(Trouble.UNAUTHORIZED, f"the token is not known here, or was revoked; {_SEND_IT}")
        if wants is not None and wants not in token.allows:
            raise Problem(
                Trouble.NOT_ALLOWED, f"this token may not be used for {wants.label} requests; make one with --class {wants.label}"
            )
        return token

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """Hold a place of this tenant's. Raises: Problem where there is none."""
        most, of_tenant = self._settings.max_waiting, self._settings.max_waiting_of_tenant
        if self._inside.total() >= most:
            raise _too_many(f"this gateway has {most} requests under way, which is the most that it takes", self._settings)
        if self._inside[tenant] >= of_tenant:
            raise _too_many(
                f"tenant {tenant} has {of_tenant} requests under way here, which is the most that it may", self._settings
            )
        self._inside[tenant] += 1
        try:
            yield
        finally:
            self._inside[tenant] -= 1
            if not self._inside[tenant]:
                del self._inside[tenant]

    def hold_bytes(self, size: int) -> None:
        """Hold so much memory for bodies, or give it back. Raises: Problem where there is too little left."""
        if size > 0 and self._bytes + size > self._settings.bodies_mib << 20:
            raise _too_many(f"bodies of requests under way take {self._settings.bodies_mib} MiB, which is the most", self._settings)
        self._bytes += size

    @property
    def inside(self) -> int:
        """Requests under way."""
        return self._inside.total()


def _too_many(detail: str, settings: GatewaySettings) -> Problem:
    return Problem(Trouble.TOO_MANY_REQUESTS, detail, retry_after_s=settings.retry_after_s)


def _token(headers: AnyHeaders) -> str:
    own = headers.getall(TOKEN, ())
    if own:
        return own[0].strip()
    scheme, _, token = headers.get("Authorization", "").strip().partition(" ")
    if not scheme:
        raise Problem(Trouble.UNAUTHORIZED, f"no token was sent; {_SEND_IT}")
    if scheme.lower() != "bearer" or not token.strip():
        raise Problem(Trouble.UNAUTHORIZED, f"header Authorization: found the scheme {scheme[:20]!r}, expected Bearer; {_SEND_IT}")
    return token.strip()
