"""Serve callers: call the instance with what a caller sent, have the answer pass on, keep it, and see when nobody wants it any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tango.domain.calls import Answer, CalledWork
from tango.domain.identity import RequestKey
from tango.domain.lifecycle import Event
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import CallFailed, StoreUnavailable
from tango.ports.callers import CallerRequests
from tango.ports.instances import Answered, ServiceCalls
from tango.settings import CallSettings

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.25
"""Seconds between two looks for callers who are gone: an instance works in vain at most this long. A look is one read of the journal."""


class ServeCallers:
    """One worker's side of callers' requests, on the loop of its executor. `calls` is made there when the first of them comes."""

    def __init__(self, requests: CallerRequests, calls: Callable[[], ServiceCalls], settings: CallSettings) -> None:
        self._requests = requests
        self._make = calls
        self._calls: ServiceCalls | None = None
        """None before the first request of a caller: most workers need no client for them."""
        self._settings = settings
        self._called: dict[RequestKey, CalledWork] = {}
        self._under_way: dict[tuple[RequestKey, int], asyncio.Task[Answered]] = {}
        self._answers: list[tuple[RequestKey, Answer]] = []
        self._some = asyncio.Event()

    def prepare(self, works: Sequence[LcWork]) -> None:
        """Read what these are to be called with. Blocking; before they are served. Raises: StoreUnavailable."""
        keys = [_key(work) for work in works if work.is_called]
        if keys:
            self._called.update(self._requests.calls(keys))

    def may_repeat(self, work: LcWork) -> bool:
        """Whether a call under way may be taken from its instance and sent to another."""
        called = self._called.get(_key(work))
        return called is None or called.call.is_repeatable

    def begin(
        self,
        instance: InstanceState,
        work: LcWork,
        *,
        over_tls: bool,
        timeout_s: float,
        answers: Callable[[], None],
        traceparent: str = "",
    ) -> asyncio.Task[Answered]:
        """Call the instance, with this `traceparent` or that of the call; `answers` is called when it does. The task raises CallFailed,
        and is cancelled when the caller is gone."""
        if self._calls is None:
            self._calls = self._make()
        key = _key(work)
        called = self._called.get(key)
        if called is None:  # it was withdrawn, or the journal was away: its row tells
            raise CallFailed(f"the call of request {key} is not there", reason=Reason.CALLER_GONE, was_sent=False)
        may_try_again = called.call.is_repeatable and work.attempt < self._settings.tries
        calling = self._calls.call(
            instance,
            work,
            called,
            may_try_again=may_try_again,
            over_tls=over_tls,
            timeout_s=timeout_s,
            answers=answers,
            traceparent=traceparent,
        )
        task = asyncio.ensure_future(calling)
        self._under_way[key, work.epoch] = task
        self._some.set()
        return task

    def over(self, work: LcWork) -> None:
        """Forget a call whose task (`begin`) has ended."""
        self._under_way.pop((_key(work), work.epoch), None)
        self._called.pop(_key(work), None)

    def is_unwanted(self, work: LcWork) -> bool:
        """Whether its call was cancelled because its caller is gone, or somebody else serves it."""
        return (_key(work), work.epoch) not in self._under_way

    def answered(self, work: LcWork, answered: Answered) -> tuple[Event, Reason]:
        """Keep the answer; how the attempt has ended by it."""
        if self._settings.kept_answer_kib:
            self._answers.append((_key(work), answered.answer))
        failed = answered.answer.status >= 500
        return (Event.FAIL, Reason.SERVICE_ERROR) if failed else (Event.SUCCEED, Reason.NONE)

    async def failed(self, work: LcWork, error: CallFailed, *, is_free: bool = False) -> tuple[Event, Reason]:
        """How an attempt ends that failed so: another one follows where that can do no harm. Whoever waits is told of the last.

        `is_free`: its instance was taken away, so that it is none of the tries.
        """
        called, reason = self._called.get(_key(work)), Reason(error.reason)
        if called is None:
            return Event.REQUEUE, Reason.INSTANCE_UNREACHABLE
        may_repeat = called.call.is_repeatable or not error.was_sent
        has_tries = is_free or work.attempt < self._settings.tries
        if may_repeat and not error.was_passed_on and reason is not Reason.TIMED_OUT and has_tries:
            return Event.REQUEUE, reason
        if not error.was_passed_on and self._calls is not None:
            await self._calls.tell_failed(called, work, reason)
        return Event.FAIL, reason

    def settled_first(self) -> Callable[[], None]:
        """Keep the answers that have come, before their requests are settled: what to do for that, in any thread.

        They are kept again where that fails. Raises, when it is done: StoreUnavailable.
        """
        answers, self._answers = self._answers, []

        def keep() -> None:
            if answers:
                try:
                    self._requests.keep_answers(answers)
                except StoreUnavailable:
                    self._answers = answers + self._answers
                    raise

        return keep

    async def watch(self) -> None:
        """Cancel calls that nobody wants any more, for ever."""
        while True:
            if not self._under_way:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(LOOK_EVERY_S)
            told = list(self._under_way)
            try:
                wanted = await asyncio.to_thread(self._requests.still_run, told)
            except StoreUnavailable as error:
                log.warning("callers_not_looked_for", error=str(error))
                continue
            except Exception:  # the next look may do better
                log.exception("callers_not_looked_for")
                continue
            for key, epoch in told:
                if key not in wanted:
                    task = self._under_way.pop((key, epoch), None)
                    if task is not None:
                        task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        if self._calls is not None:
            await self._calls.close()


def _key(work: LcWork) -> RequestKey:
    return RequestKey(work.run_id, work.request_id)
