"""Tenants: implements `tango.ports.tenants.TenantStore`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg2.extras import Json

from tango.domain.lifecycle import Event
from tango.domain.near_names import near_name
from tango.domain.state_lists import IN_FLIGHT_STATES
from tango.domain.tenants import Tenant, TenantUse
from tango.errors import UsageError
from tango.store.database import Database
from tango.store.lifecycle_sql import HOLDING_RUNS, OPEN_RUNS, before
from tango.store.rows import insert

_DECLARED = "SELECT name, weight, quota, most_jobs FROM tenant"
# As what nodes hold is counted (`tango.store.snapshots`): a run that is being cancelled waits for nothing, and holds what it has in flight.
_USES = f"""
SELECT coalesce(q.tenant, r.tenant), q.service,
       count(*) FILTER (WHERE q.state IN {before(Event.PLACE)}),
       count(*) FILTER (WHERE q.state IN {IN_FLIGHT_STATES}),
       coalesce(sum(q.memory_mib) FILTER (WHERE q.state IN {IN_FLIGHT_STATES}), 0)
FROM request q JOIN run r USING (run_id)
WHERE q.run_id = ANY ({HOLDING_RUNS}) AND q.class = 'be'
  AND (q.state IN {IN_FLIGHT_STATES} OR q.state IN {before(Event.PLACE)} AND q.run_id = ANY ({OPEN_RUNS}))
GROUP BY 1, 2 ORDER BY 1, 2
"""


class PostgresTenants:
    """The store of tenants on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, tenants: Sequence[Tenant]) -> None:
        """One statement, in order of the names."""
        rows = [
            {"name": t.name, "weight": t.weight, "quota": Json(dict(t.quota)), "most_jobs": t.most_jobs}
            for t in sorted(tenants, key=lambda tenant: tenant.name)
        ]
        changed = ", ".join(f"{name} = excluded.{name}" for name in ("weight", "quota", "most_jobs"))
        then = f"ON CONFLICT (name) DO UPDATE SET {changed}, declared_at = now()"
        self._database.run(lambda cursor: insert(cursor, "tenant", rows, then=then))

    def declared(self) -> Mapping[str, Tenant]:
        """One look at a table of a row for each."""
        return {
            name: Tenant(name=name, weight=weight, quota=tuple(sorted(quota.items())), most_jobs=most_jobs)
            for name, weight, quota, most_jobs in self._database.rows(f"{_DECLARED} ORDER BY name")
        }

    def delete(self, name: str) -> None:
        """By its name."""
        if not self._database.execute("DELETE FROM tenant WHERE name = %s", (name,)):
            known = list(self.declared())
            raise UsageError(f"tenant {name!r} is not declared{near_name(name, known)}; declared: {', '.join(known) or 'none'}")

    def uses(self) -> list[TenantUse]:
        """One statement over what is under way."""
        return [TenantUse(*row) for row in self._database.rows(_USES)]
