"""The way into the journal: what arrives within some milliseconds is one transaction there and one message on the broker.

Three threads of one cluster's. `accept` writes: SQLite has one writer at a time, and meanwhile the next arrivals gather. `keep` waits for
the disk for those who may come back with nothing but a key or a number: what they were told outlives a loss of power. Whoever waits for
his answer need not wait for the disk too. `tell` publishes: a broker that hangs keeps nobody from being accepted, for a message is a hint
and the keeper of the journal sends it again.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from tango.domain.calls import Accepted, CallerRequest, key_taken
from tango.domain.identity import RequestKey
from tango.domain.requests import Batch, Reason, batches_of
from tango.domain.services import ServiceClass
from tango.errors import BrokerUnavailable, StoreUnavailable, TangoError
from tango.gateway.tracing import GatewayTracing
from tango.gateway.waiting import Waiting, WaitingCallers
from tango.ports.callers import CallerRequests
from tango.ports.messages import Publisher
from tango.settings import GatewaySettings

log = structlog.get_logger(__name__)

WITHDRAWN_TOGETHER = 1000
"""Requests that one transaction withdraws at the most."""
OPENED_WITHIN_S, LOOK_S = 2.5, 0.1
"""Seconds that a caller waits for a live run to be opened, and between two looks. The agent asks the centre twice a second for one, and for
numbers right after; where it cannot reach the centre callers are told soon."""
KEPT_WITHIN_S = 10.0
"""Seconds that a caller waits for his request to have a row, and to be on the disk where it must be. The journal's own lock is waited for
half as long; a disk that takes longer hangs, and whoever waited on would hold one of the gateway's places for it."""
TELL_AGAIN_S = 1.0
"""Seconds between two tries to publish while the broker is away."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    request: CallerRequest
    accepted: asyncio.Future[Accepted]
    waiting: Waiting | None
    """None: nobody waits for the answer."""

    @property
    def must_be_kept(self) -> bool:
        """Whether the caller may come back for it: he has a key, or nothing but its number."""
        return self.waiting is None or bool(self.request.key)


_Pair = tuple[_Arrival, Accepted]


@dataclass(frozen=True, slots=True)
class _Withdrawal:
    key: RequestKey
    reason: Reason


class GatewayIntake:
    """The intake of one cluster's gateway. Its methods are called in the thread of the event loop."""

    def __init__(
        self,
        cluster: str,
        journal: CallerRequests,
        publisher: Publisher,
        callers: WaitingCallers,
        settings: GatewaySettings,
        tracing: GatewayTracing | None = None,
    ) -> None:
        self._cluster, self._journal, self._publisher, self._callers = cluster, journal, publisher, callers
        self._settings, self._tracing = settings, tracing
        self._loop = asyncio.get_running_loop()
        self._arrivals: queue.SimpleQueue[_Arrival | _Withdrawal | None] = queue.SimpleQueue()
        self._kept: queue.SimpleQueue[Sequence[_Pair] | None] = queue.SimpleQueue()
        self._told: queue.SimpleQueue[Sequence[Batch] | None] = queue.SimpleQueue()
        self.is_open = False
        """Whether the journal has accepted, and has not said since that no live run is open."""
        self.is_broker_away = False
        """Whether the last message could not be sent."""
        self._threads = [
            threading.Thread(target=work, name=f"{name}-{cluster}", daemon=True)
            for name, work in (("accept", self._accept), ("keep", self._keep), ("tell", self._tell))
        ]
        for thread in self._threads:
            thread.start()

    async def accept(self, request: CallerRequest, waiting: Waiting | None) -> Accepted:
        """Give the request its row. From before anybody is told of it on, `waiting` is in the room.

        A caller who hangs up meanwhile has his request withdrawn. Raises: KeyTaken, NotOpen, StoreUnavailable.
        """
        arrival = _Arrival(request, self._loop.create_future(), waiting)
        self._arrivals.put(arrival)
        try:
            async with asyncio.timeout(KEPT_WITHIN_S):
                return await arrival.accepted
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the journal of cluster {self._cluster} has not kept the request within {KEPT_WITHIN_S:g} s: its disk hangs; whether it "
                "will be served is not known, and under a key it may be sent again"
            ) from error

    async def opening(self) -> None:
        """Wait until a live run is open here, `OPENED_WITHIN_S` at the most: the first caller of all has one opened, and is served in
        it. Raises: StoreUnavailable."""
        until_s = self._loop.time() + OPENED_WITHIN_S
        while not await asyncio.to_thread(self._journal.opens) and self._loop.time() < until_s:
            await asyncio.sleep(LOOK_S)

    def withdraw(self, key: RequestKey, reason: Reason) -> None:
        """Nobody waits for this request any more, for this reason: it is cancelled soon."""
        self._arrivals.put(_Withdrawal(key, reason))

    def close(self) -> None:
        """Accept what has arrived and end all threads. Blocking."""
        self._arrivals.put(None)
        for thread in self._threads:
            thread.join(5.0)

    # ---- the thread that accepts

    def _accept(self) -> None:
        goes_on, began_s = True, -math.inf
        while goes_on:
            items = [self._arrivals.get()]
            # One transaction a window. Whoever comes after a pause is accepted at once, and who comes soon after him together.
            if (pause_s := began_s + self._settings.accept_window_s - time.monotonic()) > 0.0:
                time.sleep(pause_s)
            began_s = time.monotonic()
            while len(items) < self._settings.accept_limit and not self._arrivals.empty():
                items.append(self._arrivals.get())
            goes_on = None not in items
            self._withdraw([item for item in items if isinstance(item, _Withdrawal)])
            arrivals = [item for item in items if isinstance(item, _Arrival) and not item.accepted.cancelled()]
            if arrivals:
                self._write(arrivals)
        self._kept.put(None)

    def _write(self, arrivals: Sequence[_Arrival]) -> None:
        try:
            accepted = self._journal.accept([arrival.request for arrival in arrivals])
        except Exception as error:  # told to each caller, whatever it is: the thread serves those who come after them
            self.is_open = False
            if not isinstance(error, TangoError):
                log.exception("accept_broken", cluster=self._cluster)
            self._loop.call_soon_threadsafe(_fail, [arrival.accepted for arrival in arrivals], error)
            return
        self.is_open = True
        for arrival, of in zip(arrivals, accepted, strict=True):
            if arrival.waiting is not None and not of.is_taken:
                self._callers.enter(arrival.waiting, of.key, is_new=of.is_new)
        pairs = list(zip(arrivals, accepted, strict=True))
        new = [(of.key, arrival.request.call.headers) for arrival, of in pairs if of.is_new]
        if new and self._tracing is not None:
            self._tracing.accepted(new)
        if kept := [pair for pair in pairs if pair[0].must_be_kept]:
            self._kept.put(kept)
        if others := [pair for pair in pairs if not pair[0].must_be_kept]:
            self._go_on(others)

    def _go_on(self, pairs: Sequence[_Pair]) -> None:
        """Have these dispatched, and tell their callers."""
        new = [(*of.key, int(ServiceClass.LC), arrival.request.service, self._cluster) for arrival, of in pairs if of.is_new]
        if new:
            self._told.put(batches_of(new))
        self._loop.call_soon_threadsafe(self._accepted, pairs)

    def _withdraw(self, withdrawals: Sequence[_Withdrawal]) -> None:
        for reason in sorted({withdrawal.reason for withdrawal in withdrawals}):
            keys = [withdrawal.key for withdrawal in withdrawals if withdrawal.reason is reason]
            for begin in range(0, len(keys), WITHDRAWN_TOGETHER):
                try:
                    self._journal.withdraw(keys[begin : begin + WITHDRAWN_TOGETHER], reason=reason)
                except Exception as error:  # it is served in vain, or shed by its patience
                    log.warning("withdraw_failed", cluster=self._cluster, requests=len(keys), error=str(error))

    def _accepted(self, pairs: Sequence[_Pair]) -> None:
        """Tell the callers whose requests were accepted; called in the loop's thread."""
        for arrival, of in pairs:
            if of.is_taken:
                _fail([arrival.accepted], key_taken(arrival.request, of.key))
            elif not arrival.accepted.done():
                arrival.accepted.set_result(of)
            elif arrival.waiting is not None:
                # He hung up between the look and here. Whoever else waits for the same request goes on waiting.
                self._callers.leave(arrival.waiting)
                if not self._callers.is_awaited(of.key):
                    self.withdraw(of.key, arrival.waiting.left_for(at_s=self._loop.time()))
            elif not arrival.request.key:
                self.withdraw(of.key, Reason.CALLER_GONE)  # nobody was told its number, and nobody can come back for it

    # ---- the thread that waits for the disk

    def _keep(self) -> None:
        goes_on = True
        while goes_on:
            said = [self._kept.get()]
            while not self._kept.empty():
                said.append(self._kept.get())
            goes_on = None not in said
            pairs = [pair for part in said if part is not None for pair in part]
            try:
                if pairs:
                    self._journal.wait_for_disk()
            except Exception as error:  # it may be lost yet; who has a key comes back for it
                log.error("accepted_and_not_on_disk", cluster=self._cluster, requests=len(pairs), error=str(error))
                self._loop.call_soon_threadsafe(_fail, [arrival.accepted for arrival, _ in pairs], error)
                for arrival, of in pairs:
                    if arrival.waiting is None and not arrival.request.key:
                        self._arrivals.put(_Withdrawal(of.key, Reason.CALLER_GONE))
            else:
                self._go_on(pairs)
        self._told.put(None)

    # ---- the thread that publishes

    def _tell(self) -> None:
        goes_on, untold = True, list[Batch]()
        while goes_on:
            said = [self._told.get()]
            while not self._told.empty():
                said.append(self._told.get())
            goes_on = None not in said
            untold = [batch for batches in said if batches is not None for batch in batches]
            while untold and not self._is_told(untold) and goes_on:
                # What comes meanwhile waits: the keeper publishes it again once the broker is back, as it does with this.
                time.sleep(TELL_AGAIN_S)

    def _is_told(self, batches: Sequence[Batch]) -> bool:
        began_s = time.time()
        try:
            self._publisher.arrivals(batches)
        except BrokerUnavailable as error:
            if not self.is_broker_away:
                log.warning("broker_away", cluster=self._cluster, error=str(error))
            self.is_broker_away = True
            return False
        except Exception:  # the keeper finds what was not told
            log.exception("tell_broken", cluster=self._cluster)
        self.is_broker_away = False
        if self._tracing is not None:
            self._tracing.published(batches, began_s=began_s)
        return True


def _fail(futures: Sequence[asyncio.Future[Accepted]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
