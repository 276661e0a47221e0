"""Callers of a chaos world: each sends one request to the gateway of a cluster, by the gateway's own code beneath its HTTP, and may try
again, hang up, or not wait at all. What each was told is held to what the stores have in the end."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tango.domain.calls import Answer, Call, CallStanding, asked_of
from tango.domain.identity import RequestKey
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import NotOpen, StoreUnavailable
from tango.gateway.asking import asked
from tango.gateway.gateway import Gateway
from tango.gateway.problems import Problem
from tango.gateway.waiting import Answering, Failed
from tests.chaos.gateways import LOOK_S, Gateways
from tests.chaos.host import Loop
from tests.chaos.timeline import Machine, Process

if TYPE_CHECKING:
    from tests.chaos.world import World

TRIES = 30
"""How often a caller with a key sends his request at the most; without one he does so only where it was not accepted for certain."""
PAUSE_S = 2.0
"""Seconds between two tries."""
LATE_S = 3.0
"""Seconds beyond a caller's time within which he is told so, of a gateway that is well."""
SERVED = ("answer", "accepted", "problem timed-out", "problem overloaded", "ended shed", "ended cancelled caller-timed-out")
"""How it may end when all is well: his time may be over, since few calls at once are allowed in some worlds, and all rhythms are slow."""
REFUSED = ("journal-away", "broker-away", "no-instance", "overloaded", "unknown-service")
"""Problems with which nothing is kept of a request."""


@dataclass(slots=True)
class Caller:
    """What one caller wants, and what he was told."""

    at_s: float
    cluster: str
    service: str
    body: bytes
    key: str
    is_repeatable: bool
    waits: bool
    hangs_up_after_s: float
    told: list[RequestKey] = field(default_factory=list)
    """Numbers of his request: more than one, and he has more than one request."""
    outcome: str = ""
    """How it ended for him."""
    ended_s: float = 0.0
    began_s: float = 0.0
    """When his last try began."""


@dataclass(frozen=True, slots=True)
class Told:
    """What comes back over a caller's connection."""

    words: str
    may_be_kept: bool = True
    """Whether his request may have been accepted."""


LOST = Told("connection lost")


@dataclass(slots=True)
class Callers:
    """All callers of a world. They live on no machine that falls."""

    world: World
    gateways: Gateways
    everyone: list[Caller] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)

    def begin(self, number: int, until_s: float, dice: random.Random) -> None:
        """Draw so many, who come until then."""
        timeline = self.world.timeline
        for k in range(number):
            cluster = dice.choice(self.world.fleet.clusters).name
            has_key, waits = dice.random() < 0.6, dice.random() < 0.8
            caller = Caller(
                at_s=dice.uniform(15.0, until_s),
                cluster=cluster,
                service=dice.choice(("web", "chat")),
                body=f"of caller {k}".encode(),
                key=f"key {k}" if has_key else "",
                is_repeatable=dice.random() < 0.5,
                waits=waits,
                hangs_up_after_s=dice.uniform(0.0, 1.0) if waits and dice.random() < 0.1 else float("inf"),
            )
            self.everyone.append(caller)
        for cluster in self.world.fleet.clusters:
            mine = [caller for caller in self.everyone if caller.cluster == cluster.name]
            process = Process(f"callers of {cluster.name}", Machine(cluster.name), timeline, self._life_of(mine))
            timeline.at(timeline.now_s, process.start)

    def _life_of(self, mine: list[Caller]) -> Callable[[], None]:
        def begin() -> None:
            loop = Loop(self.world.timeline)

            async def all_of_them() -> None:
                await asyncio.gather(*(self._live(caller) for caller in mine))

            loop.run_until_complete(all_of_them())

        return begin

    async def _live(self, caller: Caller) -> None:
        await asyncio.sleep(caller.at_s)
        for _ in range(TRIES):
            caller.began_s = self.world.timeline.now_s
            told = await self._sent(caller)
            caller.outcome, caller.ended_s = told.words, self.world.timeline.now_s
            if told.words in ("hung up", "accepted") or told.words.startswith(("answer", "ended", "failed")):
                break
            if told.may_be_kept and not caller.key:
                break  # it may be under way, and must not be sent twice
            await asyncio.sleep(PAUSE_S)
        self.outcomes[caller.outcome] += 1

    async def _sent(self, caller: Caller) -> Told:
        """One connection to the gateway."""
        timeline, network = self.world.timeline, self.world.network
        process = timeline.current
        assert process is not None
        await asyncio.sleep(network.latency_s(caller.cluster, caller.cluster))
        served = self.gateways.at.get(caller.cluster)
        if served is None or not served.is_there:
            return Told("nobody listens", may_be_kept=False)
        back: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        task: list[asyncio.Task[Told]] = []

        def told(found: Told) -> None:
            timeline.at(timeline.now_s, lambda: None if back.done() else back.set_result(found), process)

        def ended(of: asyncio.Task[Told]) -> None:
            if of.cancelled():
                return
            if (error := of.exception()) is not None:
                timeline.failure = timeline.failure or error
            else:
                told(of.result())

        def connect() -> None:
            task.append(asyncio.Task(_served(served.gateway, caller), loop=served.loop))
            task[0].add_done_callback(ended)

        served.ask(connect)
        until_s = timeline.now_s + caller.hangs_up_after_s
        while not back.done():
            await asyncio.wait([back], timeout=min(LOOK_S, max(0.0, until_s - timeline.now_s)))
            if not served.is_there:
                return LOST
            if timeline.now_s >= until_s and not back.done():
                served.ask(lambda: task[0].cancel() if task else None)
                return Told("hung up")
        return back.result()

    # ---- what must hold ------------------------------------------------------------------------------------------------

    def check(self, quiet_from_s: float) -> None:
        """At the end. `quiet_from_s`: from when on every caller is served."""
        checks, centre = self.world.checks, self.world.centre.state
        whose: dict[RequestKey, Caller] = {}
        for caller in self.everyone:
            name = caller.body.decode()
            # What a journal has not shipped is lost with it; of what has no key, and is waited for, the last moments with the power.
            came_at_s = self.world.began_s + caller.at_s
            is_lost = checks.has_lost(caller.cluster, told_at_s=came_at_s)
            may_be_gone = is_lost or (caller.waits and not caller.key and checks.was_cut(caller.cluster, told_at_s=came_at_s))
            if not caller.outcome:
                checks.fail(f"the request {name} (at {caller.at_s:.0f} s) has come to no end for him")
            if len(set(caller.told)) > 1 and not is_lost:
                checks.fail(f"the request {name} has the numbers {sorted(set(caller.told))}")
            if not caller.is_repeatable and self.gateways.began[caller.body] > 1 and not is_lost:
                checks.fail(f"the request {name} must not be repeated, and an instance began with it twice ({caller.told})")
            for key in set(caller.told):
                if whose.setdefault(key, caller) is not caller:
                    checks.fail(f"the requests {name} and {whose[key].body.decode()} both have the number {key}")
                rows = list(centre.requests(key.run_id, [key.request_id]))
                if not rows and may_be_gone:
                    continue
                if not rows:
                    checks.fail(f"the request {name} was accepted as {key}, and the centre has no such row")
                elif rows[0].service != caller.service or rows[0].cluster != caller.cluster:
                    checks.fail(f"the request {name} was accepted as {key}, which is another's")
            is_quiet = caller.began_s > quiet_from_s and caller.hangs_up_after_s == float("inf")
            if is_quiet and not caller.outcome.startswith(SERVED):
                checks.fail(f"the request {name} came when all was well for long, and ended so: {caller.outcome}")


async def _served(gateway: Gateway, caller: Caller) -> Told:
    """What the gateway does with him, in its own loop: `ServiceRoutes.serve` without HTTP."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    try:
        service = await gateway.as_known(lambda: gateway.view.lc_service(caller.service, tenant=DEFAULT_TENANT))
        sent = asked_of(
            service,
            Call(method="POST", path="/", body=caller.body, is_repeatable=caller.is_repeatable),
            tenant=DEFAULT_TENANT,
            target_s=None,
            timeout_s=None,
            else_targets=gateway.calls.give_up_after_targets if caller.waits else float("inf"),
            answer_to=gateway.answer_to if caller.waits else None,
            key=caller.key,
        )
        if caller.waits:
            await gateway.require_hope(service, patience_s=sent.patience_s)
        if not gateway.intake.is_open:
            await gateway.intake.opening()
            began_s = loop.time()
        if not caller.waits:
            accepted = await gateway.intake.accept(sent, None)
            caller.told.append(accepted.key)
            return Told("accepted")
        until_s = began_s + sent.patience_s
        async with asked(gateway, sent, patience_s=sent.patience_s, until_s=until_s, told=caller.told.append) as ended:
            return _outcome(caller, ended.outcome)
    except (NotOpen, StoreUnavailable) as error:
        # A transaction whose answer was lost may have been done.
        return Told(f"refused: {type(error).__name__}", may_be_kept=not isinstance(error, NotOpen))
    except Problem as problem:
        word, _, _ = problem.trouble.value
        return Told(f"problem {word}", may_be_kept=word not in REFUSED)


def _outcome(caller: Caller, outcome: Any) -> Told:
    match outcome:
        case Answering(body=body, status=status):
            assert body.content == b"answer to " + caller.body, f"{caller.body!r} got {body.content!r}"
            outcome.passed_on.set_result(True)
            return Told(f"answer {status}")
        case Answer(body=body, status=status):
            assert body == b"answer to " + caller.body, f"{caller.body!r} got {body!r}"
            return Told(f"answer {status}, kept")
        case CallStanding(state=state, reason=reason):
            return Told(f"ended {state} {reason}".rstrip())
        case Failed(reason=reason):
            return Told(f"failed {reason}")
    raise AssertionError(outcome)
