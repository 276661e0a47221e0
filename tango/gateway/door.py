"""The door: who calls, and whether there is a place for one request more, in all and of his tenant.

Whoever finds no place waits at the door for one, if few enough do, and takes it in turn with those of other tenants: of many who come at
once more are served so than if all but the first had to come again. He holds nothing but his connection meanwhile.
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, digest_of
from tango.gateway.headers import TOKEN, AnyHeaders
from tango.gateway.problems import Problem, Trouble
from tango.settings import GatewaySettings
from tango.telemetry import count
from tango.telemetry.catalogue import GATEWAY_INSIDE

_SEND_IT = f"send one as `Authorization: Bearer TOKEN` or `{TOKEN}: TOKEN`; `tango token create` makes one"


class Door:
    """Tokens and places of one gateway; everything in the thread of its event loop."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._by_digest: dict[str, KnownToken] = {}
        self._inside: Counter[str] = Counter()
        self._at_door: OrderedDict[str, OrderedDict[asyncio.Future[None], None]] = OrderedDict()
        """By tenant who waits for a place, in order; the tenant whose turn it is first."""
        self._bytes = 0

    def know(self, tokens: Sequence[KnownToken]) -> None:
        """Replace the tokens that are valid."""
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

    @asynccontextmanager
    async def place(self, tenant: str, *, within_s: float) -> AsyncIterator[bool]:
        """Hold a place of this tenant's, which is waited for so long at the most; gives whether it was waited for.

        Raises: Problem where there is none by then, or too many wait for one.
        """
        has_waited = not self._has_place(tenant)
        if has_waited:
            await self._turn(tenant, within_s)  # whoever gave up the place has it counted as this tenant's
        else:
            self._inside[tenant] += 1
        count(GATEWAY_INSIDE)
        try:
            yield has_waited
        finally:
            count(GATEWAY_INSIDE, by=-1.0)
            self._leave(tenant)

    def _has_place(self, tenant: str) -> bool:
        """Whether one more caller of the tenant may come in; those at the door come in as soon as there is room, so none is passed over."""
        most, of_tenant = self._settings.max_waiting, self._settings.max_waiting_of_tenant
        return self._inside.total() < most and self._inside[tenant] < of_tenant

    async def _turn(self, tenant: str, within_s: float) -> None:
        if self.at_door >= self._settings.max_waiting or len(self._at_door.get(tenant, ())) >= self._settings.max_waiting_of_tenant:
            raise self._full(tenant)
        turn = asyncio.get_running_loop().create_future()
        self._at_door.setdefault(tenant, OrderedDict())[turn] = None
        try:
            async with asyncio.timeout(within_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # he was let in, and has gone or run out of time before he knew
                self._leave(tenant)
            if isinstance(error, TimeoutError):
                raise self._full(tenant) from None
            raise
        finally:
            mine = self._at_door.get(tenant, OrderedDict())
            mine.pop(turn, None)
            if not mine:
                self._at_door.pop(tenant, None)

    def _leave(self, tenant: str) -> None:
        """Give up a place of this tenant's, to the next of the first tenant who may have it; that tenant is the last from then on."""
        self._inside[tenant] -= 1
        if not self._inside[tenant]:
            del self._inside[tenant]
        for other, turns in list(self._at_door.items()):
            while turns and self._has_place(other):
                turn, _ = turns.popitem(last=False)
                if not turn.done():  # one that is has gone a moment ago
                    self._at_door.move_to_end(other)
                    self._inside[other] += 1
                    turn.set_result(None)
                    return

    def _full(self, tenant: str) -> Problem:
        most, of_tenant = self._settings.max_waiting, self._settings.max_waiting_of_tenant
        if self._inside[tenant] >= of_tenant:
            return _too_many(
                f"tenant {tenant} has {of_tenant} requests under way here, which is the most that it may", self._settings
            )
        return _too_many(f"this gateway has {most} requests under way, which is the most that it takes", self._settings)

    def hold_bytes(self, size: int) -> None:
        """Hold so much memory for bodies, or give it back. Raises: Problem where there is too little left."""
        if size > 0 and self._bytes + size > self._settings.bodies_mib << 20:
            raise _too_many(f"bodies of requests under way take {self._settings.bodies_mib} MiB, which is the most", self._settings)
        self._bytes += size

    @property
    def inside(self) -> int:
        """Requests under way."""
        return self._inside.total()

    @property
    def at_door(self) -> int:
        """How many callers wait for a place."""
        return sum(map(len, self._at_door.values()))


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
