"""The states of requests: implements `tango.ports.RequestStore`.

Every method is one claimed `UPDATE … WHERE state IN (…)` per run (so that PostgreSQL touches one partition), arrays in and arrays
out. An epoch is raised when a row is given to a cluster (dispatch or placement); whatever comes back carries that epoch and counts
only while the row is still live under it.
"""

from __future__ import annotations

from tango.settings import LeaseSettings
from tango.store.attempts import Attempts
from tango.store.be_requests import BeRequests
from tango.store.database import Database
from tango.store.lc_requests import LcRequests
from tango.store.releases import Releases


class PostgresRequestStore(Releases, LcRequests, BeRequests, Attempts):
    """Claims and settles requests in bulk."""

    def __init__(self, database: Database, lease: LeaseSettings) -> None:
        Attempts.__init__(self, database, lease)
