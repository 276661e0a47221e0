"""What callers are told when something is wrong: JSON by RFC 9457, with a word for programs and a sentence for people."""

from __future__ import annotations

import math
from enum import Enum
from typing import Any

import orjson
from aiohttp import web

from tango.domain.calls import CallStanding
from tango.domain.requests import Reason, RequestState

PROBLEM_TYPE = "application/problem+json"
PROBLEM_HEADER = "Tango-Problem"
"""Header with the word for programs: it tells an answer of the gateway from one of a service with the same status."""

REQUEST_HEADER = "Tango-Request"
"""Header with the id of the request, in every response that belongs to one."""


class Trouble(Enum):
    """Each kind of problem: (word, HTTP status, title)."""

    UNAUTHORIZED = ("unauthorized", 401, "No valid token")
    NOT_ALLOWED = ("not-allowed", 403, "This token does not allow that")
    NOT_YOUR_SERVICE = ("not-your-service", 403, "This service is another tenant's")
    UNKNOWN_SERVICE = ("unknown-service", 404, "There is no such service")
    UNKNOWN_REQUEST = ("unknown-request", 404, "There is no such request")
    UNKNOWN_JOB = ("unknown-job", 404, "There is no such job")
    NO_LOG_KEPT = ("no-log-kept", 404, "There is no log to fetch")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    NO_SUCH_METHOD = ("no-such-method", 405, "This cannot be done here")
    BODY_TOO_SLOW = ("body-too-slow", 408, "The body did not come in time")
    CANCELLED = ("cancelled", 409, "The request was cancelled")
    KEY_TAKEN = ("key-taken", 409, "Another request or job has this key")
    NO_ANSWER_KEPT = ("no-answer-kept", 410, "There is no answer to fetch")
    BODY_TOO_LARGE = ("body-too-large", 413, "The body is too large")
    HEAD_TOO_LARGE = ("head-too-large", 431, "The head of the request is too large")
    BAD_HEADER = ("bad-header", 400, "A header has no meaning")
    BAD_REQUEST = ("bad-request", 400, "This is no request")
    BAD_JOB = ("bad-job", 400, "This is no job")
    TOO_MANY_JOBS = ("too-many-jobs", 429, "The tenant has as many live jobs as it may")
    TOO_MANY_REQUESTS = ("too-many-requests", 429, "Too many requests at once")
    DEFECT = ("defect", 500, "A defect of the gateway")
    SERVICE_FAILED = ("service-failed", 502, "The service did not answer")
    ANSWER_LOST = ("answer-lost", 502, "The service has answered, but not here")
    NOT_OPEN = ("not-open", 503, "No run accepts requests now")
    JOURNAL_AWAY = ("journal-away", 503, "The journal cannot be used")
    CENTRE_AWAY = ("centre-away", 503, "The centre cannot be reached")
    BROKER_AWAY = ("broker-away", 503, "The broker cannot be reached")
    NO_INSTANCE = ("no-instance", 503, "No instance of this service is ready")
    OVERLOADED = ("overloaded", 503, "Too much waits for this service")
    SHED = ("shed", 503, "The request was shed")
    TIMED_OUT = ("timed-out", 504, "The answer did not come in time")

    def __init__(self, word: str, status: int, title: str) -> None:
        self.word, self.status, self.title = word, status, title


class Problem(Exception):
    """A request is answered with this. Attributes: `trouble`; `detail`, a sentence; `retry_after_s`, None: trying again is of no use;
    `facts`, further members of the JSON."""

    def __init__(self, trouble: Trouble, detail: str, *, retry_after_s: float | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.trouble, self.detail, self.retry_after_s, self.facts = trouble, detail, retry_after_s, facts

    def response(self) -> web.Response:
        """The HTTP response."""
        trouble = self.trouble
        headers = {PROBLEM_HEADER: trouble.word}
        if self.facts.get("request"):
            headers[REQUEST_HEADER] = str(self.facts["request"])
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_after_s)))
        if trouble is Trouble.UNAUTHORIZED:
            headers["WWW-Authenticate"] = 'Bearer realm="tango"'
        told = {
            "type": f"urn:tango:problem:{trouble.word}",
            "title": trouble.title,
            "status": trouble.status,
            "detail": self.detail,
            **{name: value for name, value in self.facts.items() if value is not None},
        }
        return web.Response(status=trouble.status, body=orjson.dumps(told), content_type=PROBLEM_TYPE, headers=headers)


_IN_VAIN = {
    Reason.TIMED_OUT: (Trouble.TIMED_OUT, "the instance that had it did not answer in time"),
    Reason.INSTANCE_UNREACHABLE: (Trouble.SERVICE_FAILED, "the instance that had it could not be reached, or broke the connection"),
    Reason.INSTANCE_REFUSED: (Trouble.SERVICE_FAILED, "the instance that had it refused it"),
    Reason.NO_INSTANCE: (Trouble.SHED, "no instance of the service is ready"),
    Reason.SERVICE_ERROR: (Trouble.SERVICE_FAILED, "the instance answered with an error of its own"),
    Reason.ANSWER_CUT: (Trouble.SERVICE_FAILED, "the instance broke off in the middle of its answer"),
    Reason.TARGET_UNREACHABLE: (Trouble.SHED, "it could not have been answered in time"),
    Reason.ATTEMPTS_EXHAUSTED: (Trouble.SERVICE_FAILED, "all of its attempts failed"),
    Reason.NODE_LOST: (Trouble.SERVICE_FAILED, "the node that had it was lost"),
    Reason.LEASE_EXPIRED: (Trouble.SERVICE_FAILED, "the worker that had it was lost"),
    Reason.CALLER_TIMED_OUT: (Trouble.TIMED_OUT, "it was not answered within the time that its caller gave it"),
}
"""What callers are told, by the reason for which a request ended other than well."""


def in_vain(reason: str, *, request: str, retry_after_s: float) -> Problem:
    """The problem of a request that failed for this reason, or was shed."""
    known = Reason(reason) if reason in set(Reason) else Reason.NONE
    trouble, detail = _IN_VAIN.get(known, (Trouble.SERVICE_FAILED, "it failed"))
    again_s = retry_after_s if trouble is Trouble.SHED else None
    return Problem(trouble, f"request {request} has ended: {detail}", retry_after_s=again_s, request=request, reason=reason)


def ended_in_vain(standing: CallStanding, *, request: str, retry_after_s: float) -> Problem:
    """The problem of a request that has ended other than well."""
    if standing.state is RequestState.CANCELLED and standing.reason != Reason.CALLER_TIMED_OUT:
        return Problem(
            Trouble.CANCELLED, f"request {request} was cancelled before it was answered", request=request, reason=standing.reason
        )
    problem = in_vain(standing.reason, request=request, retry_after_s=retry_after_s)
    if standing.state is RequestState.SHED:
        problem.trouble, problem.retry_after_s = Trouble.SHED, retry_after_s
    return problem
