"""Sessions of the role that may only read, which must not last: a transaction that is open keeps PostgreSQL from cleaning up behind it."""

from __future__ import annotations

from tango.store.database import Database
from tango.store.roles import READER

READER_LONGEST_S = 3600.0
"""Seconds of a transaction of the reader's, after which its session is ended, whatever time-out it has given itself; as long as the longest
that `tango sql --timeout` allows."""

_END = f"""
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = '{READER}' AND now() - xact_start > %s * interval '1 s'
  AND EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}' AND pg_has_role(oid, 'USAGE'))
"""


class PostgresReaders:
    """The reader's sessions on PostgreSQL. On a server without that role there are none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def end_overlong(self, *, longest_s: float = READER_LONGEST_S) -> int:
        """End the reader's sessions whose transaction lasts longer than this; gives how many. Safe to repeat.

        Raises: StoreUnavailable, StoreError.
        """
        ((ended,),) = self._database.rows(_END, (longest_s,))
        return int(ended)
