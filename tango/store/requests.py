"""The states of BE requests: implements `tango.ports.requests.BeRequests`. Those of LC are in journals (`tango.store.shares`).

Every method is one claimed statement per run (so that PostgreSQL touches one partition), arrays in and arrays out: it locks the rows
in which its event can happen, in the one order of `tango.store.lifecycle_sql`, and updates those. Where many rows come it works in
chunks of `StoreSettings.chunk_rows`, a transaction each. An epoch is raised when a row is given to a cluster (placement); whatever
comes back carries that epoch and counts only while the row is still in flight under it.
"""

from __future__ import annotations

from tango.settings import JobSettings, LeaseSettings, StoreSettings
from tango.store.attempts import StoreAttempts
from tango.store.be_requests import BeRequests
from tango.store.be_tracks import BeTracks
from tango.store.database import Database
from tango.store.releases import Releases


class PostgresRequestStore(Releases, BeRequests, StoreAttempts, BeTracks):
    """The request store on PostgreSQL: every method takes and returns many rows, and may be called from any thread or process."""

    def __init__(
        self, database: Database, lease: LeaseSettings, store: StoreSettings | None = None, job: JobSettings | None = None
    ) -> None:
        StoreAttempts.__init__(self, database, lease, store or StoreSettings())
        self._job = job or JobSettings()
