"""Requests of callers in a cluster's journal: what its gateway accepts, and what its workers call and answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tango.domain.calls import Accepted, Answer, CallerRequest, Calls, CallStanding
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason


class CallerRequests(Protocol):
    """The part of a cluster's journal that callers' requests come into. Raises: StoreUnavailable."""

    def accept(self, requests: Sequence[CallerRequest]) -> list[Accepted]:
        """Give each its row, all in one transaction, in the open live run that the cluster knows; in the order of `requests`.

        They are `released` from then on. A killed process loses nothing of them, a loss of power may until `wait_for_disk`.

        Raises: NotOpen while there is no live run that accepts anything, or it has no numbers left for new requests; nothing is kept
        then. Nothing is kept either of a request under the idempotency key of another one of its tenant that asks for something else
        (`Accepted.is_taken`).
        """
        ...

    def wait_for_disk(self) -> None:
        """Wait until no loss of power can take what was accepted before this call."""
        ...

    def opens(self) -> bool:
        """Whether a live run accepts requests here; where none does, note that one is wanted, which the agent asks the centre for."""
        ...

    def withdraw(self, keys: Sequence[RequestKey], *, reason: Reason) -> int:
        """Nobody wants these any more: cancel those that are live; gives how many were. `reason` says whether their callers hung up, did
        not wait any longer, or cancelled them."""
        ...

    def standings(self, keys: Sequence[RequestKey]) -> dict[RequestKey, CallStanding]:
        """How these stand; those that the journal has not, or has not any more, are missing."""
        ...

    def answer(self, key: RequestKey) -> Answer | None:
        """The answer that was kept; None: there is none, or it is no longer kept."""
        ...

    def calls(self, keys: Sequence[RequestKey]) -> Calls:
        """What these requests are to be called with; those that came from no caller are missing."""
        ...

    def keep_answers(self, answers: Sequence[tuple[RequestKey, Answer]]) -> None:
        """Keep these answers to be fetched, for `CallSettings.keep_s`; an answer that is kept already stays."""
        ...

    def still_run(self, keys: Sequence[tuple[RequestKey, int]]) -> set[RequestKey]:
        """Of these (request, epoch) those that are running under that epoch, so that somebody still wants their answer."""
        ...

    def drop_old(self, *, limit: int) -> int:
        """Forget calls of requests that have ended, and answers older than they are kept or beyond the size that is kept; at most
        `limit` rows, gives how many there were."""
        ...
