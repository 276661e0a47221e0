"""Who may see the console: whoever has its token, by a login that a signed cookie remembers, or by the header of a script.

Nothing is kept in memory: a console that starts anew knows its people again, and one with another token does not.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

COOKIE = "tango-console"
LASTS_S = 12 * 3600.0
"""Seconds of a login: a day of work."""
MOST_NAME = 60
"""Characters of the name that somebody gives."""
NOBODY = "console"
"""Who did it, where nobody gave a name."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who may see the console."""

    name: str


class ConsoleDoor:
    """Checks tokens and cookies against the one token of this console."""

    def __init__(self, token: str, *, clock_s: Callable[[], float] = time.time) -> None:
        self._token, self._clock_s = token.encode(), clock_s
        # A key of its own: what is signed here means nothing anywhere else.
        self._key = hashlib.sha256(b"tango console cookie\0" + self._token).digest()

    def is_token(self, given: str) -> bool:
        """Whether this is the token. Takes as long for any text of its length."""
        return hmac.compare_digest(given.strip().encode(), self._token)

    def cookie(self, name: str) -> str:
        """What whoever logs in under this name is known by from now on."""
        said = json.dumps({"name": name.strip()[:MOST_NAME] or NOBODY, "until_s": self._clock_s() + LASTS_S})
        body = base64.urlsafe_b64encode(said.encode()).decode()
        return f"{body}.{self._signature(body)}"

    def visitor(self, *, cookie: str = "", bearer: str = "") -> Visitor | None:
        """Who it is; None for a cookie of another console, one that is over, or a wrong token."""
        if bearer:
            return Visitor(NOBODY) if self.is_token(bearer) else None
        body, _, signature = cookie.partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(body).encode()):
            return None
        said = json.loads(base64.urlsafe_b64decode(body))
        return Visitor(said["name"]) if said["until_s"] > self._clock_s() else None

    def _signature(self, body: str) -> str:
        return hmac.new(self._key, body.encode(), hashlib.sha256).hexdigest()
