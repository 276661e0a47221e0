"""One caller's request from its acceptance to its outcome: he waits no longer than his time, and what he waits for no more is withdrawn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from tango.domain.calls import CallerRequest, CallStanding, Headers
from tango.domain.identity import RequestKey
from tango.domain.requests import Reason, RequestState
from tango.gateway.gateway import Gateway
from tango.gateway.problems import Problem, Trouble
from tango.gateway.waiting import Failed, Outcome, Waiting


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """A caller's request that has come to its outcome."""

    waiting: Waiting
    outcome: Outcome


@contextlib.asynccontextmanager
async def asked(
    gateway: Gateway,
    sent: CallerRequest,
    *,
    held: Headers = (),
    patience_s: float,
    until_s: float,
    told: Callable[[RequestKey], None] = lambda key: None,
) -> AsyncIterator[AskedRequest]:
    """Have a request accepted and wait for its outcome; the block passes the answer on, and ends by Problem or otherwise where it cannot.

    `held`: headers of the call that are written down nowhere. The caller is told of `patience_s`, and waits until `until_s` by the loop's
    clock. `told` is called with the number of the request once it has one, whatever follows. Raises: Problem when his time is over;
    KeyTaken, NotOpen, StoreUnavailable.
    """
    loop = asyncio.get_running_loop()
    waiting = Waiting(loop.create_future(), since_s=loop.time(), until_s=until_s, held=held)
    gateway.lookout.watch(waiting)
    outcome: Outcome | None = None
    is_answered, reason = False, Reason.CALLER_GONE
    try:
        try:
            async with asyncio.timeout_at(until_s):
                await gateway.intake.accept(sent, waiting)
                outcome = await waiting.outcome
        except TimeoutError as error:
            reason = Reason.CALLER_TIMED_OUT
            raise _timed_out(patience_s, waiting.key) from error
        finally:
            if waiting.key is not None:
                told(waiting.key)
        try:
            yield AskedRequest(waiting, outcome)
        except Problem as problem:
            is_answered = problem.facts.get("reason") == Reason.ANSWER_CUT  # which its worker says in the journal
            raise
        is_answered = True
    finally:
        waiting.outcome.cancel()
        gateway.lookout.forget(waiting)
        gateway.callers.leave(waiting)
        if not is_answered and not isinstance(outcome, (CallStanding, Failed)):
            _withdraw(gateway, waiting, reason)
        gateway.outlook.ends(sent.service, at_s=loop.time(), answered=_is_served(outcome))


def _withdraw(gateway: Gateway, waiting: Waiting, reason: Reason) -> None:
    """He waits no more: his request is withdrawn, unless somebody else waits for it. One without a key is left to the intake."""
    if waiting.key is not None and waiting.is_new and not gateway.callers.is_awaited(waiting.key):
        gateway.intake.withdraw(waiting.key, reason)


def _is_served(outcome: Outcome | None) -> bool:
    """Whether the service has come to it, well or not; False where it was given up."""
    return outcome is not None and not (isinstance(outcome, CallStanding) and outcome.state is RequestState.SHED)


def _timed_out(patience_s: float, key: RequestKey | None) -> Problem:
    name = f"request {key}" if key is not None else "the request"
    return Problem(Trouble.TIMED_OUT, f"{name} was not answered within {patience_s:g} s and is withdrawn", request=key and str(key))
