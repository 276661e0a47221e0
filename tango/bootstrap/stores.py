"""The stores of one process, on PostgreSQL. They import no HTTP client, compiled policy or torch, so that commands start quickly.

The stores of what a run has recorded are imported when they are first asked for: Arrow, by which they read and write columns, is a
tenth of a second and forty megabytes that an agent, a cluster worker or a replayer never uses.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
from typing import TYPE_CHECKING

import structlog

from tango.bootstrap.clock import SystemClock
from tango.bootstrap.environment import configure_logging, read_settings
from tango.control.run_facts import RunFacts
from tango.errors import DependencyError
from tango.settings import Settings
from tango.stack.state import state_home
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tango.store.events import PostgresEventLog
from tango.store.fleet import PostgresFleetStore
from tango.store.jobs import PostgresJobStore
from tango.store.leases import PostgresLeaseStore
from tango.store.live_runs import PostgresLiveRuns
from tango.store.readers import PostgresReaders
from tango.store.refusals import PostgresRefusals
from tango.store.requests import PostgresRequestStore
from tango.store.run_figures import PostgresFiguresStore
from tango.store.runs import PostgresRunStore
from tango.store.shares import PostgresShareStore
from tango.store.tenants import PostgresTenants
from tango.store.tokens import PostgresTokenStore

if TYPE_CHECKING:
    from tango.control.explaining import Explainer
    from tango.store.live_view import PostgresLiveView
    from tango.store.operator_actions import PostgresOperatorActions
    from tango.store.run_lists import PostgresRunLists
    from tango.store.run_records import PostgresRunRecords
    from tango.store.simulations import PostgresSimulationStore


class Stores:
    """All stores, connected as the application's role."""

    def __init__(self, settings: Settings, *, deadline_s: float | None = None) -> None:
        """`deadline_s`: seconds in which one transaction has to be done, where that is less than `Database` allows.

        Raises: DependencyError when nothing says where the database is.
        """
        if not settings.database_url:
            raise DependencyError(
                f"no running stack was found in {state_home(os.environ)} and TANGO_DATABASE_URL is not set; start one with `tango up "
                "--detach`, or its database alone, to look at runs of before, with `tango up --detach --only store`"
            )
        self.settings = settings
        self.database = Database(settings.database_url, **({} if deadline_s is None else {"deadline_s": deadline_s}))
        self.runs = PostgresRunStore(self.database, settings.store)
        self.requests = PostgresRequestStore(self.database, settings.lease, settings.store, settings.job)
        self.live_runs = PostgresLiveRuns(self.database, delete=self.runs.delete)
        self.jobs = PostgresJobStore(self.database, settings.lease)
        self.shares = PostgresShareStore(self.database, settings.sharing, settings.lease)
        self.figures = PostgresFiguresStore(self.database)
        self.refusals = PostgresRefusals(self.database, settings.refusal)
        self.readers = PostgresReaders(self.database)
        self.leases = PostgresLeaseStore(self.database)
        self.fleet = PostgresFleetStore(self.database, settings.sharing, settings.lease)
        self.events = PostgresEventLog(self.database)
        self.tokens = PostgresTokenStore(self.database)
        self.tenants = PostgresTenants(self.database)
        self.checkpoints = PostgresCheckpointStore(self.database)
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        """`HOST:PID`, the name of this process in leases and rows."""
        self.clock = SystemClock()
        self.run_facts = RunFacts(self.runs, self.clock)

    @functools.cached_property
    def records(self) -> PostgresRunRecords:
        """What runs have recorded, as columns."""
        from tango.store.run_records import PostgresRunRecords

        return PostgresRunRecords(self.database)

    @functools.cached_property
    def explainer(self) -> Explainer:
        """Why requests, jobs, pods and nodes are as they are."""
        from tango.control.explaining import Explainer
        from tango.store.explanations import PostgresExplanations

        return Explainer(
            store=PostgresExplanations(self.database, self.fleet, self.settings.lease),
            requests=self.requests,
            refusals=self.refusals,
            tenants=self.tenants,
            be=self.settings.be,
            node_agent=self.settings.node_agent,
            kept=self.settings.explain,
        )

    @functools.cached_property
    def run_lists(self) -> PostgresRunLists:
        """Runs and requests as commands list them."""
        from tango.store.run_lists import PostgresRunLists

        return PostgresRunLists(self.database)

    @functools.cached_property
    def operator_actions(self) -> PostgresOperatorActions:
        """What people changed in the console."""
        from tango.store.operator_actions import PostgresOperatorActions

        return PostgresOperatorActions(self.database)

    @functools.cached_property
    def live_view(self) -> PostgresLiveView:
        """The fleet as it is now, for people who watch it."""
        from tango.store.live_view import PostgresLiveView

        return PostgresLiveView(self.database, self.settings.lease)

    @functools.cached_property
    def simulations(self) -> PostgresSimulationStore:
        """Cells of comparisons that workers compute."""
        from tango.store.simulations import PostgresSimulationStore

        return PostgresSimulationStore(self.database)


@functools.cache
def stores() -> Stores:
    """The stores of this process, built at the first call. Raises: DependencyError, ConfigError.

    A process that has not set logging up is a command: what it logs goes to standard error, where it does not stand among results.
    """
    if not structlog.is_configured():
        configure_logging(logging.WARNING)
    return Stores(read_settings())
