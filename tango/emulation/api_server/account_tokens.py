"""Tokens of service accounts, as `kubectl create token` asks for them: signed, so that they outlive the server's process.

Source: Kubernetes API, TokenRequest of authentication.k8s.io/v1; RFC 7519 and RFC 7515 (JSON Web Tokens signed by HMAC SHA-256).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime
from typing import Any

import orjson

Json = dict[str, Any]
USUAL_S = 3600
"""Seconds that a token is valid where nobody says for how long, as in Kubernetes."""
LEAST_S = 600
"""The least that may be asked for, likewise."""
_HEAD = {"alg": "HS256", "typ": "JWT"}


class AccountTokens:
    """Makes tokens and reads them; both by one secret, which is the same after a restart."""

    def __init__(self, secret: bytes) -> None:
        self._key = hashlib.sha256(b"tango service account tokens " + secret).digest()

    def make(self, user: str, *, seconds: int) -> tuple[str, str]:
        """(token, when it ends, as the API writes times)."""
        ends_s = int(time.time()) + seconds
        signed = b".".join(map(_encoded, (orjson.dumps(_HEAD), orjson.dumps({"sub": user, "exp": ends_s}))))
        token = b".".join((signed, _encoded(self._signature(signed)))).decode()
        return token, datetime.fromtimestamp(ends_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def user(self, token: str) -> str | None:
        """Whose token this is; None for one that this server has not made, or that has ended."""
        signed, _, signature = token.encode().rpartition(b".")
        try:
            is_ours = hmac.compare_digest(_decoded(signature), self._signature(signed))
            claims: Json = orjson.loads(_decoded(signed.partition(b".")[2])) if is_ours else {}
        except ValueError:
            return None
        return str(claims["sub"]) if is_ours and claims["exp"] > time.time() else None

    def _signature(self, signed: bytes) -> bytes:
        return hmac.digest(self._key, signed, "sha256")


def _encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
