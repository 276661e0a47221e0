"""Requests of other applications as JSON: what each member means, and a clear word about what means nothing."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from typing import Any

import pytest

from tango.domain.call_json import LARGEST_ORDER_BYTES, ORDER, request_of
from tango.domain.calls import Call
from tango.errors import NotAdmitted, RequestRejected
from tests.fakes.store_world import BATCH, CHAT, WEB

SERVICES = (WEB, CHAT, BATCH)


def request(**order: Any) -> Any:
    """Of the default tenant, as a message brings it."""
    return request_of({"service": "web", **order}, SERVICES, tenant="", key="celery:1")


def test_only_the_service_must_be_said() -> None:
    """A POST to its root within its target; nobody waits, so that nobody loses patience."""
    found = request()

    assert (found.service, found.tenant, found.key, found.answer_to) == ("web", "default", "celery:1", None)
    assert (found.target_s, found.patience_s, found.cpu_work_s, found.memory_mib) == (0.1, math.inf, 0.02, 32)
    assert found.call == Call(method="POST", path="/", is_repeatable=False)


def test_every_member_counts() -> None:
    """Bytes by base64; a method that may be repeated is, unless it shall not; headers of a connection do not go on."""
    found = request(
        path="/v1/x?y=%20",
        method="put",
        headers={"Content-Type": "image/png", "Connection": "close"},
        body_base64=base64.b64encode(b"\x00\xff").decode(),
        target_ms=250,
        timeout_ms=1500.0,
    )

    headers = (("Content-Type", "image/png"),)
    assert found.call == Call(method="PUT", path="/v1/x?y=%20", headers=headers, body=b"\x00\xff", is_repeatable=True)
    assert (found.target_s, found.patience_s) == (0.25, 1.5)
    assert request(method="GET", repeat=False).call.is_repeatable is False
    assert request(repeat=True, body="text").call == Call(method="POST", path="/", body=b"text", is_repeatable=True)


def test_a_service_of_another_tenant_is_not_open_to_who_sends() -> None:
    """Whoever may use the broker is trusted with the tenant that his message names, and with no more."""
    services = (replace(WEB, tenant="blue", shared=False),)

    with pytest.raises(NotAdmitted, match="web is of tenant blue and not open to tenant default"):
        request_of({"service": "web"}, services, tenant="", key="")
    assert request_of({"service": "web"}, services, tenant="blue", key="").tenant == "blue"


def test_a_service_that_sheds_does_so_here_too() -> None:
    """After as many targets as it says."""
    services = (replace(WEB, shed_after_targets=3.0),)

    assert request_of({"service": "web"}, services, tenant="blue", key="").patience_s == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ({"servce": "web"}, "'servce' is no member.*mean 'service'"),
        ({"service": "webb"}, "service is 'webb', no LC service.*mean 'web'.*there are: chat, web"),
        ({"service": "batch"}, "service is 'batch', no LC service"),
        ({"service": 3}, "service is 3, no LC service"),
        ({"method": "BREW"}, "method is 'BREW', expected one of GET"),
        ({"path": "v1"}, "path is 'v1', expected printable ASCII that begins with /"),
        ({"path": "/ü"}, "path is '/ü'"),
        ({"path": "/a b"}, "path is '/a b'"),
        ({"path": 7}, "path is 7, expected a text"),
        ({"headers": ["a"]}, "headers is .'a'., expected an object of texts"),
        ({"headers": {"A": 1}}, "header 'A' is 1, expected"),
        ({"headers": {"A": "x\r\nB: y"}}, "header 'A' is"),
        ({"headers": {"A B": "x"}}, "header 'A B' is"),
        ({"body_base64": "***"}, "body_base64 is no base64"),
        ({"body": "a", "body_base64": "YQ=="}, "both given"),
        ({"target_ms": 0}, "target_ms is 0, expected milliseconds above 0"),
        ({"timeout_ms": "100"}, "timeout_ms is '100', expected milliseconds"),
        ({"target_ms": True}, "target_ms is True"),
        ({"repeat": "yes"}, "repeat is 'yes', expected true or false"),
        ({"body": "x" * LARGEST_ORDER_BYTES}, "bytes as JSON, expected 65536 at most; send larger ones to the cluster's gateway"),
    ],
)
def test_what_means_nothing_is_refused(order: dict[str, Any], told: str) -> None:
    """With the member, what was found and what was expected."""
    with pytest.raises(RequestRejected, match=told):
        request(**order)


def test_the_members_are_those_that_are_read() -> None:
    """Each name of `ORDER` is of use."""
    given = {
        "service": "web",
        "path": "/x",
        "method": "GET",
        "headers": {"A": "b"},
        "body": "c",
        "target_ms": 7,
        "timeout_ms": 8,
        "repeat": False,
    }

    assert set(given) | {"body_base64"} == set(ORDER)
    plain = request_of({"service": "web"}, SERVICES, tenant="", key="")
    for name in given:
        if name != "service":
            assert request_of({"service": "web", name: given[name]}, SERVICES, tenant="", key="") != plain or name == "repeat"
