"""Named leases with fencing epochs: implements `tango.ports.leases.LeaseStore`.

A lease is a row and not an advisory lock, because locks of a session break behind a connection pooler such as PgBouncer.
"""

from __future__ import annotations

from tango.ports.leases import Fence
from tango.store.database import Database


class PostgresLeaseStore:
    """Leases; their times are those of the database's clock alone, so clocks of hosts need not agree."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, *, owner: str, ttl_s: float) -> Fence | None:
        """Take or renew a lease for `ttl_s` seconds; None while somebody else holds it. The epoch rises with each change of owner."""
        found = self._database.rows(
            """
            INSERT INTO lease AS l (name, owner, epoch, expires_at)
            VALUES (%(name)s, %(owner)s, 1, now() + %(ttl)s * interval '1 s')
            ON CONFLICT (name) DO UPDATE SET
                owner = excluded.owner, expires_at = excluded.expires_at,
                epoch = l.epoch + (l.owner <> excluded.owner)::int
            WHERE l.owner = excluded.owner OR l.expires_at < now()
            RETURNING epoch
            """,
            {"name": name, "owner": owner, "ttl": ttl_s},
        )
        return Fence(name=name, owner=owner, epoch=found[0][0]) if found else None

    def release(self, fence: Fence) -> None:
        """End a lease now, if this fence still holds it."""
        self._database.execute(
            "UPDATE lease SET expires_at = now() - interval '1 s' WHERE name = %s AND owner = %s AND epoch = %s",
            (fence.name, fence.owner, fence.epoch),
        )

    def forget(self, prefix: str, *, idle_s: float) -> int:
        """Delete the rows of leases of this prefix that nobody has held for so long."""
        return self._database.execute(
            "DELETE FROM lease WHERE starts_with(name, %s) AND expires_at < now() - %s * interval '1 s'", (prefix, idle_s)
        )
