"""A request of a caller as a JSON object, as other Celery applications send it."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from tango.client.methods import IDEMPOTENT
from tango.domain.calls import SET_ANEW, Call, CallerRequest, asked_of
from tango.domain.near_names import near_name
from tango.domain.services import Service, ServiceClass, not_admitted
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import NotAdmitted, RequestRejected

ORDER = ("service", "path", "method", "headers", "body", "body_base64", "target_ms", "timeout_ms", "repeat")
"""Members; all but `service` may be left away. `headers` is an object of texts, `body` a text, `body_base64` bytes."""
LARGEST_ORDER_BYTES = 64 << 10
"""Longest order as JSON: a message that carries more is what brokers are bad at. Larger bodies go to the gateway."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def request_of(order: Mapping[str, Any], services: Sequence[Service], *, tenant: str, key: str) -> CallerRequest:
    """The request that an order asks for; nobody waits for its answer, which is kept to be fetched.

    Raises: RequestRejected, which names the member, what was found and what was expected; NotAdmitted for a service of another tenant.
    """
    for name in order:
        if name not in ORDER:
            raise RequestRejected(f"request: {name!r} is no member{near_name(str(name), ORDER)}; there are: {', '.join(ORDER)}")
    size = len(orjson.dumps(order))
    if size > LARGEST_ORDER_BYTES:
        raise RequestRejected(
            f"request: {size} bytes as JSON, expected {LARGEST_ORDER_BYTES} at most; send larger ones to the cluster's gateway"
        )
    service, tenant = _service(order, services), tenant or DEFAULT_TENANT
    if not service.admits(tenant):
        raise NotAdmitted(not_admitted(service, tenant))
    method = _text(order, "method", "POST").upper()
    if method not in METHODS:
        raise RequestRejected(f"request: method is {method!r}, expected one of {', '.join(METHODS)}")
    path = _text(order, "path", "/")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
        raise RequestRejected(f"request: path is {path!r}, expected printable ASCII that begins with /, all else percent-encoded")
    repeat = order.get("repeat")
    if repeat is not None and not isinstance(repeat, bool):
        raise RequestRejected(f"request: repeat is {repeat!r}, expected true or false")
    call = Call(
        method=method,
        path=path,
        headers=_headers(order),
        body=_body(order),
        is_repeatable=method in IDEMPOTENT if repeat is None else repeat,
    )
    return asked_of(
        service,
        call,
        tenant=tenant,
        target_s=_seconds(order, "target_ms"),
        timeout_s=_seconds(order, "timeout_ms"),
        else_targets=math.inf,
        answer_to=None,
        key=key,
    )


def _service(order: Mapping[str, Any], services: Sequence[Service]) -> Service:
    name = order.get("service")
    known = {s.name: s for s in services if s.service_class is ServiceClass.LC}
    if not isinstance(name, str) or name not in known:
        near = near_name(name, known) if isinstance(name, str) else ""
        raise RequestRejected(f"request: service is {name!r}, no LC service{near}; there are: {', '.join(sorted(known)) or 'none'}")
    return known[name]


def _text(order: Mapping[str, Any], name: str, default: str) -> str:
    value = order.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise RequestRejected(f"request: {name} is {value!r}, expected a text")
    return value


def _seconds(order: Mapping[str, Any], name: str) -> float | None:
    value = order.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 3_600_000:
        raise RequestRejected(f"request: {name} is {value!r}, expected milliseconds above 0 and at most 3600000")
    return value / 1e3


def _headers(order: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = order.get("headers") or {}
    if not isinstance(value, Mapping):
        raise RequestRejected(f"request: headers is {value!r}, expected an object of texts")
    for name, text in value.items():
        plain = isinstance(name, str) and isinstance(text, str) and (name + text).isascii() and (name + text).isprintable()
        if not plain or not name or " " in name or ":" in name:
            raise RequestRejected(f"request: header {name!r} is {text!r}, expected a name and a text of printable ASCII")
    return tuple((name, text) for name, text in value.items() if name.lower() not in SET_ANEW)


def _body(order: Mapping[str, Any]) -> bytes:
    if order.get("body") is not None and order.get("body_base64") is not None:
        raise RequestRejected("request: body and body_base64 are both given, expected one of them")
    try:
        return base64.b64decode(_text(order, "body_base64", ""), validate=True) or _text(order, "body", "").encode()
    except (binascii.Error, ValueError) as error:
        raise RequestRejected(f"request: body_base64 is no base64 ({error})") from error
