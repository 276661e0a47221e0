"""`Tango`: one gateway, as a program sees it."""

from __future__ import annotations

import json
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import ConnectTimeoutError, HTTPError, LocationParseError, NewConnectionError
from urllib3.util import parse_url

from tango.client.answers import Answer, Streamed
from tango.client.errors import NOT_BEGUN, AnswerCut, Busy, CallFailed, ClientError, Unreachable, failure
from tango.client.jobs import Job, jobs_as_they_finish
from tango.client.methods import IDEMPOTENT

MARGIN_S = 2.0
"""Seconds that are waited for the gateway to say itself that the time is over."""
NO_TIMEOUT_S = 600.0
"""Seconds that an answer is waited for where nobody says how long; the gateway gives up far sooner."""
MOST_SECONDS = 1e9
"""Longest time that may be asked for: thirty years, which a header can say."""
AGAIN_S = 0.1
"""Seconds before the first try after one that failed without a word of when; doubled each time, less a random part up to half."""
_TOKEN = re.compile(r"[!-~]+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~\x80-\xff]*")
"""What may stand in a header (RFC 9110, section 5); a value's letters are those of Latin-1."""


class Tango:
    """A gateway, with a pool of connections. Any number of threads may use it at once.

    A call is sent again, at most `retries` times, where nothing can have come of it: no connection was made, or the gateway said that it
    has kept nothing (`Busy`). Where a connection breaks it is sent again only by a method that is idempotent, or with a `key`, by which the
    gateway knows a request that it has already.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        ca_file: str | None = None,
        connect_timeout_s: float = 3.0,
        retries: int = 2,
        connections: int = 32,
    ) -> None:
        """`url` and `token` come from TANGO_GATEWAY_URL and TANGO_TOKEN where they are not given; `ca_file` has the certificates, PEM,
        by which the gateway's is checked, where it is not one of the system's; `connections` are kept open. Raises: ClientError."""
        self.url = (url or os.environ.get("TANGO_GATEWAY_URL", "")).rstrip("/")
        token = token or os.environ.get("TANGO_TOKEN", "")
        if not _is_address(self.url):
            raise ClientError(
                f"the gateway's address is {_without_password(self.url)!r}, expected https://HOST:PORT; name it, or set TANGO_GATEWAY_URL"
            )
        if not token:
            raise ClientError("there is no token: name one, or set TANGO_TOKEN; `tango token create` makes one")
        if not _TOKEN.fullmatch(token):  # a secret, so it is not shown
            raise ClientError("the token has other characters than printable ASCII without spaces: give it as it was printed")
        if ca_file:
            _refuse_authorities(ca_file)
        self._headers = {"Authorization": f"Bearer {token}", "User-Agent": "tango-client"}
        self._connect_timeout_s, self._retries = connect_timeout_s, retries
        verification: dict[str, Any] = {"ca_certs": ca_file} if ca_file else {}
        # Retries are this module's: urllib3 knows neither keys nor what a gateway says of a request.
        self._pool = PoolManager(maxsize=connections, retries=False, **verification)

    def __enter__(self) -> Tango:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._pool.clear()

    def request(
        self,
        service: str,
        path: str = "/",
        *,
        method: str | None = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        target_s: float | None = None,
        may_repeat: bool | None = None,
        key: str | None = None,
    ) -> Answer:
        """Send a request to a service and wait for its answer.

        `method` is POST with a body and GET without one, unless it is named. `timeout_s` is how long the beginning of the answer is
        waited for, `target_s` when it is wanted, both as the service says where they are not given. `may_repeat`: another instance may
        get it after a first one failed with it. Raises: CallFailed, Unreachable, AnswerCut.
        """
        response = self._called(
            service, path, method, body, headers, _wishes(timeout_s, target_s, may_repeat, key), timeout_s=timeout_s, key=key
        )
        return _whole(response)

    def stream(
        self,
        service: str,
        path: str = "/",
        *,
        method: str | None = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        target_s: float | None = None,
        may_repeat: bool | None = None,
        key: str | None = None,
    ) -> Streamed:
        """As `request`, but gives the answer as soon as it begins: `with tango.stream(...) as answer: for part in answer.parts(): ...`"""
        wishes = _wishes(timeout_s, target_s, may_repeat, key)
        return Streamed(self._called(service, path, method, body, headers, wishes, timeout_s=timeout_s, key=key))

    def send(
        self,
        service: str,
        path: str = "/",
        *,
        method: str | None = None,
        body: bytes | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        target_s: float | None = None,
        key: str | None = None,
    ) -> str:
        """Send a request and wait for no answer: gives its id, by which `state` and `answer` find it. Raises: CallFailed, Unreachable."""
        wishes = _wishes(timeout_s, target_s, None, key) | {"Prefer": "respond-async"}
        response = self._called(service, path, method, body, headers, wishes, timeout_s=None, key=key)
        return str(self._facts(response)["request"])

    def state(self, request: str) -> dict[str, Any]:
        """How a request stands: `request state service reason attempt node accepted_at_s latency_ms answer`. Raises: CallFailed."""
        return dict(self.asked("GET", f"/requests/{quote(request, safe='')}"))

    def answer(self, request: str) -> Answer | None:
        """The answer that is kept of a request; None while there is none yet. Raises: CallFailed, where there will be none."""
        response = self.exchanged("GET", f"/requests/{quote(request, safe='')}/answer")
        whole = _whole(response)
        return None if whole.status == 202 and "Retry-After" in whole.headers else whole

    def withdraw(self, request: str) -> bool:
        """Cancel a request; False where it had ended. Raises: CallFailed."""
        return bool(self.asked("DELETE", f"/requests/{quote(request, safe='')}")["withdrawn"])

    def services(self) -> list[dict[str, Any]]:
        """The services that take requests: `service target_ms ready_instances address` of each. Raises: CallFailed."""
        return list(self.asked("GET", "/services"))

    def submit(
        self,
        service: str,
        args: Sequence[str] | None = None,
        *,
        env: Mapping[str, str] | None = None,
        key: str | None = None,
        **options: Any,
    ) -> Job:
        """Submit a job; without `args` it has those of its service's template.

        `key`: the same one twice is one job; where none is given it gets one of its own, so that it may be sent again when a connection
        breaks. `options` are further members of the submission, as `docs/gateway.md` has them. Raises: CallFailed, Unreachable; ClientError
        for what is no list of texts.
        """
        key = key or uuid.uuid4().hex
        words = {
            name: _words(name, given) for name, given in (("args", args), ("command", options.get("command"))) if given is not None
        }
        order = {"service": service, "args": None, "env": dict(env or {}), "key": key, **options, **words}
        return Job(self, self.asked("POST", "/jobs", order, key=key))

    def job(self, job: str) -> Job:
        """The job of this id. Raises: CallFailed."""
        return Job(self, self.asked("GET", f"/jobs/{quote(job, safe='')}"))

    def map(self, service: str, many_args: Iterable[Sequence[str]], *, in_flight: int = 16, **options: Any) -> Iterator[Job]:
        """A job for each arguments, at most `in_flight` at once; gives each as it finishes. Those under way run on if nobody asks on."""
        return jobs_as_they_finish((partial(self.submit, service, args, **options) for args in many_args), in_flight)

    def asked(self, method: str, path: str, content: Any = None, *, key: str | None = None) -> Any:
        """The JSON that the gateway answers itself. Raises: CallFailed, Unreachable."""
        try:
            body = None if content is None else json.dumps(content).encode()
        except (TypeError, ValueError) as error:
            raise ClientError(f"{method} {path} was not sent: {error}; expected what JSON has") from error
        headers = {} if body is None else {"Content-Type": "application/json"}
        return self._facts(self.exchanged(method, path, body=body, headers=headers, key=key))

    def exchanged(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
    ) -> BaseHTTPResponse:
        """The response to a call, its body not read; sent again where that is safe.

        Raises: CallFailed, Unreachable; ClientError for what cannot be sent over HTTP.
        """
        _refuse_headers(headers or {})
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        may_be_served_twice = method in IDEMPOTENT or bool(key)
        for attempt in range(self._retries + 1):
            try:
                return self._once(method, path, body, headers or {}, until_s)
            except ClientError as error:
                pause_s = _pause_s(error, attempt, may_be_served_twice=may_be_served_twice)
                is_over = until_s is not None and pause_s is not None and time.monotonic() + pause_s >= until_s
                if pause_s is None or is_over or attempt == self._retries:
                    raise
            time.sleep(pause_s)
        raise AssertionError("unreachable")

    def _facts(self, response: BaseHTTPResponse) -> Any:
        """The JSON of a gateway's own answer. Raises: AnswerCut; Unreachable where it is something else that answers there."""
        whole = _whole(response)
        try:
            return json.loads(whole.body)
        except (ValueError, RecursionError) as error:
            found = f"what answers at {self.url} is no gateway: status {whole.status}, and no JSON as a gateway has it"
            raise Unreachable(found, was_sent=True) from error

    def _called(
        self,
        service: str,
        path: str,
        method: str | None,
        body: bytes | str | None,
        headers: Mapping[str, str] | None,
        wishes: Mapping[str, str],
        *,
        timeout_s: float | None,
        key: str | None,
    ) -> BaseHTTPResponse:
        content = _content(body)
        where = f"/s/{quote(service, safe='')}/{path.removeprefix('/')}"
        verb = method or ("GET" if content is None else "POST")
        return self.exchanged(verb, where, body=content, headers={**(headers or {}), **wishes}, timeout_s=timeout_s, key=key)

    def _once(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], until_s: float | None
    ) -> BaseHTTPResponse:
        read_s = NO_TIMEOUT_S if until_s is None else max(until_s - time.monotonic(), 0.0) + MARGIN_S
        try:
            response = self._pool.urlopen(
                method,
                self.url + path,
                body=body,
                headers={**self._headers, **headers},
                timeout=Timeout(connect=self._connect_timeout_s, read=read_s),
                preload_content=False,
                decode_content=False,
                redirect=False,
            )
        except (HTTPError, OSError, LocationParseError) as error:
            was_sent = not isinstance(error, (NewConnectionError, ConnectTimeoutError, LocationParseError))
            found = f"the connection to the gateway at {self.url} broke" if was_sent else f"no gateway answers at {self.url}"
            raise Unreachable(f"{found}: {error}", was_sent=was_sent) from error
        except (ValueError, TypeError, OverflowError) as error:
            raise ClientError(f"{method} {path} cannot be sent: {error}") from error
        word = response.headers.get("Tango-Problem")
        if word is None:
            return response
        raise _problem(response, word)


def _is_address(url: str) -> bool:
    """Whether this is the address of a server, perhaps with a path that stands before all of a gateway's."""
    try:
        parts = parse_url(url)
    except LocationParseError:
        return False
    is_plain = (
        url.isprintable() and " " not in url and not (parts.auth or parts.query or parts.fragment or "?" in url or "#" in url)
    )
    return bool(parts.scheme in ("http", "https") and parts.host and is_plain)


def _refuse_authorities(ca_file: str) -> None:
    """Raises: ClientError for a file that has no certificates."""
    try:
        ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ClientError(f"ca_file {ca_file!r} cannot be used: {error}; expected certificates as PEM") from error


def _without_password(url: str) -> str:
    return re.sub(r"//.*@", "//...@", url)


def _content(body: Any) -> bytes | None:
    """The bytes of a body. Raises: ClientError."""
    if body is None or isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if not isinstance(body, str):
        raise ClientError(f"the body is a {type(body).__name__}, expected bytes or a text")
    try:
        return body.encode()
    except UnicodeEncodeError as error:
        raise ClientError(f"the body has no UTF-8 ({error.reason} at {error.start}), expected bytes or a text") from error


def _refuse_headers(headers: Mapping[Any, Any]) -> None:
    """Raises: ClientError, without the value, which may be a secret."""
    for name, value in headers.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ClientError(f"a header is called {name!r}, expected letters, digits and '-'")
        if not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise ClientError(f"the value of header {name} cannot be sent, expected a text of one line, of Latin-1 characters")


def _words(name: str, given: Any) -> list[str]:
    """Words of a command. Raises: ClientError, for one text above all, which would be taken apart into its letters."""
    if isinstance(given, Mapping | str | bytes) or not isinstance(given, Iterable):
        raise ClientError(f"{name} is {given!r:.80}, expected a list of texts, such as ['--input', 'a']")
    words = list(given)
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise ClientError(f"{name}[{index}] is {word!r:.80}, expected a text")
    return words


def _problem(response: BaseHTTPResponse, word: str) -> CallFailed:
    try:
        facts = json.loads(response.read() or b"{}")
    except (ValueError, RecursionError, HTTPError):
        facts = {}
    again = response.headers.get("Retry-After", "")
    return failure(response.status, word, facts if isinstance(facts, dict) else {}, float(again) if again.isdecimal() else None)


def _pause_s(error: ClientError, attempt: int, *, may_be_served_twice: bool) -> float | None:
    """Seconds until the next try; None: there must be none."""
    backoff_s = float(AGAIN_S * 2**attempt * random.uniform(0.5, 1.0))
    if isinstance(error, Unreachable) and (may_be_served_twice or not error.was_sent):
        return backoff_s
    if isinstance(error, Busy) and error.word in NOT_BEGUN:
        return max(backoff_s, (error.retry_after_s or 0.0) * random.uniform(1.0, 1.2))
    return None


def _whole(response: BaseHTTPResponse) -> Answer:
    request = response.headers.get("Tango-Request", "")
    try:
        body = response.read()
    except (HTTPError, OSError) as error:
        raise AnswerCut(f"the answer of request {request} broke off in the middle: {error}") from error
    finally:
        response.release_conn()
    return Answer(response.status, response.headers, body, request)


def _refuse_seconds(name: str, given: Any) -> None:
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < MOST_SECONDS:
        raise ClientError(f"{name} is {given!r:.40}, expected a number of seconds")


def _wishes(timeout_s: float | None, target_s: float | None, may_repeat: bool | None, key: str | None) -> dict[str, str]:
    found = {}
    for name, said, seconds in (("Tango-Timeout-Ms", "timeout_s", timeout_s), ("Tango-Target-Ms", "target_s", target_s)):
        if seconds is not None:
            _refuse_seconds(said, seconds)
            found[name] = f"{seconds * 1e3:.3f}"
    if may_repeat is not None:
        found["Tango-Repeat"] = "yes" if may_repeat else "no"
    if key:
        found["Tango-Key"] = key
    return found
