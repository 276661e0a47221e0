"""How far the CPUs of hosts were used while runs went on."""

from __future__ import annotations

from tango.domain.host_use import HostUse
from tango.store.database import Database

KEPT_DAYS = 30
"""Days that samples are kept. The figures of runs that have ended have what was seen."""


class PostgresHostSamples:
    """Appends to `host_sample`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, use: HostUse) -> None:
        """Append a sample, with the time of the database. Raises: StoreUnavailable."""
        self._database.execute("INSERT INTO host_sample (host, used, stolen) VALUES (%s, %s, %s)", tuple(use))

    def drop_old(self) -> int:
        """Delete what is older than `KEPT_DAYS`; gives how many rows. Raises: StoreUnavailable."""
        return self._database.execute("DELETE FROM host_sample WHERE at < now() - %s * interval '1 day'", (KEPT_DAYS,))
