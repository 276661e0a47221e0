"""One cluster's gateway: what its parts share, and the tasks that keep it up to date."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

import structlog

from tango import progress
from tango.domain.calls import AnswerTo
from tango.domain.services import Service, ServiceClass
from tango.domain.tokens import KnownToken
from tango.errors import TangoError
from tango.gateway.door import Door
from tango.gateway.headers import AnyHeaders
from tango.gateway.intake import GatewayIntake
from tango.gateway.lookout import Lookout
from tango.gateway.outlook import Outlook
from tango.gateway.problems import Problem, Trouble
from tango.gateway.tracing import GatewayTracing
from tango.gateway.view import ClusterView, GatewayJournal, view_of
from tango.gateway.waiting import WaitingCallers
from tango.ports.messages import Publisher
from tango.settings import CallSettings, GatewaySettings

log = structlog.get_logger(__name__)

VIEW_MAX_AGE_S = 10.0
"""Seconds after which what is known of the cluster is too old to say that the gateway is ready: its journal cannot be read."""
SEE_AGAIN_S = 0.05
"""Seconds between two readings for callers who miss something: whoever guesses tokens has the journal read no more often than this."""
IDLE_AFTER_S = 5.0
"""Seconds without a request after which what is known of the cluster is read less often."""
_MAY_HAVE_COME = {
    Trouble.UNAUTHORIZED,
    Trouble.UNKNOWN_SERVICE,
    Trouble.NOT_YOUR_SERVICE,
    Trouble.JOURNAL_AWAY,
    Trouble.NO_INSTANCE,
}
"""What is missing and may have come since the cluster was read: a token, a service, leave to use it, all services, an instance."""
T = TypeVar("T")


class Gateway:
    """The gateway of one cluster, within the running event loop. Call `start` once, then `stop`."""

    def __init__(
        self,
        cluster: str,
        journal: GatewayJournal,
        publisher: Publisher,
        callers: WaitingCallers,
        answer_to: AnswerTo,
        *,
        settings: GatewaySettings,
        calls: CallSettings,
        tracing: GatewayTracing | None = None,
    ) -> None:
        """`tracing` makes the spans of calls; None: nobody wants any."""
        self.cluster, self.journal, self.callers, self.answer_to = cluster, journal, callers, answer_to
        self.settings, self.calls = settings, calls
        self.door = Door(settings)
        self.outlook = Outlook()
        self.lookout = Lookout(cluster, journal, settings)
        self.tracing = tracing
        self.intake = GatewayIntake(cluster, journal, publisher, callers, settings, tracing)
        self.view = ClusterView()
        self.is_stopping = False
        self._seen_at_s = self._looked_at_s = -VIEW_MAX_AGE_S
        self._seeing = asyncio.Lock()
        """Held by whoever reads the cluster, so that what was read first is not taken for what is known last."""
        self._asked_at_s = -IDLE_AFTER_S
        """When a request was last looked at, on the loop's clock."""
        self._is_called = asyncio.Event()
        """Set by a request that comes after a pause."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read what is known of the cluster, and keep it up to date."""
        await self._see()
        self._tasks = [asyncio.create_task(work) for work in (self._keep_seeing(), self.lookout.run())]

    async def drain(self) -> None:
        """Take nobody new, and wait for those who are inside, `GatewaySettings.drain_s` at the most."""
        self.is_stopping = True
        until_s = asyncio.get_running_loop().time() + self.settings.drain_s
        while self.door.inside and asyncio.get_running_loop().time() < until_s:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """End its tasks and threads; what has arrived is accepted before."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self.intake.close)

    @property
    def is_seeing(self) -> bool:
        """Whether what it knows of the cluster is of the last seconds."""
        return asyncio.get_running_loop().time() - self._seen_at_s < VIEW_MAX_AGE_S

    async def as_known(self, ask: Callable[[], T]) -> T:
        """What `ask` gives by what is known of the cluster, which is read again first where that lacks something that may just have come.

        So whoever was told that an instance is ready, or a service declared, finds it here. Raises: Problem as `ask`.
        """
        try:
            return ask()
        except Problem as problem:
            if problem.trouble not in _MAY_HAVE_COME:
                raise
        await self._see_anew()
        return ask()

    async def caller(self, headers: AnyHeaders, *, wants: ServiceClass | None = None) -> KnownToken:
        """The token of the caller. Raises: Problem as `Door.caller`."""
        return await self.as_known(lambda: self.door.caller(headers, wants=wants))

    async def require_hope(self, service: Service, *, patience_s: float) -> None:
        """Raises: Problem where a request that is waited for so long would be in vain."""
        again_s, self._asked_at_s = self.settings.retry_after_s, asyncio.get_running_loop().time()
        self._is_called.set()
        if self.intake.is_broker_away:
            raise Problem(
                Trouble.BROKER_AWAY, "no worker can be told of a request, since the broker does not answer", retry_after_s=again_s
            )
        await self.as_known(lambda: self._require_instance(service))
        now_s = asyncio.get_running_loop().time()
        cores = self.view.cores.get(service.name, 0.0)
        wait_s = self.outlook.wait_s(service.name, at_s=now_s, work_s=service.cpu_work_s, cores=cores)
        if wait_s > patience_s:
            raise Problem(
                Trouble.OVERLOADED,
                f"what waits for {service.name} takes longer than this request would be waited for, {patience_s:g} s",
                retry_after_s=min(max(again_s, wait_s - patience_s), 60.0),
                service=service.name,
            )

    def _require_instance(self, service: Service) -> None:
        if not self.view.ready[service.name]:
            raise Problem(
                Trouble.NO_INSTANCE,
                f"no instance of {service.name} is ready, and nothing was kept; `tango service show {service.name}` tells why",
                retry_after_s=self.settings.retry_after_s,
                service=service.name,
            )

    async def _see_anew(self) -> None:
        """Read the cluster, as it is now or later, with all others who want it read."""
        wanted_s = asyncio.get_running_loop().time()
        async with self._seeing:
            if self._looked_at_s > wanted_s:
                return
            await asyncio.sleep(self._looked_at_s + SEE_AGAIN_S - wanted_s)
            await self._see()

    async def _see(self) -> None:
        self._looked_at_s = asyncio.get_running_loop().time()
        try:
            self.view = await asyncio.to_thread(view_of, self.journal)
        except TangoError as error:
            log.warning("view_failed", cluster=self.cluster, error=str(error))
        except Exception:  # what was seen before still holds
            log.exception("view_broken", cluster=self.cluster)
        else:
            self.door.know(self.view.tokens)
            self._seen_at_s = asyncio.get_running_loop().time()

    async def _keep_seeing(self) -> None:
        loop = f"view of {self.cluster}"
        try:
            while True:
                progress.turned(loop)
                if asyncio.get_running_loop().time() - self._asked_at_s > IDLE_AFTER_S:
                    self._is_called.clear()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self.settings.view_idle_s):
                            await self._is_called.wait()
                await asyncio.sleep(self.settings.view_every_s)
                async with self._seeing:
                    await self._see()
        finally:
            progress.over(loop)
