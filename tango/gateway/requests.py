"""`/requests/ID`, `/services` and whether the gateway is well: what callers can ask about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from tango.domain.calls import CallStanding
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason, RequestState
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.gateway.gateway import Gateway
from tango.gateway.problems import REQUEST_HEADER, Problem, Trouble, ended_in_vain
from tango.gateway.service_calls import kept_response
from tango.gateway.told import json_response, note


class RequestCalls:
    """The routes by which callers ask for their requests."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> Iterable[web.RouteDef]:
        """Routes that tell of requests, services and the gateway itself."""
        return [
            web.get("/requests/{request}", self.show),
            web.get("/requests/{request}/answer", self.answer),
            web.delete("/requests/{request}", self.withdraw),
            web.get("/services", self.services),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
        ]

    async def show(self, request: web.Request) -> web.Response:
        """The state of a request. Raises: Problem."""
        key, standing = await self._standing(request)
        found: dict[str, Any] = {
            "request": str(key),
            "state": standing.state,
            "service": standing.service,
            "tenant": standing.tenant,
            "reason": standing.reason or None,
            "attempt": standing.attempt,
            "node": standing.node or None,
            "accepted_at_s": standing.due_at_s,
            "latency_ms": None if standing.latency_s is None else round(standing.latency_s * 1e3, 3),
            "answer": None,
        }
        if standing.has_ended and (answer := await asyncio.to_thread(self._gateway.journal.answer, key)) is not None:
            where = f"/requests/{key}/answer"
            found["answer"] = {
                "status": answer.status,
                "bytes": len(answer.body),
                "is_whole": answer.is_whole,
                "location": where,
            }
        return json_response(found, headers={REQUEST_HEADER: str(key)})

    async def answer(self, request: web.Request) -> web.Response:
        """The answer of the service; 202 while there is none yet. Raises: Problem."""
        key, standing = await self._standing(request)
        if not standing.has_ended:
            headers = {REQUEST_HEADER: str(key), "Retry-After": "1"}
            return json_response({"request": str(key), "state": standing.state}, status=202, headers=headers)
        answer = await asyncio.to_thread(self._gateway.journal.answer, key)
        if answer is not None:
            return kept_response(str(key), answer)
        if standing.state is not RequestState.SUCCEEDED:
            raise ended_in_vain(standing, request=str(key), retry_after_s=self._gateway.settings.retry_after_s)
        kept_s = self._gateway.calls.keep_s
        raise Problem(
            Trouble.NO_ANSWER_KEPT,
            f"the answer of request {key} is kept no more; answers are kept for {kept_s:g} s",
            request=str(key),
        )

    async def withdraw(self, request: web.Request) -> web.Response:
        """Cancel a request that has not ended. Raises: Problem."""
        key, _ = await self._standing(request)
        withdrawn = await asyncio.to_thread(self._gateway.journal.withdraw, [key], reason=Reason.CANCELLED)
        _, standing = await self._standing(request)
        return json_response({"request": str(key), "state": standing.state, "withdrawn": bool(withdrawn)})

    async def services(self, request: web.Request) -> web.Response:
        """The LC services that the caller's tenant may send to. Raises: Problem."""
        tenant = (await self._gateway.caller(request.headers)).tenant
        note(request, tenant=tenant)
        view = self._gateway.view
        lc = [s for s in view.services.values() if s.service_class is ServiceClass.LC and s.admits(tenant)]
        return json_response(
            [
                {
                    "service": s.name,
                    "tenant": s.tenant,
                    "target_ms": s.target_ms,
                    "ready_instances": view.ready[s.name],
                    "address": f"/s/{s.name}/",
                }
                for s in lc
            ]
        )

    async def healthz(self, _: web.Request) -> web.Response:
        """The process is alive."""
        return json_response({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """Requests would be taken. Raises: Problem."""
        gateway = self._gateway
        if not gateway.is_seeing or not gateway.view.is_known:
            raise Problem(Trouble.JOURNAL_AWAY, "the journal cannot be read, or its agent has not brought the services yet")
        if gateway.intake.is_broker_away:
            raise Problem(Trouble.BROKER_AWAY, "the broker does not take messages")
        return json_response({"ready": True, "cluster": gateway.cluster, "services": len(gateway.view.services)})

    async def _standing(self, request: web.Request) -> tuple[RequestKey, CallStanding]:
        """Of a request of the caller's own tenant. Raises: Problem, also for those of others: that they exist is theirs to know."""
        tenant = (await self._gateway.caller(request.headers)).tenant
        try:
            key = RequestKey.parsed(request.match_info["request"])
        except UsageError as error:
            raise Problem(Trouble.UNKNOWN_REQUEST, str(error)) from error
        note(request, tenant=tenant, request=str(key))
        standing = (await asyncio.to_thread(self._gateway.journal.standings, [key])).get(key)
        if standing is None or standing.tenant != tenant:
            raise Problem(
                Trouble.UNKNOWN_REQUEST,
                f"request {key} is not known here, or not any more: requests that have ended are kept for "
                f"{self._gateway.calls.keep_s:g} s; `tango run requests` has all",
                request=str(key),
            )
        return key, standing
