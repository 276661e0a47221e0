"""PostgreSQL's stores of one process, built lazily: no network library, no compiled policy, no torch is imported for them."""

from __future__ import annotations

import functools
import os
import socket

import numpy as np

from tango.bootstrap.clock import SystemClock
from tango.bootstrap.environment import read_settings
from tango.control.run_facts import RunFacts
from tango.domain.runs import NewRequests
from tango.errors import DependencyError, UsageError
from tango.settings import Settings
from tango.stack.state import state_home
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tango.store.events import PostgresEventLog
from tango.store.fleet import PostgresFleetStore
from tango.store.leases import PostgresLeaseStore
from tango.store.requests import PostgresRequestStore
from tango.store.run_records import PostgresRunRecords
from tango.store.runs import PostgresRunStore
from tango.store.simulations import PostgresSimulationStore


class Stores:
    """Everything that is kept, by the application's role."""

    def __init__(self, settings: Settings) -> None:
        """Raises: DependencyError when nothing says where the database and the broker are."""
        if not settings.database_url or not settings.broker_url:
            raise DependencyError(
                f"no running stack was found in {state_home(os.environ)} and TANGO_DATABASE_URL or TANGO_BROKER_URL is not set; "
                "start one with `tango up --detach`"
            )
        self.settings = settings
        self.database = Database(settings.database_url)
        self.runs = PostgresRunStore(self.database, settings.store)
        self.requests = PostgresRequestStore(self.database, settings.lease, settings.store)
        self.leases = PostgresLeaseStore(self.database)
        self.fleet = PostgresFleetStore(self.database)
        self.events = PostgresEventLog(self.database)
        self.records = PostgresRunRecords(self.database)
        self.simulations = PostgresSimulationStore(self.database)
        self.checkpoints = PostgresCheckpointStore(self.database)
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        """This process, as leases and rows name it."""
        self.clock = SystemClock()
        self.run_facts = RunFacts(self.runs, self.clock)

    def require_fleet(self, requests: NewRequests) -> None:
        """Check that the clusters and services of a run exist here. Raises: UsageError naming those that do not."""
        for kind, wanted, index, known in (
            ("cluster", requests.clusters, requests.cluster, {c.name for c in self.fleet.clusters()}),
            ("service", requests.services, requests.service, {s.name for s in self.fleet.services()}),
        ):
            unknown = sorted({wanted[k] for k in np.unique(index)} - known)
            if unknown:
                raise UsageError(
                    f"this stack has no {kind} {', '.join(unknown)}; it has: {', '.join(sorted(known))}. "
                    "Start the fleet that the run is for with `tango up --fleet`, or leave --fleet away."
                )


@functools.cache
def stores() -> Stores:
    """This process's stores, built at the first call."""
    return Stores(read_settings())
