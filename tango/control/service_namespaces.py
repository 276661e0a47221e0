"""The namespaces of services: watched as long as anything of Tango's may run there, and told of where their owners do not allow it.

A namespace that no declaration names any more is watched on: what runs there must stay seen, so that it is settled and removed. The centre
remembers which there were (`FleetStore.namespaces`). What may not be seen in one is its services' matter: they are refused there, and the
cluster goes on with all others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import structlog

from tango.control.lc_instances import ROLE
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.services import Service
from tango.errors import ClusterError, StoreError, StoreUnavailable
from tango.ports.clusters import ClusterWatch
from tango.ports.fleet import FleetStore
from tango.ports.refusals import RefusalStore

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
"""Seconds between two looks at which namespaces may be watched; nothing is asked of the cluster for it. Chosen, not measured."""
BEGIN_WITHIN_S = 5.0
"""Seconds that an agent which begins waits for the first lists of these namespaces, so that it does not tell at first that nothing runs
there."""


class ServiceNamespaces:
    """Those of one cluster, in one agent. `look` is a step of the agent, to be repeated every `LOOK_EVERY_S`."""

    def __init__(
        self, cluster: str, watch: ClusterWatch, fleet: FleetStore, refusals: RefusalStore, *, store_turn: asyncio.Lock
    ) -> None:
        """Who holds `store_turn` writes to the centre."""
        self._cluster, self._watch, self._fleet, self._refusals, self._store_turn = cluster, watch, fleet, refusals, store_turn
        self._services: tuple[Service, ...] = ()
        self._must_ask = True
        """Whether the centre may know of namespaces that this agent does not: at first, and after each change of declarations."""
        self._told: dict[str, ClusterError] = {}
        """By service, what the centre was told last."""

    async def begin(self, services: Sequence[Service]) -> None:
        """Watch what is known to be there, by the services that the journal has and by the centre where that answers in time."""
        self.follow(services)
        with contextlib.suppress(TimeoutError, StoreUnavailable, StoreError):
            async with asyncio.timeout(BEGIN_WITHIN_S):
                await self._ask()
                await self._watch.synced()

    def follow(self, services: Sequence[Service]) -> None:
        """Take these declarations as the ones that hold from now on."""
        if tuple(services) != self._services:
            self._services, self._must_ask = tuple(services), True
            self._watch.adopt({s.name: s.adopt for s in services if s.adopt is not None})
            self._watch.watch_namespaces({s.namespace for s in services if s.namespace})

    async def look(self) -> None:
        """Tell which services are refused because their namespace may not be watched, at each try, and which are no longer."""
        if self._must_ask:
            await self._ask()
        unseen = self._watch.unseen()
        refused = {
            s.name: error
            for s in self._services
            if (error := unseen.get(_namespace(s))) is not None and error.refusal and RefusalKind(error.refusal).is_of_namespace
        }
        new = {name: error for name, error in refused.items() if self._told.get(name) is not error}
        over = self._told.keys() - refused.keys()
        if not (new or over):
            return
        noted = [
            Refusal.of(
                RefusalKind(error.refusal),
                cluster=self._cluster,
                service=name,
                namespace=error.namespace,
                words=error.words or str(error),
            )
            for name, error in new.items()
        ]

        def write() -> None:
            if over:
                self._refusals.clear(self._cluster, sorted(over), role=ROLE)
            self._refusals.note(noted, role=ROLE)

        async with self._store_turn:
            await asyncio.to_thread(write)
        for name in new.keys() - self._told.keys():
            log.warning("namespace_refused", cluster=self._cluster, service=name, words=new[name].words)
        self._told = refused

    async def _ask(self) -> None:
        async with self._store_turn:
            known = await asyncio.to_thread(self._fleet.namespaces)
        self._watch.watch_namespaces(known)
        self._must_ask = False


def _namespace(service: Service) -> str:
    return service.adopt.namespace if service.adopt is not None else service.namespace
