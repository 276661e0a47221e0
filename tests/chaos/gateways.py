"""The gateways of a chaos world without their HTTP, and the way of answers from workers to them: implements
`tango.ports.instances.ServiceCalls` over its network and kubelets."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tango.domain.calls import Answer, AnswerTo, CalledWork
from tango.domain.identity import RequestKey
from tango.domain.observations import InstanceState
from tango.domain.requests import LcWork, Reason
from tango.errors import CallFailed
from tango.gateway.gateway import Gateway
from tango.gateway.waiting import Answering, Failed, WaitingCallers
from tango.journal.journal import SqliteJournal
from tango.ports.instances import Answered
from tango.ports.messages import Publisher
from tango.settings import Settings
from tests.chaos.cluster import Kubelets
from tests.chaos.host import Loop
from tests.chaos.network import Network
from tests.chaos.timeline import Process, Timeline

FAILS, BREAKS = 0.05, 0.05
"""Part of the calls that an instance answers with an error of its own, and of those with which it breaks off until all is well."""
LOOK_S = 0.2
"""Seconds between two looks of whoever waits for another process whether that one has died: TCP tells at once, this is soon."""


@dataclass(frozen=True, slots=True)
class Body:
    """Of an answer, here at once; as far as whoever passes it on reads it."""

    content: bytes

    async def read(self) -> bytes:
        """All of it."""
        return self.content


@dataclass(frozen=True, slots=True, eq=False)
class AtCall:
    """What is to happen when a caller's call has been sent to an instance."""

    site: str
    """Of this cluster's workers; empty: of any."""
    is_unawaited: bool
    """Whether it must be one that nobody waits for: whoever waits soon waits no longer, and his call is withdrawn."""
    strike: Callable[[Process], None]
    """With the process that has sent it."""


@dataclass(frozen=True, slots=True)
class GatewayLife:
    """One gateway process, in one of its lives."""

    gateway: Gateway
    process: Process
    life: int
    loop: Loop

    @property
    def is_there(self) -> bool:
        """Whether it has not died."""
        return self.process.alive and self.process.life == self.life

    def ask(self, work: Callable[[], Any]) -> None:
        """Let it do something, as a connection that comes in does."""
        self.process.timeline.at(self.process.timeline.now_s, work, self.process)


@dataclass(slots=True)
class Gateways:
    """All gateways of a world, with what callers have had done."""

    timeline: Timeline
    network: Network
    at: dict[str, GatewayLife] = field(default_factory=dict)
    """By cluster."""
    breaks: float = BREAKS
    kills_at_calls: list[AtCall] = field(default_factory=list)
    """What is to happen at the next calls of callers, once each."""
    began: Counter[bytes] = field(default_factory=Counter)
    """How often an instance has begun with a call, by its body: what one caller sends is unlike what any other does."""

    def sent(self, cluster: str, *, is_awaited: bool) -> None:
        """The running process has sent a caller's call to an instance."""
        process = self.timeline.current
        assert process is not None
        for of in self.kills_at_calls:
            if of.site in ("", cluster) and not (is_awaited and of.is_unawaited):
                self.kills_at_calls.remove(of)
                of.strike(process)
                return

    def run(self, cluster: str, journal: SqliteJournal, publisher: Publisher, settings: Settings) -> None:
        """Be the gateway of a cluster, in the process that runs, for ever."""
        process = self.timeline.current
        assert process is not None
        loop = Loop(self.timeline)

        async def serve() -> None:
            gateway = Gateway(
                cluster,
                journal,
                publisher,
                WaitingCallers(),
                AnswerTo(address=cluster, key=str(process.life)),
                settings=settings.gateway,
                calls=settings.call,
            )
            await gateway.start()
            self.at[cluster] = GatewayLife(gateway, process, process.life, loop)
            await asyncio.Event().wait()

        loop.run_until_complete(serve())

    def take(self, to: AnswerTo, key: RequestKey, epoch: int, answer: Answer | Failed, done: Callable[[bool], None]) -> None:
        """As the listener for workers does, in the gateway's process; `done` is told whether the caller has got it."""
        served = self.at.get(to.address)
        if served is None or not served.is_there or str(served.life) != to.key:
            done(False)
            return

        def taken() -> None:
            waiting = served.gateway.callers.first(key)
            if waiting is None:
                done(False)
            elif isinstance(answer, Failed):
                done(waiting.ends(answer))
            else:
                passed_on = served.loop.create_future()
                passed_on.add_done_callback(lambda of: done(not of.cancelled() and of.result()))
                body: Any = Body(answer.body)
                answering = Answering(
                    epoch=epoch, status=answer.status, headers=[], body=body, length=len(answer.body), passed_on=passed_on
                )
                if not waiting.ends(answering):
                    done(False)

        served.ask(taken)


class SimulatedServiceCalls:
    """The calls of callers by one worker of a cluster."""

    def __init__(self, cluster: str, kubelets: Mapping[str, Kubelets], gateways: Gateways, dice: random.Random) -> None:
        self._cluster, self._kubelets, self._gateways, self._dice = cluster, kubelets, gateways, dice

    async def call(
        self,
        instance: InstanceState,
        work: LcWork,
        called: CalledWork,
        *,
        may_try_again: bool,
        over_tls: bool,
        timeout_s: float,
        answers: Callable[[], None],
        traceparent: str = "",
    ) -> Answered:
        """One exchange with the instance, and one with the gateway."""
        was_sent = was_passed_on = False

        def failed(reason: Reason, words: str) -> CallFailed:
            return CallFailed(words, reason=reason, was_sent=was_sent, was_passed_on=was_passed_on)

        timeline, network, there = self._gateways.timeline, self._gateways.network, work.node.cluster
        kubelets = self._kubelets[there]
        try:
            async with asyncio.timeout(timeout_s):
                with timeline.step(f"call of a caller {work.run_id}/{work.request_id}/{work.epoch}", 0.0):
                    pass
                if (closed_s := network.open_in_s(self._cluster, there)) > 0.0:
                    await asyncio.sleep(closed_s)
                await asyncio.sleep(network.latency_s(self._cluster, there))
                if instance.uid not in kubelets.running:
                    raise failed(Reason.INSTANCE_UNREACHABLE, f"instance {instance.pod} is not there")
                was_sent = True
                if instance.node in kubelets.hangs:
                    network.seen.add("node hangs")
                    await asyncio.sleep(kubelets.hangs[instance.node] - timeline.now_s)
                began_s = timeline.now_s
                self._gateways.began[called.call.body] += 1
                self._gateways.sent(self._cluster, is_awaited=called.answer_to is not None)
                await asyncio.sleep(work.cpu_work_s * self._dice.uniform(0.5, 2.0))
                if instance.uid not in kubelets.running or self._dice.random() < self._gateways.breaks:
                    raise failed(Reason.INSTANCE_UNREACHABLE, f"instance {instance.pod} went away")
                if network.loses_answer(self._cluster, there):
                    await asyncio.sleep(1e6)
                answers()
                status = 500 if self._dice.random() < FAILS else 200
                if may_try_again and status >= 500:
                    raise failed(Reason.SERVICE_ERROR, f"instance {instance.pod} answered {status}")
                answer = Answer(status=status, headers=(), body=b"answer to " + called.call.body, is_whole=True)
                if called.answer_to is not None:
                    was_passed_on = True
                    await self._pass_on(called.answer_to, work, answer)
                return Answered(started_at_s=began_s, finished_at_s=timeline.now_s, answer=answer)
        except TimeoutError as error:
            reason = Reason.ANSWER_CUT if was_passed_on else Reason.TIMED_OUT
            raise failed(reason, f"instance {instance.pod} was not done within {timeout_s:.1f} s") from error

    async def _pass_on(self, to: AnswerTo, work: LcWork, answer: Answer | Failed) -> None:
        """To the gateway of this cluster, until its caller has it or is gone, or it has died."""
        timeline = self._gateways.timeline
        mine, taken = timeline.current, asyncio.get_running_loop().create_future()
        assert mine is not None

        def done(is_taken: bool) -> None:
            timeline.at(timeline.now_s, lambda: None if taken.done() else taken.set_result(is_taken), mine)

        await asyncio.sleep(self._gateways.network.latency_s(self._cluster, self._cluster))
        with timeline.step(f"answer of {work.run_id}/{work.request_id}/{work.epoch}", 0.0):
            served = self._gateways.at.get(to.address)
            self._gateways.take(to, RequestKey(work.run_id, work.request_id), work.epoch, answer, done)
        while not taken.done():
            await asyncio.wait([taken], timeout=LOOK_S)
            if served is not None and not served.is_there:
                return

    async def tell_failed(self, called: CalledWork, work: LcWork, reason: Reason) -> None:
        """A hint."""
        if called.answer_to is not None:
            try:
                async with asyncio.timeout(2.0):
                    await self._pass_on(called.answer_to, work, Failed(reason=str(reason)))
            except TimeoutError:
                return

    async def close(self) -> None:
        """Nothing is open."""
