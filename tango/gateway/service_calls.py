"""`/s/SERVICE/PATH`: a request of a caller becomes a row in the journal, and the answer of the instance that serves it becomes his."""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from aiohttp import web
from multidict import CIMultiDict

from tango.client.methods import IDEMPOTENT
from tango.domain.calls import Answer, Call, CallerRequest, CallStanding, Headers, asked_of
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason, RequestState
from tango.domain.services import Service, ServiceClass
from tango.domain.tokens import KnownToken
from tango.gateway.asking import asked
from tango.gateway.bodies import expects_nothing, held_body
from tango.gateway.gateway import Gateway
from tango.gateway.headers import PRINTABLE, Sorting, forwarded, given_back, wishes_of
from tango.gateway.problems import REQUEST_HEADER, Problem, Trouble, ended_in_vain, in_vain
from tango.gateway.told import TRACED, accepted_response, note, without_type
from tango.gateway.waiting import Answering, Failed, Outcome, Waiting

AT_ONCE_BYTES = 64 << 10
"""Bytes of an answer that is passed on in one piece where its length is known: most are smaller, and one write is cheaper than two."""
_TARGET = re.compile(r"(?:https?://[^/?#]*)?/s/(?P<service>[^/?#]+)(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?")


class ServiceRoutes:
    """The routes by which LC requests come."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._sorting = Sorting(gateway.settings.kept_headers)

    def routes(self) -> Iterable[web.RouteDef]:
        """`/s/SERVICE/PATH`, whatever the method: what it means is the service's business."""
        return [web.route("*", "/s/{service}{path:.*}", self.serve, expect_handler=expects_nothing)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Accept, wait, pass on. Raises: Problem."""
        gateway, loop = self._gateway, asyncio.get_running_loop()
        began_s = loop.time()
        token, service, path = await gateway.as_known(lambda: self._asked(request))
        note(request, tenant=token.tenant, service=service.name)
        wishes = wishes_of(request.headers)
        headers = forwarded(request.headers, scheme=request.scheme, peer=request.remote)
        kept, held = self._sorting.of(headers, preserve_host=service.preserve_host)
        if (traced := request.get(TRACED)) is not None:
            kept, held = traced.told(kept, held)
        is_repeatable = request.method in IDEMPOTENT if wishes.may_repeat is None else wishes.may_repeat
        # Of a caller who does not wait nothing is held: the gateway may be another one when his request is served.
        has_held = bool(held) and not wishes.is_async
        # Whoever does not wait is patient unless he or the service says otherwise.
        sent = asked_of(
            service,
            Call(method=request.method, path=path, headers=kept, is_repeatable=is_repeatable, has_held=has_held),
            tenant=token.tenant,
            target_s=wishes.target_s,
            timeout_s=wishes.timeout_s,
            else_targets=math.inf if wishes.is_async else gateway.calls.give_up_after_targets,
            answer_to=None if wishes.is_async else gateway.answer_to,
            key=wishes.key,
        )
        async with contextlib.AsyncExitStack() as inside:
            if not wishes.is_async:
                await gateway.require_hope(service, patience_s=sent.patience_s)
                inside.enter_context(gateway.outlook.waits(service.name))
            within_s = min(sent.patience_s, gateway.settings.place_within_s)
            has_waited = await inside.enter_async_context(gateway.door.place(token.tenant, within_s=within_s))
            body = await inside.enter_async_context(held_body(request, gateway.door, gateway.settings))
            if not gateway.intake.is_open:
                await gateway.intake.opening()
                began_s = loop.time()
            patience_s, until_s = sent.patience_s, began_s + sent.patience_s
            left_s = max(0.0, until_s - loop.time()) if has_waited else patience_s  # workers count from when he is accepted
            sent = replace(sent, call=replace(sent.call, body=body), patience_s=left_s)
            if wishes.is_async:
                accepted = await gateway.intake.accept(sent, None)
                note(request, request=str(accepted.key))
                return accepted_response(accepted.key, is_new=accepted.is_new)
            return await self._answered(request, sent, held, patience_s=patience_s, until_s=until_s)

    def _asked(self, request: web.Request) -> tuple[KnownToken, Service, str]:
        """Who asks, for which service, and path with query as they were sent: percent-encoding and dots are the instance's to read."""
        token = self._gateway.door.caller(request.headers, wants=ServiceClass.LC)
        found = _TARGET.fullmatch(request.raw_path)
        if found is None or not PRINTABLE.fullmatch(request.raw_path):
            raise Problem(
                Trouble.BAD_REQUEST,
                "this is no address of a service, expected /s/SERVICE/PATH of printable ASCII, everything else percent-encoded",
            )
        service = self._gateway.view.lc_service(found["service"], token.tenant)
        return token, service, (found["path"] or "/") + (found["query"] or "")

    async def _answered(
        self, request: web.Request, sent: CallerRequest, held: Headers, *, patience_s: float, until_s: float
    ) -> web.StreamResponse:
        def told(key: RequestKey) -> None:
            note(request, request=str(key))

        async with asked(self._gateway, sent, held=held, patience_s=patience_s, until_s=until_s, told=told) as ended:
            return await self._response(request, ended.waiting, ended.outcome)

    async def _response(self, request: web.Request, waiting: Waiting, outcome: Outcome) -> web.StreamResponse:
        key, again_s = str(waiting.key), self._gateway.settings.retry_after_s
        match outcome:
            case Answering():
                return await self._passed_answer(request, key, outcome)
            case Answer():
                return kept_response(key, outcome)
            case Failed(reason=reason):
                raise in_vain(reason, request=key, retry_after_s=again_s)
            case CallStanding(state=state) if state is not RequestState.SUCCEEDED:
                raise ended_in_vain(outcome, request=key, retry_after_s=again_s)
            case CallStanding():
                raise Problem(
                    Trouble.ANSWER_LOST,
                    f"request {key} was served, but its answer did not come here and is not kept whole; see /requests/{key}",
                    request=key,
                )

    async def _passed_answer(self, request: web.Request, key: str, answering: Answering) -> web.StreamResponse:
        headers = given_back(answering.headers)
        headers[REQUEST_HEADER] = key
        is_passed = False
        try:
            if request.method != "HEAD" and answering.length is not None and answering.length <= AT_ONCE_BYTES:
                response: web.StreamResponse = await self._at_once(answering, headers)
            else:
                response = await self._as_it_comes(request, answering, headers)
            is_passed = True
            return response
        finally:
            if not answering.passed_on.done():
                answering.passed_on.set_result(is_passed)

    async def _at_once(self, answering: Answering, headers: CIMultiDict[str]) -> web.Response:
        try:
            async with asyncio.timeout(self._gateway.settings.taken_within_s):
                body = await answering.body.read()
        except (TimeoutError, *_BROKEN) as error:
            raise _cut(headers[REQUEST_HEADER]) from error
        if len(body) != (length := _length(headers)) and length is not None:
            raise _cut(headers[REQUEST_HEADER])
        headers.pop("Content-Length", None)
        return _typed(web.Response(status=answering.status, headers=headers, body=body), headers)

    async def _as_it_comes(self, request: web.Request, answering: Answering, headers: CIMultiDict[str]) -> web.StreamResponse:
        response = _typed(web.StreamResponse(status=answering.status, headers=headers), headers)
        within_s = self._gateway.settings.taken_within_s
        passed, length = 0, _length(headers)
        await response.prepare(request)
        try:
            while True:
                try:
                    async with asyncio.timeout(within_s):
                        part = await answering.body.readany()
                except _BROKEN as error:
                    raise _cut(headers[REQUEST_HEADER]) from error
                if not part:
                    break
                async with asyncio.timeout(within_s):
                    await response.write(part)
                passed += len(part)
            if length is not None and passed != length and request.method != "HEAD":
                raise _cut(headers[REQUEST_HEADER])
            await response.write_eof()
        except BaseException:
            # The head has gone out, so that the only honest way to say that this is not all is to cut the connection.
            if request.transport is not None:
                request.transport.abort()
            raise
        return response


_BROKEN = (web.RequestPayloadError, ConnectionError, OSError)
"""What reading a worker's answer raises when the worker breaks off."""


def kept_response(key: str, answer: Answer) -> web.Response:
    """An answer that was kept, whole or its beginning."""
    headers = given_back(answer.headers)
    headers.pop("Content-Length", None)
    headers[REQUEST_HEADER] = key
    if not answer.is_whole:
        headers["Tango-Answer-Cut"] = "yes"
    return _typed(web.Response(status=answer.status, headers=headers, body=answer.body), headers)


R = TypeVar("R", bound=web.StreamResponse)


def _typed(response: R, headers: CIMultiDict[str]) -> R:
    """The answer with the `Content-Type` of these headers, or with none."""
    if "Content-Type" not in headers:
        without_type(response)
    return response


def _length(headers: CIMultiDict[str]) -> int | None:
    with contextlib.suppress(ValueError):
        return int(headers.get("Content-Length", ""))
    return None


def _cut(key: str) -> Problem:
    return Problem(
        Trouble.SERVICE_FAILED, f"the answer of request {key} broke off in the middle", request=key, reason=Reason.ANSWER_CUT
    )
