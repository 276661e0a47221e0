"""The Python client against a gateway."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trustme

from tango.client import AnswerCut, Busy, ClientError, Refused, Tango, TimedOut, Unreachable
from tango.domain.calls import Call
from tango.domain.requests import RequestState
from tango.gateway.server import callers_runner, listen, tls_context
from tests.fakes.gateway_rig import TOKEN, Rig, Served, gateway_rig
from tests.waiting import eventually

T = TypeVar("T")


async def asked(rig: Rig, ask: Callable[[Tango], T]) -> T:
    """Ask in a thread, for the gateway runs in this one."""
    with Tango(rig.url, token=TOKEN) as tango:
        return await asyncio.to_thread(ask, tango)


async def test_a_request_brings_the_answer_of_the_service(tmp_path: Path) -> None:
    """POST with a body and GET without; whatever its status, it is an answer."""
    served = Served(status=404, headers=[("Content-Type", "application/json")], parts=[b'{"a": 1}'])
    async with gateway_rig(tmp_path, lambda _: served) as rig:
        first = await asked(
            rig, lambda t: t.request("web", "/v1/x?q=1", body="é", headers={"X-A": "1"}, timeout_s=5.0, target_s=0.2)
        )
        await asked(rig, lambda t: t.request("web", timeout_s=5.0, method="PUT", may_repeat=False))

        assert (first.status, first.is_ok, first.json(), first.request) == (404, False, {"a": 1}, "7-0")
        assert [(c.method, c.path, c.body, c.is_repeatable) for c in rig.served] == [
            ("POST", "/v1/x?q=1", "é".encode(), False),
            ("PUT", "/", b"", False),
        ]
        sent = rig.journal.sent(rig.journal.keys[0])
        assert (sent.target_s, sent.patience_s) == (0.2, 5.0)


async def test_an_answer_can_be_read_as_it_comes(tmp_path: Path) -> None:
    """Who stops reading cancels the rest."""
    async with gateway_rig(tmp_path, lambda _: Served(parts=[b"a"] * 20, pause_s=0.1)) as rig:

        def first_part(tango: Tango) -> bytes:
            with tango.stream("web", timeout_s=10.0) as answer:
                return next(answer.parts())

        assert await asked(rig, first_part) == b"a"
        await eventually(lambda: rig.state(rig.journal.keys[0])[1] == "caller-gone")


async def test_what_is_sent_without_waiting_is_found_later(tmp_path: Path) -> None:
    """State and answer by its id."""
    async with gateway_rig(tmp_path, lambda _: None) as rig:
        request = await asked(rig, lambda t: t.send("web", "/x", body=b"b", key="k"))
        again = await asked(rig, lambda t: t.send("web", "/x", body=b"b", key="k"))
        before = await asked(rig, lambda t: t.answer(request))
        state = await asked(rig, lambda t: t.state(request))
        withdrawn = await asked(rig, lambda t: (t.withdraw(request), t.withdraw(request)))

        assert request == again == "7-0"
        assert before is None
        assert state["state"] in ("released", "running")
        assert withdrawn == (True, False)
        with pytest.raises(Exception, match="was cancelled before it was answered"):
            await asked(rig, lambda t: t.answer(request))


async def test_problems_are_errors_of_their_kinds(tmp_path: Path) -> None:
    """Refused, timed out, busy, cut, unreachable: each with its own type and what the gateway says."""

    def serve(call: Call) -> Served | None:
        if call.path == "/cut":
            return Served(parts=[b"x"] * 3, pause_s=0.05, is_cut=True)
        if call.path == "/shed":
            return Served(ends_as=RequestState.SHED, reason="target-unreachable")
        return None

    async with gateway_rig(tmp_path, serve) as rig:
        with pytest.raises(Refused, match="did you mean 'web'") as refused:
            await asked(rig, lambda t: t.request("webb"))
        with pytest.raises(TimedOut) as timed_out:
            await asked(rig, lambda t: t.request("web", timeout_s=0.1))
        with pytest.raises(Busy) as busy:
            await asked(rig, lambda t: t.request("web", "/shed", timeout_s=5.0))
        with pytest.raises(AnswerCut):
            await asked(rig, lambda t: t.request("web", "/cut", timeout_s=5.0))

        assert (refused.value.status, refused.value.word) == (404, "unknown-service")
        assert timed_out.value.request == "7-0"
        assert (busy.value.word, busy.value.retry_after_s) == ("shed", 1.0)


async def test_something_else_that_answers_is_no_gateway(tmp_path: Path) -> None:
    """A page of somebody else's where JSON is expected: an error of the client's tree too."""
    async with gateway_rig(tmp_path) as rig:
        with pytest.raises(Unreachable, match="is no gateway: status 200, and no JSON"):
            await asked(rig, lambda t: t.asked("GET", "/s/web/"))


async def test_a_call_that_was_turned_away_is_made_again(tmp_path: Path) -> None:
    """After the time that the gateway names, and only while there is time."""
    async with gateway_rig(tmp_path) as rig:
        rig.journal.is_open = False
        asyncio.get_running_loop().call_later(0.5, setattr, rig.journal, "is_open", True)
        answer = await asked(rig, lambda t: t.request("web", body=b"x", timeout_s=10.0))
        rig.journal.is_open = False
        with pytest.raises(Busy):
            await asked(rig, lambda t: t.request("web", body=b"x", timeout_s=0.5))

        assert answer.body == b"served"
        assert len(rig.served) == 1


@pytest.mark.parametrize(("method", "key", "tries"), [("GET", None, 3), ("POST", None, 1), ("POST", "k", 3)])
def test_a_connection_that_breaks_is_tried_again_only_where_that_is_safe(method: str, key: str | None, tries: int) -> None:
    """A POST may have been served: without a key it is the caller's to decide."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as pool:
        server.settimeout(3.0)

        def hang_up() -> int:
            count = 0
            try:
                while True:
                    connection, _ = server.accept()
                    connection.recv(1000)
                    connection.close()
                    count += 1
                    server.settimeout(1.0)
            except TimeoutError:
                return count

        counting = pool.submit(hang_up)
        with Tango(f"http://127.0.0.1:{server.getsockname()[1]}", token="t") as tango, pytest.raises(Unreachable) as error:
            tango.request("web", method=method, key=key)

        assert error.value.was_sent
        assert counting.result() == tries


def test_where_nobody_listens_it_says_so() -> None:
    """The address, and that nothing was sent."""
    with Tango("http://127.0.0.1:1", token="t") as tango, pytest.raises(Unreachable, match="no gateway answers at") as error:
        tango.request("web", body=b"x")

    assert not error.value.was_sent


def test_address_and_token_come_from_the_environment_or_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`eval "$(tango env)"` is enough."""
    for name in [name for name in os.environ if name.startswith("TANGO_")]:
        monkeypatch.delenv(name)
    with pytest.raises(ClientError, match="TANGO_GATEWAY_URL"):
        Tango()
    with pytest.raises(ClientError, match="TANGO_TOKEN"):
        Tango("http://localhost:1")
    monkeypatch.setenv("TANGO_GATEWAY_URL", "http://localhost:1/")
    monkeypatch.setenv("TANGO_TOKEN", "t")

    assert Tango().url == "http://localhost:1"


@pytest.mark.parametrize("args", ["abc", b"abc", 7, ["a", 1], {"a": "b"}])
def test_arguments_are_a_list_of_texts(args: Any) -> None:
    """A text alone would be a job with a letter for each argument; nothing is sent, so that nobody need listen."""
    with Tango("http://127.0.0.1:1", token="t") as tango:
        for submit in (
            lambda: tango.submit("count", args=args),
            lambda: tango.submit("count", command=args),
            lambda: next(tango.map("count", [args])),
        ):
            with pytest.raises(ClientError, match=r"^(args|command)(\[1\])? is .*, expected a (list of texts|text)"):
                submit()


@pytest.mark.parametrize(
    ("url", "token", "told"),
    [
        ("http://h:1?a=b", "t", "the gateway's address is 'http://h:1"),
        ("http://h:1#a", "t", "the gateway's address is"),
        ("http://h:99999", "t", "the gateway's address is"),
        ("http://", "t", "the gateway's address is"),
        ("http://me:hidden@h:1", "t", r"the gateway's address is 'http://\.\.\.@h:1'"),
        ("http://h:1", "hidden\n", "the token has other characters than"),
        ("http://h:1", "hiddenł", "the token has other characters than"),
    ],
)
def test_an_address_or_token_that_cannot_be_is_refused_at_once(url: str, token: str, told: str) -> None:
    """As errors of the client's own tree, which show no secret."""
    with pytest.raises(ClientError, match=told) as refused:
        Tango(url, token=token)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_refused_at_once(tmp_path: Path, content: str | None) -> None:
    """Not when the first request fails."""
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ClientError, match=r"ca.pem' cannot be used: .*expected certificates as PEM"):
        Tango("https://h:1", token="t", ca_file=str(tmp_path / "ca.pem"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"headers": {"X-A": "hidden\nX-B: 1"}}, "the value of header X-A cannot be sent"),
        ({"headers": {"X-A": "hidden\u20ac"}}, "the value of header X-A cannot be sent"),
        ({"headers": {"X A": "hidden"}}, "a header is called 'X A'"),
        ({"key": "hidden\r\n"}, "the value of header Tango-Key cannot be sent"),
        ({"method": "GE T"}, "cannot be sent"),
        ({"body": {"a": "hidden"}}, "the body is a dict, expected bytes or a text"),
        ({"body": "\ud800"}, "the body has no UTF-8"),
        ({"timeout_s": float("inf")}, "timeout_s is inf, expected a number of seconds"),
        ({"timeout_s": 10**400}, "timeout_s is 1000000000.*, expected a number of seconds"),
        ({"target_s": "1"}, "target_s is '1', expected a number of seconds"),
    ],
)
def test_what_http_cannot_carry_is_an_error_of_the_client(options: dict[str, Any], told: str) -> None:
    """And of its one tree; no value is shown, since headers have secrets."""
    with Tango("http://127.0.0.1:1", token="t") as tango, pytest.raises(ClientError, match=told) as refused:
        tango.request("web", **options)
    assert type(refused.value) is ClientError
    assert "hidden" not in str(refused.value)


async def test_a_gateway_with_tls_is_reached_by_the_authority_that_is_named(tmp_path: Path) -> None:
    """And by no other: a token is not sent to whoever answers."""
    authority, stranger = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    async with gateway_rig(tmp_path) as rig:
        runner = callers_runner(rig.gateway)
        port = await listen(runner, host="localhost", port=0, tls=tls_context(certificate, key))

        def ask(ca_file: str) -> bytes:
            with Tango(f"https://localhost:{port}", token=TOKEN, ca_file=str(tmp_path / ca_file), retries=0) as tango:
                return tango.request("web", timeout_s=5.0).body

        known = await asyncio.to_thread(ask, "ca.pem")
        with pytest.raises(Unreachable, match="certificate"):
            await asyncio.to_thread(ask, "other.pem")
        await runner.cleanup()

        assert known == b"served"
        assert len(rig.served) == 1


async def test_threads_share_one_client(tmp_path: Path) -> None:
    """Each gets its own answer."""
    async with gateway_rig(tmp_path, lambda call: Served(parts=[call.body])) as rig:

        def many(tango: Tango) -> list[bytes]:
            with ThreadPoolExecutor(8) as pool:
                return list(pool.map(lambda k: tango.request("web", body=b"%d" % k, timeout_s=10.0).body, range(100)))

        assert await asked(rig, many) == [b"%d" % k for k in range(100)]
