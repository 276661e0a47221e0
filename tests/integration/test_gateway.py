"""A gateway over real sockets, before a journal in memory: what callers get, whatever they send and however they are served."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from tango.domain.calls import Call
from tango.domain.identity import RequestKey
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.domain.tokens import KnownToken, digest_of
from tango.gateway import intake
from tango.settings import CallSettings, GatewaySettings
from tests.fakes.caller_requests import RUN
from tests.fakes.gateway_rig import BLUE, JOBS_ONLY, TOKEN, Served, gateway_rig
from tests.fakes.store_world import BATCH, CHAT, WEB, instance_of
from tests.waiting import WITHIN_S, eventually

SLOW = {"Tango-Timeout-Ms": "20000"}
"""Headers of a caller who waits as long as a test takes."""
PATIENT = {"Tango-Timeout-Ms": "3600000"}
FIRST = RequestKey(RUN, 0)


# ---- what an instance gets, and what its caller


async def test_the_instance_gets_the_request_and_the_caller_its_answer(tmp_path: Path) -> None:
    """Method, path, query and body as they were sent; status, headers and body as they were answered, with the request's id."""

    def serve(_: Call) -> Served:
        headers = [
            ("Content-Type", "image/png"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
        ]
        return Served(status=418, headers=headers, parts=[b"tea", b"pot"], length=6)

    async with gateway_rig(tmp_path, serve) as rig:
        sent = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": "image/jpeg",
            "X-Trace": "t",
            "Cookie": "c",
            "Connection": "X-Drop",
        }
        url = rig.url + "/s/web/v1/detect?q=a%20b&q="
        async with rig.session.request("PATCH", url, headers={**sent, "X-Drop": "1"}, data=b"\x00\xff") as response:
            body = await response.read()
            found = response.headers

        (call,) = rig.served
        assert (call.method, call.path, call.body) == ("PATCH", "/v1/detect?q=a%20b&q=", b"\x00\xff")
        sent_on = {name.lower(): value for name, value in call.headers}
        own_of_proxies = {"x-forwarded-host", "x-forwarded-proto", "x-forwarded-for"}
        assert set(sent_on) - own_of_proxies == {"content-type", "x-trace", "accept", "accept-encoding", "user-agent"}
        assert [sent_on[name] for name in sorted(own_of_proxies)] == ["127.0.0.1", f"127.0.0.1:{rig.port}", "http"]
        assert (response.status, body) == (418, b"teapot")
        assert found.getall("Set-Cookie") == ["a=1", "b=2"]
        assert (found["Content-Type"], found["Content-Length"], found["Tango-Request"]) == ("image/png", "6", f"{RUN}-0")
        assert "X-Hop" not in found
        await eventually(lambda: rig.state(FIRST) == ("succeeded", ""))
        assert rig.worker.said == [204]


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/s/web/%7Edetect/../x?q=%C3%A9;[1]", "/%7Edetect/../x?q=%C3%A9;[1]"),
        ("/s/web", "/"),
        ("/s/web?q", "/?q"),
        ("http://edge-1/s/web//a", "//a"),
    ],
)
async def test_a_path_is_the_instance_s_to_read(tmp_path: Path, target: str, path: str) -> None:
    """Percent-encoding, dots and slashes go on as they were sent; without a path it is the root."""
    async with gateway_rig(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nTango-Token: {TOKEN}\r\n\r\n".encode())
        first = await asyncio.wait_for(reader.readline(), WITHIN_S)
        writer.close()

        assert first == b"HTTP/1.1 200 OK\r\n"
        assert [call.path for call in rig.served] == [path]


@pytest.mark.parametrize(
    ("method", "headers", "repeatable"),
    [
        ("GET", {}, True),
        ("PUT", {}, True),
        ("POST", {}, False),
        ("POST", {"Tango-Repeat": "yes"}, True),
        ("GET", {"Tango-Repeat": "no"}, False),
    ],
)
async def test_what_may_be_repeated_is_said_by_the_method_or_the_caller(
    tmp_path: Path, method: str, headers: dict[str, str], repeatable: bool
) -> None:
    """RFC 9110, section 9.2.2, unless the caller knows better."""
    async with gateway_rig(tmp_path) as rig:
        status, _, _ = await rig.call(method, "/s/web/", headers=headers)

        assert status == 200
        assert [call.is_repeatable for call in rig.served] == [repeatable]


async def test_targets_and_patience_are_the_caller_s_or_the_service_s(tmp_path: Path) -> None:
    """Of one who waits: his own, else so many targets as the service or the settings say. Of one who does not wait: none."""
    async with gateway_rig(tmp_path, calls=CallSettings(give_up_after_targets=3.0)) as rig:
        for headers in ({}, {"Tango-Target-Ms": "50"}, {"Tango-Timeout-Ms": "1500.5"}, {"Prefer": "respond-async"}):
            await rig.call("GET", "/s/web/", headers=headers)

        found = [(s.target_s, s.patience_s, s.answer_to is not None) for s in map(rig.journal.sent, rig.journal.keys)]
        assert found == [
            pytest.approx((0.1, 0.3, True)),
            pytest.approx((0.05, 0.15, True)),
            pytest.approx((0.1, 1.5005, True)),
            (0.1, float("inf"), False),
        ]


async def test_an_answer_is_passed_on_as_it_comes(tmp_path: Path) -> None:
    """The first part is with the caller before the others are made."""
    parts = [b"a" * 1000, b"b" * 1000, b"c" * 1000]
    goes_on = asyncio.Event()
    async with gateway_rig(tmp_path, lambda _: Served(parts=parts, goes_on=goes_on)) as rig:
        headers = {"Authorization": f"Bearer {TOKEN}", **SLOW}
        async with rig.session.get(rig.url + "/s/web/stream", headers=headers) as response:
            first = await asyncio.wait_for(response.content.readany(), WITHIN_S)
            goes_on.set()
            rest = await response.read()

        assert (first, rest) == (parts[0], parts[1] + parts[2])
        assert response.headers["Transfer-Encoding"] == "chunked"


async def test_an_answer_without_a_type_stays_without_one(tmp_path: Path) -> None:
    """In one piece, and in parts."""
    untyped: list[tuple[str, str]] = [("X-A", "1")]
    answers = iter([Served(headers=untyped, length=6), Served(headers=untyped, parts=[b"a", b"b"])])
    async with gateway_rig(tmp_path, lambda _: next(answers)) as rig:
        found = [(await rig.call("GET", "/s/web/", headers=SLOW))[1] for _ in range(2)]

        assert [headers.get("X-A") for headers in found] == ["1", "1"]
        assert not any("Content-Type" in headers for headers in found)


async def test_a_service_without_a_ready_instance_is_503_at_once(tmp_path: Path) -> None:
    """Nothing is kept of it; whoever does not wait is accepted all the same."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        rig.journal.observe([], [])
        await eventually(lambda: not rig.gateway.view.ready["web"])
        status, word, detail = await rig.problem("GET", "/s/web/", headers=SLOW)
        later = await rig.call("GET", "/s/web/", headers={"Prefer": "respond-async"})

        assert (status, word) == (503, "no-instance")
        assert "tango service show web" in detail
        assert later[0] == 202
        assert len(rig.journal.keys) == 1


async def test_what_came_a_moment_ago_is_known_to_the_next_caller(tmp_path: Path) -> None:
    """An instance, a token, a service: whoever is told that it is there finds it so, however rarely the gateway looks by itself."""
    settings = GatewaySettings(access_log=False, view_every_s=3600.0, view_idle_s=3600.0)
    async with gateway_rig(tmp_path, services=(WEB,), settings=settings) as rig:
        rig.journal.observe([], [])
        unknown = await rig.problem("GET", "/s/web/", token="tango_new")
        none_ready = await rig.problem("GET", "/s/web/", headers=SLOW)
        rig.journal.observe([], [instance_of(WEB, "c1-n1")])
        ready = await rig.call("GET", "/s/web/", headers=SLOW)
        both = frozenset(ServiceClass)
        rig.journal.admit([KnownToken(digest=digest_of(token), tenant="default", allows=both) for token in (TOKEN, "tango_new")])
        known = await rig.call("GET", "/services", token="tango_new")
        rig.journal.declare(WEB, CHAT)
        rig.journal.observe([], [instance_of(CHAT, "c1-n1")])
        served = await rig.call("GET", "/s/chat/", headers=SLOW)

        assert (unknown[:2], none_ready[:2]) == ((401, "unauthorized"), (503, "no-instance"))
        assert [status for status, _, _ in (ready, known, served)] == [200, 200, 200]


async def test_an_answer_to_head_has_a_length_and_no_body(tmp_path: Path) -> None:
    """As the instance says it."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[], length=1234)) as rig:
        status, headers, body = await rig.call("HEAD", "/s/web/")

        assert (status, headers["Content-Length"], body) == (200, "1234", b"")


async def test_a_compressed_body_is_passed_on_as_it_was_sent(tmp_path: Path) -> None:
    """A small one that grows to gigabytes does not grow in the gateway."""
    import gzip

    body = gzip.compress(b"0" * 100_000)
    async with gateway_rig(tmp_path) as rig:
        await rig.call("POST", "/s/web/", headers={"Content-Encoding": "gzip"}, data=body)

        assert rig.served[0].body == body
        assert ("Content-Encoding", "gzip") in rig.served[0].headers


# ---- who may


@pytest.mark.parametrize(
    ("token", "headers", "word"),
    [
        (None, {}, "no token was sent"),
        ("tango_wrong", {}, "not known here, or was revoked"),
        (None, {"Authorization": "Basic dTpw"}, "found the scheme 'Basic', expected Bearer"),
        (None, {"Tango-Token": "tango_wrong"}, "not known here, or was revoked"),
    ],
)
async def test_nobody_gets_in_without_a_valid_token(tmp_path: Path, token: str | None, headers: dict[str, str], word: str) -> None:
    """401 with what is missing; nothing is kept."""
    async with gateway_rig(tmp_path) as rig:
        for path in ("/s/web/", "/requests/7-0", "/requests/7-0/answer", "/services"):
            status, problem, detail = await rig.problem("GET", path, token=token, headers=headers)

            assert (status, problem) == (401, "unauthorized")
            assert word in detail
        assert rig.journal.keys == []


async def test_a_token_that_is_revoked_is_out_within_moments(tmp_path: Path) -> None:
    """As soon as the journal says so."""
    async with gateway_rig(tmp_path, settings=GatewaySettings(access_log=False, view_every_s=0.02)) as rig:
        before, _, _ = await rig.call("GET", "/s/web/")
        rig.journal.admit([])
        await asyncio.sleep(0.2)
        after, _, _ = await rig.call("GET", "/s/web/")

        assert (before, after) == (200, 401)


async def test_a_token_for_jobs_sends_no_request(tmp_path: Path) -> None:
    """403, and how to make one that does."""
    async with gateway_rig(tmp_path) as rig:
        status, word, detail = await rig.problem("GET", "/s/web/", token=JOBS_ONLY)

        assert (status, word) == (403, "not-allowed")
        assert "--class lc" in detail


async def test_a_token_in_a_header_of_its_own_leaves_authorization_to_the_service(tmp_path: Path) -> None:
    """It may even be kept, where the operator has named it."""
    settings = GatewaySettings(access_log=False, kept_headers="authorization")
    async with gateway_rig(tmp_path, settings=settings) as rig:
        await rig.call("GET", "/s/web/", token="of-the-service", headers={"Tango-Token": TOKEN})
        await rig.call("GET", "/s/web/")

        assert [call.headers for call in rig.served] == [(("Authorization", "Bearer of-the-service"),), ()]


async def test_a_service_of_another_tenant_is_refused_by_name_until_it_is_opened(tmp_path: Path) -> None:
    """403 that says whose it is and what would open it, and nothing is kept; who is not admitted does not find it in the list either. What
    its declaration allows, or a shared one, is served, and is the caller's tenant's."""
    mine, theirs = replace(WEB, tenant="blue", shared=False), replace(CHAT, tenant="blue")
    async with gateway_rig(tmp_path, services=(mine, theirs, BATCH)) as rig:
        status, word, detail = await rig.problem("GET", "/s/web/")
        _, _, listed = await rig.call("GET", "/services")
        own, _, _ = await rig.call("GET", "/s/web/", token=BLUE)
        shared, headers, _ = await rig.call("GET", "/s/chat/")
        rig.journal.declare(replace(mine, allowed_tenants=("default",)), theirs)
        opened, _, _ = await rig.call("GET", "/s/web/")

        assert (status, word) == (403, "not-your-service")
        assert "web is of tenant blue and not open to tenant default" in detail
        assert [(s["service"], s["tenant"]) for s in json.loads(listed)] == [("chat", "blue")]
        assert (own, shared, opened, len(rig.served)) == (200, 200, 200, 3)
        assert rig.journal.standings([key := RequestKey.parsed(headers["Tango-Request"])])[key].tenant == "default"


# ---- bad input


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/s/caht/", "'caht' is no service (did you mean 'chat'?)"),
        ("/s/batch/", "'batch' is a best-effort service: send it a job"),
    ],
)
async def test_an_unknown_service_is_404_and_named(tmp_path: Path, path: str, found: str) -> None:
    """With the one that was perhaps meant."""
    async with gateway_rig(tmp_path) as rig:
        status, word, detail = await rig.problem("GET", path)

        assert (status, word) == (404, "unknown-service")
        assert found in detail


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/s/", 404, "not-found"),
        ("POST", "/services", 405, "no-such-method"),
        ("GET", "/requests/one", 404, "unknown-request"),
        ("GET", "/requests/7-99", 404, "unknown-request"),
        ("DELETE", "/requests/7-99", 404, "unknown-request"),
    ],
)
async def test_what_is_not_there_is_said_in_json(tmp_path: Path, method: str, path: str, status: int, word: str) -> None:
    """Programs read every answer of a gateway the same way."""
    async with gateway_rig(tmp_path) as rig:
        found = await rig.problem(method, path)

        assert found[:2] == (status, word)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("Tango-Target-Ms", "soon", "found 'soon', expected milliseconds as a decimal number"),
        ("Tango-Target-Ms", "0", "found '0', expected milliseconds as a decimal number, above 0"),
        ("Tango-Target-Ms", "nan", "found 'nan'"),
        ("Tango-Timeout-Ms", "-5", "found '-5'"),
        ("Tango-Timeout-Ms", "3600001", "at most 3600000"),
        ("Tango-Timeout-Ms", '{"ms": 5}', "found '{\"ms\": 5}'"),
        ("Tango-Repeat", "maybe", "expected yes or no"),
        ("Tango-Key", "a b", "printable ASCII"),
        ("Tango-Key", "k" * 201, "at most 200"),
        ("Tango-Timout-Ms", "5", "none of Tango's (did you mean 'Tango-timeout-ms'?)"),
    ],
)
async def test_a_header_without_meaning_is_400_and_named(tmp_path: Path, name: str, value: str, expected: str) -> None:
    """Header, what was found, what was expected; nothing is kept."""
    async with gateway_rig(tmp_path) as rig:
        status, word, detail = await rig.problem("GET", "/s/web/", headers={name: value})

        assert (status, word) == (400, "bad-header")
        assert name in detail
        assert expected.lower() in detail.lower()
        assert rig.journal.keys == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_that_is_too_large_is_413(tmp_path: Path, is_chunked: bool) -> None:
    """Whether its length is said or not; the limit is told."""
    body = b"x" * 3000

    async def parts() -> Any:
        yield body

    settings = GatewaySettings(access_log=False, body_kib=2)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        fits, _, _ = await rig.call("POST", "/s/web/", data=b"x" * 2048)
        status, word, detail = await rig.problem("POST", "/s/web/", data=parts() if is_chunked else body)

        assert fits == 200
        assert (status, word) == (413, "body-too-large")
        assert "at most 2 KiB" in detail
        assert len(rig.journal.keys) == 1


async def test_a_body_that_nobody_wants_is_not_sent(tmp_path: Path) -> None:
    """Who expects `100 Continue` gets it where the body is wanted, and the refusal at once where it is not."""
    async with gateway_rig(tmp_path) as rig:
        said = []
        for length, token in ((5, TOKEN), (5, "tango_wrong"), (1 << 30, TOKEN)):
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            head = f"POST /s/web/ HTTP/1.1\r\nHost: x\r\nTango-Token: {token}\r\nContent-Length: {length}\r\n"
            writer.write(f"{head}Expect: 100-continue\r\n\r\n".encode())
            first = await reader.readline()
            if b"100" in first:
                await reader.readline()
                writer.write(b"hello")
                first += await reader.readline()
            said.append(first)
            writer.close()

        assert said == [
            b"HTTP/1.1 100 Continue\r\nHTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 401 Unauthorized\r\n",
            b"HTTP/1.1 413 Request Entity Too Large\r\n",
        ]


@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 10_000 + b"\r\n\r\n", 431, "head-too-large"),
        (b"GET /" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "head-too-large"),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % k for k in range(200)) + b"\r\n",
            431,
            "head-too-large",
        ),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "bad-request"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "bad-request"),
    ],
)
async def test_what_is_no_request_is_a_problem_and_ends_the_connection(
    tmp_path: Path, sent: bytes, status: int, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Heads beyond the limits, TLS on a plain port, two lengths at once: answered like all else that is wrong, without what was sent."""
    async with gateway_rig(tmp_path) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(sent)
        said = await asyncio.wait_for(reader.read(), WITHIN_S)
        writer.close()

        head, _, body = said.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        assert first.split(" ")[1] == str(status)
        assert (headers["Tango-Problem"], headers["Content-Type"]) == (word, "application/problem+json")
        assert (headers["Server"], headers.get("Connection", "close")) == ("tango", "close")  # what answers HTTP/1.0 closes
        told = json.loads(body)
        assert (told["status"], told["type"]) == (status, f"urn:tango:problem:{word}")
        assert "xxx" not in said.decode()
        assert "Traceback" not in caplog.text
        assert (await rig.call("GET", "/s/web/"))[0] == 200


# ---- slow and gone callers


async def test_slow_clients_are_cut_and_their_places_are_others(tmp_path: Path) -> None:
    """While they have all connections others are told to come again, and soon they are served. Nothing of the slow ones is kept."""
    settings = GatewaySettings(access_log=False, max_connections=20, head_within_s=1.0)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        slow = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(20)]
        for _, writer in slow:
            writer.write(b"POST /s/web/ HTTP/1.1\r\nX-Slow: ")
        during = await rig.problem("GET", "/s/web/", headers=SLOW)
        ends = [await asyncio.wait_for(reader.read(), WITHIN_S) for reader, _ in slow]
        after, _, _ = await rig.call("GET", "/s/web/", headers=SLOW)

        assert during[:2] == (503, "overloaded")
        assert ends == [b""] * 20
        assert after == 200
        assert len(rig.journal.keys) == 1


async def test_a_head_that_does_not_come_ends_the_connection(tmp_path: Path) -> None:
    """A byte now and then is no request: the time is that of the whole head."""
    settings = GatewaySettings(access_log=False, head_within_s=0.3)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        for byte in b"GET /s/web/ HT":
            writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
            if reader.at_eof():
                break
        end = await asyncio.wait_for(reader.read(), WITHIN_S)

        assert end == b""


def test_a_head_that_lies_unread_is_no_caller_s_fault(tmp_path: Path) -> None:
    """It came in time, and the process had no time to read it until after. By the loop that gateways run on, which looks at its timers
    first."""

    async def late() -> bytes:
        settings = GatewaySettings(access_log=False, head_within_s=0.2)
        async with gateway_rig(tmp_path, settings=settings) as rig:
            with socket.create_connection(("127.0.0.1", rig.port)) as caller:
                await eventually(lambda: rig.connected)
                caller.sendall(
                    f"GET /s/web/ HTTP/1.1\r\nHost: x\r\nTango-Token: {TOKEN}\r\nTango-Timeout-Ms: 20000\r\n\r\n".encode()
                )
                time.sleep(0.5)  # nothing else is done meanwhile
                return await asyncio.to_thread(caller.recv, 15)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(late()) == b"HTTP/1.1 200 OK"


async def test_a_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    """However many bytes trickle in; the connection ends, and the memory is given back."""
    settings = GatewaySettings(access_log=False, body_within_s=0.3)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(f"POST /s/web/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100\r\n\r\n".encode())
        for _ in range(5):
            writer.write(b"x")
            await asyncio.sleep(0.05)
        said = await asyncio.wait_for(reader.read(), WITHIN_S)

        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"body-too-slow" in said
        assert rig.gateway.door._bytes == 0
        assert rig.gateway.door.inside == 0


async def test_a_caller_who_hangs_up_cancels_his_request(tmp_path: Path) -> None:
    """The worker that has it is told, and the row says why."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"first"] + [b"more"] * 50, pause_s=0.1)) as rig:
        headers = {"Authorization": f"Bearer {TOKEN}", **SLOW}
        async with rig.session.get(rig.url + "/s/web/", headers=headers) as response:
            await response.content.readany()
            response.close()

        await eventually(lambda: rig.state(FIRST) == ("cancelled", "caller-gone"))
        await eventually(lambda: len(rig.worker.said) == 1)
        assert rig.worker.said[0] in (0, 410)


async def test_a_caller_who_hangs_up_before_an_answer_began_cancels_his_request(tmp_path: Path) -> None:
    """Also one that no instance has answered yet."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        calling = asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW))
        await eventually(lambda: bool(rig.served))
        calling.cancel()

        await eventually(lambda: rig.state(FIRST) == ("cancelled", "caller-gone"))
        assert rig.gateway.door.inside == 0


# ---- services that fail


async def test_an_instance_that_never_answers_is_504_and_its_request_withdrawn(tmp_path: Path) -> None:
    """After the caller's own time, and what comes later finds nobody."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        began_s = time.monotonic()
        status, word, detail = await rig.problem("GET", "/s/web/", headers={"Tango-Timeout-Ms": "200"})
        waited_s = time.monotonic() - began_s

        assert (status, word) == (504, "timed-out")
        assert "7-0 was not answered within 0.2 s" in detail
        assert waited_s >= 0.2
        await eventually(lambda: rig.state(FIRST) == ("cancelled", "caller-timed-out"))
        assert (await rig.problem("GET", f"/requests/{FIRST}/answer"))[:2] == (504, "timed-out")
        assert await rig.worker.tell(rig.answer_to, FIRST, 1, Served()) == 404


@pytest.mark.parametrize(("length", "parts"), [(1000, [b"x" * 100]), (1 << 20, [b"x" * 1000]), (None, [b"x" * 100])])
async def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(
    tmp_path: Path, length: int | None, parts: list[bytes]
) -> None:
    """A problem while nothing has gone out, a connection that is cut after that."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=parts, length=length, is_cut=True, pause_s=0.1)) as rig:
        try:
            status, headers, body = await rig.call("GET", "/s/web/", headers=SLOW)
        except (aiohttp.ClientError, ConnectionError):
            return
        assert (status, headers["Tango-Problem"]) == (502, "service-failed")
        assert json.loads(body)["reason"] == "answer-cut"


async def test_an_answer_that_is_shorter_than_it_says_is_a_problem(tmp_path: Path) -> None:
    """Nothing has gone out yet, so that its caller can be told."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"x" * 100], length=1000)) as rig:
        status, word, detail = await rig.problem("GET", "/s/web/", headers=SLOW)

        assert (status, word) == (502, "service-failed")
        assert "broke off in the middle" in detail
        await eventually(lambda: rig.worker.said == [410])


@pytest.mark.parametrize("is_said", [True, False])
@pytest.mark.parametrize(
    ("state", "reason", "status", "word"),
    [
        (RequestState.FAILED, "instance-unreachable", 502, "service-failed"),
        (RequestState.FAILED, "timed-out", 504, "timed-out"),
        (RequestState.FAILED, "no-instance", 503, "shed"),
        (RequestState.SHED, "target-unreachable", 503, "shed"),
    ],
)
async def test_a_request_that_ends_in_vain_is_told_at_once(
    tmp_path: Path, state: RequestState, reason: str, status: int, word: str, is_said: bool
) -> None:
    """Whether its worker says so, or it is found in the journal: long before the caller's patience is over."""
    async with gateway_rig(tmp_path, lambda _: Served(ends_as=state, reason=reason, is_said=is_said)) as rig:
        began_s = time.monotonic()
        found = await rig.problem("GET", "/s/web/", headers=PATIENT)

        assert found[:2] == (status, word)
        assert time.monotonic() - began_s < WITHIN_S  # he would have waited an hour
        await eventually(lambda: rig.state(FIRST) == (str(state), reason))


async def test_an_answer_that_went_astray_is_given_as_it_was_kept(tmp_path: Path) -> None:
    """Its worker died between keeping and sending it."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"kept"], is_said=False)) as rig:
        status, headers, body = await rig.call("GET", "/s/web/", headers=SLOW)

        assert (status, headers["Tango-Request"], body) == (200, f"{RUN}-0", b"kept")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": "Bearer other", "Tango-Answer-Head": "{}"}, 401),
        ({"Tango-Answer-Head": "garbage"}, 400),
        ({"Tango-Answer-Head": '{"status": 99, "headers": []}'}, 400),
        ({"Tango-Answer-Head": '{"status": 200, "headers": [["A", "b\\r\\nC: d"]]}'}, 400),
        ({}, 400),
    ],
)
async def test_what_is_no_answer_of_a_worker_is_refused(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    """And the caller goes on waiting for one that is."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        calling = asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW))
        await eventually(lambda: bool(rig.served))
        connector = aiohttp.UnixConnector(rig.answer_to.address.removeprefix("unix:"))
        async with aiohttp.ClientSession(connector=connector) as session:
            sent = {"Authorization": f"Bearer {rig.answer_to.key}", **headers}
            async with session.post(f"http://gateway/answers/{FIRST}/1", data=b"x", headers=sent) as response:
                found = response.status
        later = await rig.worker.tell(rig.answer_to, FIRST, 1, Served())

        assert (found, later) == (status, 204)
        assert (await calling)[0] == 200


async def test_headers_that_are_held_are_given_to_workers_alone(tmp_path: Path) -> None:
    """While their caller waits, and to whoever has the key."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        calling = asyncio.create_task(rig.call("GET", "/s/web/", headers={**SLOW, "Cookie": "c"}))
        await eventually(lambda: bool(rig.served))
        url = f"http://gateway/calls/{FIRST}/headers"

        async def asked(key: str) -> tuple[int, str]:
            connector = aiohttp.UnixConnector(rig.answer_to.address.removeprefix("unix:"))
            sent = {"Authorization": f"Bearer {key}"}
            async with aiohttp.ClientSession(connector=connector) as session, session.get(url, headers=sent) as response:
                return response.status, await response.text()

        found = [await asked(rig.answer_to.key), await asked("other")]
        await rig.worker.tell(rig.answer_to, FIRST, 1, Served())
        await calling
        found.append(await asked(rig.answer_to.key))

        assert [call.has_held for call in rig.served] == [True]
        assert [status for status, _ in found] == [200, 401, 404]
        assert json.loads(found[0][1]) == [["Cookie", "c"]]


async def test_of_two_answers_the_first_counts(tmp_path: Path) -> None:
    """The other attempt's worker is told to stop."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        calling = asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW))
        await eventually(lambda: bool(rig.served))
        slow = asyncio.create_task(rig.worker.tell(rig.answer_to, FIRST, 1, Served(parts=[b"1"] * 5, pause_s=0.1)))
        await asyncio.sleep(0.1)
        second = await rig.worker.tell(rig.answer_to, FIRST, 2, Served(parts=[b"2"]))

        assert (await calling)[2] == b"11111"
        assert (await slow, second) == (204, 409)


# ---- many at once


@pytest.mark.long
async def test_ten_thousand_requests_at_once_are_served_or_told_to_come_again(tmp_path: Path) -> None:
    """Each of them gets an answer, no more than the limit are under way, and what is accepted is in few transactions."""
    settings = GatewaySettings(access_log=False, max_waiting=500, max_waiting_of_tenant=400)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        body = b'{"a": 1}'
        among = asyncio.Semaphore(900)

        async def one() -> tuple[int, dict[str, str]]:
            async with among:
                status, headers, _ = await rig.call("POST", "/s/web/", data=body, headers=SLOW)
                return status, headers

        found = await asyncio.gather(*(one() for _ in range(10_000)))

        statuses = [status for status, _ in found]
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) == len(rig.journal.keys)
        assert statuses.count(200) >= 400
        assert all("Retry-After" in headers for status, headers in found if status == 429)
        assert len(rig.journal.together) < len(rig.journal.keys) / 2
        assert max(rig.journal.together) <= settings.accept_limit
        assert rig.gateway.door.inside == 0


async def test_a_tenant_whose_places_are_taken_leaves_room_for_others(tmp_path: Path) -> None:
    """429 to one once he has waited at the door, 200 to the other."""
    settings = GatewaySettings(access_log=False, max_waiting=4, max_waiting_of_tenant=2, place_within_s=0.1)
    waits: list[bool] = [True]
    async with gateway_rig(tmp_path, lambda _: None if waits[0] else Served(), settings=settings) as rig:
        calling = [asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW)) for _ in range(2)]
        await eventually(lambda: len(rig.served) == 2)
        waits[0] = False
        own = await rig.problem("GET", "/s/web/", headers=SLOW)
        other, _, _ = await rig.call("GET", "/s/web/", token=BLUE)
        for task in calling:
            task.cancel()

        assert own[:2] == (429, "too-many-requests")
        assert other == 200


async def test_who_finds_no_place_waits_for_one(tmp_path: Path) -> None:
    """And is served when somebody else has been, with what is left of his patience."""
    settings = GatewaySettings(access_log=False, max_waiting=1, max_waiting_of_tenant=1)
    goes_on = asyncio.Event()
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"a", b"b"], goes_on=goes_on), settings=settings) as rig:
        first, second = (asyncio.create_task(rig.call("GET", f"/s/web/{k}", headers=SLOW)) for k in range(2))
        await eventually(lambda: rig.gateway.door.at_door == 1 and rig.served)  # the first may still be on its way to the instance
        before = len(rig.served)
        goes_on.set()
        found = [status for status, _, _ in await asyncio.gather(first, second)]

        assert (before, found) == (1, [200, 200])
        patiences = [rig.journal.sent(key).patience_s for key in rig.journal.keys]
        assert patiences[0] == 20.0 > patiences[1] > 0.0


async def test_of_too_many_connections_the_first_are_served_and_the_others_told_and_closed(tmp_path: Path) -> None:
    """Whoever came first stays; what is told to those who are too many stays with them, and their places are free again at once."""
    settings = GatewaySettings(access_log=False, max_connections=3)
    async with gateway_rig(tmp_path, settings=settings) as rig:
        connections = [await asyncio.open_connection("127.0.0.1", rig.port) for _ in range(6)]
        for _, writer in connections:
            writer.write(f"GET /s/web/ HTTP/1.1\r\nHost: x\r\nTango-Token: {TOKEN}\r\nTango-Timeout-Ms: 20000\r\n\r\n".encode())
        heads = [await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WITHIN_S) for reader, _ in connections]
        for reader, _ in connections[3:]:
            await asyncio.wait_for(reader.read(), WITHIN_S)  # to the end of the connection
        for _, writer in connections[:3]:
            writer.close()
        await eventually(lambda: not rig.connected)
        after, _, _ = await rig.call("GET", "/s/web/")

        assert [head.split(b" ")[1] for head in heads] == [b"200"] * 3 + [b"503"] * 3
        assert all(b"Tango-Problem: overloaded" in head and b"Retry-After: 1" in head for head in heads[3:])
        assert all(b"Connection: close" in head for head in heads[3:])
        assert after == 200


async def test_bodies_under_way_are_bounded_together(tmp_path: Path) -> None:
    """A thousand callers with a MiB each do not take a GiB."""
    settings = GatewaySettings(access_log=False, bodies_mib=1)
    async with gateway_rig(tmp_path, lambda _: None, settings=settings) as rig:
        calling = asyncio.create_task(rig.call("POST", "/s/web/", headers=SLOW, data=b"x" * 700_000))
        await eventually(lambda: bool(rig.served))
        found = await rig.problem("POST", "/s/web/", headers=SLOW, data=b"x" * 700_000)
        calling.cancel()

        assert found[:2] == (429, "too-many-requests")
        await eventually(lambda: rig.gateway.door._bytes == 0)


async def test_a_queue_that_is_hopeless_is_503_before_anybody_waits(tmp_path: Path) -> None:
    """Work that waits for the service's cores, beyond what the newcomer would wait: nothing of it is kept."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        calling = [asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW)) for _ in range(30)]
        await eventually(lambda: len(rig.served) == 30)
        status, headers, _ = await rig.call("GET", "/s/web/")
        for task in calling:
            task.cancel()

        assert (status, headers["Tango-Problem"]) == (503, "overloaded")
        assert int(headers["Retry-After"]) >= 1
        assert len(rig.journal.keys) == 30


# ---- what is away


async def test_without_an_open_run_it_is_503_with_a_time_to_try_again(tmp_path: Path) -> None:
    """The journal has noted meanwhile that one is wanted."""
    async with gateway_rig(tmp_path) as rig:
        rig.journal.is_open = False
        status, headers, _ = await rig.call("GET", "/s/web/")
        rig.journal.is_open = True
        after, _, _ = await rig.call("GET", "/s/web/")

        assert (status, headers["Tango-Problem"], headers["Retry-After"]) == (503, "not-open", "1")
        assert after == 200


async def test_without_the_journal_it_is_503_at_once_and_nothing_is_half_kept(tmp_path: Path) -> None:
    """And again well as soon as the journal is back."""
    async with gateway_rig(tmp_path) as rig:
        rig.journal.is_away = True
        status, word, _ = await rig.problem("POST", "/s/web/", data=b"x")
        rig.journal.is_away = False

        assert (status, word) == (503, "journal-away")
        assert rig.journal.keys == []
        assert (await rig.call("POST", "/s/web/", data=b"x"))[0] == 200


async def test_without_the_broker_who_waits_is_told_and_who_does_not_is_accepted(tmp_path: Path) -> None:
    """The message of what was accepted is sent once the broker is back."""
    async with gateway_rig(tmp_path) as rig:
        rig.worker.away = True
        first = await rig.problem("GET", "/s/web/")
        second = await rig.problem("GET", "/s/web/")
        later, _, _ = await rig.call("GET", "/s/web/", headers={"Prefer": "respond-async"})
        ready = (await rig.call("GET", "/readyz", token=None))[0]
        rig.worker.away = False
        await eventually(lambda: len(rig.served) == 1)
        await eventually(lambda: not rig.gateway.intake.is_broker_away)

        assert (first[1], second[1], later, ready) == ("timed-out", "broker-away", 202, 503)
        assert (await rig.call("GET", "/s/web/"))[0] == 200


async def test_before_the_services_are_known_it_is_503(tmp_path: Path) -> None:
    """A gateway may start before its cluster's agent has ever reached the centre."""
    async with gateway_rig(tmp_path, services=()) as rig:
        found = await rig.problem("GET", "/s/web/")
        ready = await rig.problem("GET", "/readyz", token=None)

        assert found[:2] == ready[:2] == (503, "journal-away")
        assert (await rig.call("GET", "/healthz", token=None))[0] == 200


# ---- without waiting


async def test_who_does_not_wait_finds_state_and_answer_later(tmp_path: Path) -> None:
    """202 with a place; 202 there while it runs, then the answer as it was."""
    served = Served(status=201, headers=[("X-Made", "yes")], parts=[b"made"])
    async with gateway_rig(tmp_path, lambda _: served) as rig:
        status, headers, body = await rig.call("POST", "/s/web/", headers={"Prefer": "respond-async, wait=5"}, data=b"x")
        where = headers["Location"]
        await eventually(lambda: rig.state(FIRST)[0] == "succeeded")
        _, _, state = await rig.call("GET", where)
        answer = await rig.call("GET", f"{where}/answer")

        assert (status, headers["Preference-Applied"]) == (202, "respond-async")
        assert json.loads(body) == {"request": "7-0", "location": where, "is_new": True}
        found = json.loads(state)
        assert (found["state"], found["service"], found["node"]) == ("succeeded", "web", "c1/c1-n1")
        assert found["answer"] == {"status": 201, "bytes": 4, "is_whole": True, "location": f"{where}/answer"}
        assert (answer[0], answer[1]["X-Made"], answer[2]) == (201, "yes", b"made")


@pytest.mark.parametrize(
    ("headers", "is_kept"), [({"Prefer": "respond-async"}, True), ({"Tango-Key": "k1"}, True), ({}, False)], ids=str
)
async def test_who_may_come_back_for_his_request_is_told_of_it_once_it_is_on_the_disk(
    tmp_path: Path, headers: dict[str, str], is_kept: bool
) -> None:
    """By nothing but its number, or by a key. Whoever waits for his answer does not wait for the disk."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"done"])) as rig:
        status, _, _ = await rig.call("POST", "/s/web/", headers={**SLOW, **headers}, data=b"x")

        assert status < 300
        assert rig.journal.on_disk == int(is_kept)


async def test_what_cannot_be_brought_to_the_disk_is_not_accepted(tmp_path: Path) -> None:
    """503, and nothing of it is served; under a key it may be sent again."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"done"])) as rig:
        rig.journal.is_disk_broken = True
        status, word, _ = await rig.problem("POST", "/s/web/", headers={"Prefer": "respond-async"}, data=b"x")
        await eventually(lambda: rig.state(FIRST)[0] == "cancelled")

        assert (status, word) == (503, "journal-away")
        assert rig.served == []


async def test_a_disk_that_hangs_is_not_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 to one who has only a number to come back with: he holds none of the gateway's places for it, and others are served."""
    monkeypatch.setattr(intake, "KEPT_WITHIN_S", 0.2)
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"done"])) as rig:
        rig.journal.disk.clear()
        try:
            status, word, _ = await rig.problem("POST", "/s/web/", headers={"Prefer": "respond-async"}, data=b"x")
            served = await rig.call("POST", "/s/web/", headers=SLOW, data=b"y")
        finally:
            rig.journal.disk.set()

        assert (status, word) == (503, "journal-away")
        assert served[0] == 200  # whoever waits for his answer does not wait for the disk


async def test_an_answer_that_is_not_there_yet_or_never_will_be_is_told_apart(tmp_path: Path) -> None:
    """202 with a time to ask again, or the problem in which the request ended."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        await rig.call("GET", "/s/web/", headers={"Prefer": "respond-async"})
        await eventually(lambda: bool(rig.served))
        before = await rig.call("GET", "/requests/7-0/answer")
        rig.journal.end(FIRST, RequestState.FAILED, "attempts-exhausted")
        after = await rig.problem("GET", "/requests/7-0/answer")

        assert (before[0], json.loads(before[2])["state"]) == (202, "running")
        assert after[:2] == (502, "service-failed")


async def test_the_same_key_twice_is_one_request(tmp_path: Path) -> None:
    """Whoever comes second gets the answer that was kept; who waits with him too."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"once"])) as rig:
        first, second = [await rig.call("POST", "/s/web/", headers={**SLOW, "Tango-Key": "k1"}) for _ in range(2)]
        other = await rig.call("POST", "/s/web/", token=BLUE, headers={**SLOW, "Tango-Key": "k1"})

        assert (first[2], second[2]) == (b"once", b"once")
        assert first[1]["Tango-Request"] == second[1]["Tango-Request"] != other[1]["Tango-Request"]
        assert len(rig.served) == 2


@pytest.mark.parametrize(
    ("method", "path", "data", "headers"),
    [
        ("POST", "/s/web/a", b"other", {}),
        ("PUT", "/s/web/a", b"body", {}),
        ("POST", "/s/web/a?q=1", b"body", {}),
        ("POST", "/s/chat/a", b"body", {}),
        ("POST", "/s/web/a", b"other", {"Prefer": "respond-async"}),
    ],
)
async def test_a_key_of_another_request_is_409_and_nothing_is_kept(
    tmp_path: Path, method: str, path: str, data: bytes, headers: dict[str, str]
) -> None:
    """With other content it is not that one, so that its answer would be wrong; what stands in headers alone does not make it another."""
    async with gateway_rig(tmp_path) as rig:
        key = {**SLOW, "Tango-Key": "k1"}
        first = await rig.call("POST", "/s/web/a", headers={**key, "X-Trace": "1"}, data=b"body")
        again = await rig.call("POST", "/s/web/a", headers={**key, "X-Trace": "2"}, data=b"body")
        status, word, detail = await rig.problem(method, path, headers={**key, **headers}, data=data)

        assert (first[0], again[0], again[1]["Tango-Request"]) == (200, 200, str(FIRST))
        assert (status, word) == (409, "key-taken")
        assert f"key 'k1' is taken by request {FIRST}, which has another service, method, path or body" in detail
        assert rig.journal.keys == [FIRST]
        await eventually(lambda: rig.gateway.door.inside == 0)


async def test_a_request_is_withdrawn_by_its_caller_alone(tmp_path: Path) -> None:
    """To another tenant it does not exist."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        await rig.call("GET", "/s/web/", headers={"Prefer": "respond-async"})
        await eventually(lambda: bool(rig.served))
        other = [await rig.problem(method, "/requests/7-0", token=BLUE) for method in ("GET", "DELETE")]
        own = await rig.call("DELETE", "/requests/7-0")
        again = await rig.call("DELETE", "/requests/7-0")

        assert [status for status, _, _ in other] == [404, 404]
        assert json.loads(own[2]) == {"request": "7-0", "state": "cancelled", "withdrawn": True}
        assert json.loads(again[2])["withdrawn"] is False
        assert rig.state(FIRST) == ("cancelled", "cancelled-by-user")


async def test_services_are_listed_with_what_is_ready(tmp_path: Path) -> None:
    """Of LC; jobs have their own."""
    async with gateway_rig(tmp_path) as rig:
        _, _, body = await rig.call("GET", "/services")

        assert [(s["service"], s["target_ms"], s["ready_instances"]) for s in json.loads(body)] == [
            ("web", 100.0, 1),
            ("chat", 400.0, 1),
        ]


# ---- stopping


async def test_a_gateway_that_stops_answers_who_waits_and_takes_nobody_new(tmp_path: Path) -> None:
    """The new one is told to come again, elsewhere perhaps."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"a", b"b"], pause_s=0.3)) as rig:
        calling = asyncio.create_task(rig.call("GET", "/s/web/", headers=SLOW))
        await eventually(lambda: bool(rig.served))
        draining = asyncio.create_task(rig.gateway.drain())
        await asyncio.sleep(0)
        new = await rig.problem("GET", "/s/web/")
        await draining

        assert new[:2] == (503, "overloaded")
        assert (await calling)[2] == b"ab"


async def test_the_log_has_no_query_token_or_body(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One line a request: what, how long, for whom, with which outcome."""
    caplog.set_level(logging.INFO)
    async with gateway_rig(tmp_path, settings=GatewaySettings()) as rig:
        await rig.call("POST", "/s/web/path?secret=1", data=b"hidden")

    said = "".join(capsys.readouterr()) + caplog.text  # which one, and in which form, is as the process has set logging up
    line = next(line for line in said.splitlines() if "request" in line and "POST" in line)
    assert all(part in line for part in ("POST", "web", "200", "default", "7-0"))
    assert not any(part in said for part in ("secret", "hidden", TOKEN))
