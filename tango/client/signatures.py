"""Which requests a cluster's workers have sent: each has a signature over its number and attempt and the instance that is to serve it.

    Tango-Request: 12/250017/1      Tango-Instance: edge-1/lc-my-api-n1-0      Tango-Signature: 1764460800.5f1c…

A key belongs to one service: `tango service key NAME` prints it. It is made of the one key that workers have, and tells nothing of that
one nor of other services' keys. Whoever can reach an instance can send it requests; with the key it knows which of them are Tango's:

    from tango.client import is_signed

    if not is_signed(request.headers):          # the key is in TANGO_SERVICE_KEY
        return Response(status=401)

This module is all of it, of the standard library alone, so that the image of the synthetic workload has it too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Mapping

REQUEST, INSTANCE, SIGNATURE = "Tango-Request", "Tango-Instance", "Tango-Signature"
"""Headers of a request as an instance gets it."""
KEY_VARIABLE = "TANGO_SERVICE_KEY"
"""Environment variable with the key of an instance's service."""
LASTS_S = 300.0
"""Seconds before and after its time in which a signature holds: clocks of a worker and an instance may differ, and what was overheard is of
no use for longer."""


def service_key(key: str, service: str) -> str:
    """The key of one service, of the key that workers sign with; 64 hexadecimal digits. Source: RFC 5869 derives keys so, by HMAC."""
    return hmac.new(key.encode(), f"tango instances of {service}".encode(), hashlib.sha256).hexdigest()


def signature(key: str, *, request: str, instance: str, at_s: float) -> str:
    """The value of `Tango-Signature` by a service's key, at a Unix time."""
    return f"{int(at_s)}.{_digest(key, request, instance, int(at_s))}"


def is_signed(
    headers: Mapping[str, str], *, key: str | None = None, instance: str | None = None, now_s: float | None = None
) -> bool:
    """Whether a request with these headers, of names in any case, was sent by Tango's workers to this instance.

    `key` is the service's, from TANGO_SERVICE_KEY where it is not given; `instance` is who this is, as `CLUSTER/POD`, without which
    a request that was meant for another instance of the service counts too. Raises: ValueError where there is no key.
    """
    key = os.environ.get(KEY_VARIABLE, "") if key is None else key
    if not key:
        raise ValueError(
            f"there is no key to check requests by: name one, or set {KEY_VARIABLE}; `tango service key NAME` prints it"
        )
    found = {name.lower(): value for name, value in headers.items()}
    request, named, given = (found.get(name.lower(), "") for name in (REQUEST, INSTANCE, SIGNATURE))
    at, _, digest = given.partition(".")
    if not at.isascii() or not at.isdecimal() or len(at) > 12 or not request or not named:
        return False
    now_s = time.time() if now_s is None else now_s
    is_new = abs(now_s - int(at)) <= LASTS_S
    is_ours = hmac.compare_digest(_digest(key, request, named, int(at)).encode(), digest.encode(errors="replace"))
    return is_new and is_ours and instance in (None, "", named)


def _digest(key: str, request: str, instance: str, at_s: int) -> str:
    # No part can have a line break in it, being of a header: so none can be read as another.
    return hmac.new(key.encode(), f"{request}\n{instance}\n{at_s}".encode(), hashlib.sha256).hexdigest()
