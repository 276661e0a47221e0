"""What can go wrong, as one tree.

    ClientError        itself: what was given cannot be sent, as a header of two lines
    ├── Unreachable    no gateway answers at the address, or the connection broke before an answer began
    ├── AnswerCut      the answer broke off in the middle: what came of it is not all
    └── CallFailed     the gateway says why it did not bring an answer; `word` for programs, the message for people
        ├── Refused    as it is, it will be refused again: no token, no such service, a body too large, a header without meaning
        ├── Busy       there was no place for it, or it was shed; nothing was done; `retry_after_s` says when to try again
        └── TimedOut   nobody answered in time; the request was withdrawn

What a service itself answers is an `Answer`, whatever its status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Whatever this client raises on purpose."""


class Unreachable(ClientError):
    """No connection, or one that broke. Attribute: `was_sent`, whether the request may have been served: send it with a key, then."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        self.was_sent = was_sent
        super().__init__(message)


class AnswerCut(ClientError):
    """The connection ended before the answer did."""


class CallFailed(ClientError):
    """A problem by RFC 9457.

    Attributes: `status`; `word` (the header Tango-Problem); `request`, the id of the request, where it has one; `retry_after_s`, None:
    trying again is of no use; `facts`, all members of the JSON.
    """

    def __init__(self, status: int, word: str, facts: Mapping[str, Any], retry_after_s: float | None) -> None:
        self.status, self.word, self.facts, self.retry_after_s = status, word, dict(facts), retry_after_s
        self.request = str(facts.get("request", ""))
        super().__init__(f"{facts.get('title', word)}: {facts.get('detail', f'status {status}')}")


class Refused(CallFailed):
    """The same request will be refused again."""


class Busy(CallFailed):
    """The gateway has no room now. Nothing was done; the request may be sent again."""


class TimedOut(CallFailed):
    """The answer did not come in time."""


NOT_BEGUN = frozenset(
    {"too-many-requests", "too-many-jobs", "overloaded", "not-open", "journal-away", "broker-away", "centre-away"}
)
"""Words of problems after which nothing of the request is kept anywhere, so that whatever it was may be sent again."""


def failure(status: int, word: str, facts: Mapping[str, Any], retry_after_s: float | None) -> CallFailed:
    """The error of a problem."""
    kind = CallFailed
    if word in NOT_BEGUN or word == "shed":
        kind = Busy
    elif status in (408, 504):
        kind = TimedOut
    elif 400 <= status < 500:
        kind = Refused
    return kind(status, word, facts, retry_after_s)
