"""Tenants: implements `tango.ports.tenants.TenantStore`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from psycopg2.extras import Json

from tango.domain.lifecycle import Event
from tango.domain.near_names import near_name
from tango.domain.state_lists import IN_FLIGHT_STATES
from tango.domain.tenants import Tenant, TenantShare, TenantUse, tenant_as_dict, tenant_from
from tango.errors import UsageError
from tango.ports.tenants import TOLD_S
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import HOLDING_RUNS, OPEN_RUNS, before
from tango.store.rows import insert

_DECLARED = "SELECT name, weight, quota, most_jobs, guarantee FROM tenant"
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


_IN_FLIGHT = f"""
SELECT coalesce(q.tenant, r.tenant), q.service, 0, count(*), sum(q.memory_mib) FROM request q JOIN run r USING (run_id)
WHERE q.run_id = ANY ({HOLDING_RUNS}) AND q.class = 'be' AND q.state IN {IN_FLIGHT_STATES} GROUP BY 1, 2 ORDER BY 1, 2
"""
_TELL = """
INSERT INTO tenant_share (tenant, share, weighted_share, held, below_since, withheld)
SELECT v.tenant, v.share, v.weighted_share, v.held::jsonb, now() - v.below_s * interval '1 s', v.withheld
FROM unnest(%(tenants)s::text[], %(shares)s::float8[], %(weighted)s::float8[], %(held)s::text[], %(below)s::float8[], %(withheld)s::bool[])
    AS v(tenant, share, weighted_share, held, below_s, withheld)
"""
_TOLD = """
SELECT tenant, share, weighted_share, held, extract(epoch FROM now() - below_since)::float8, withheld FROM tenant_share
WHERE at > now() - %(told)s * interval '1 s' ORDER BY tenant
"""


class PostgresTenants:
    """The store of tenants on PostgreSQL; thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, tenants: Sequence[Tenant]) -> None:
        """One statement, in order of the names."""
        said = [tenant_as_dict(t) for t in sorted(tenants, key=lambda tenant: tenant.name)]
        rows = [of | {"quota": Json(of["quota"]), "guarantee": of["guarantee"] and Json(of["guarantee"])} for of in said]
        changed = ", ".join(f"{name} = excluded.{name}" for name in ("weight", "quota", "most_jobs", "guarantee"))
        then = f"ON CONFLICT (name) DO UPDATE SET {changed}, declared_at = now()"
        self._database.run(lambda cursor: insert(cursor, "tenant", rows, then=then))

    def declared(self) -> Mapping[str, Tenant]:
        """One look at a table of a row for each."""
        names = ("name", "weight", "quota", "most_jobs", "guarantee")
        found = [tenant_from(dict(zip(names, row, strict=True))) for row in self._database.rows(f"{_DECLARED} ORDER BY name")]
        return {tenant.name: tenant for tenant in found}

    def delete(self, name: str) -> None:
        """By its name."""
        if not self._database.execute("DELETE FROM tenant WHERE name = %s", (name,)):
            known = list(self.declared())
            raise UsageError(f"tenant {name!r} is not declared{near_name(name, known)}; declared: {', '.join(known) or 'none'}")

    def uses(self) -> list[TenantUse]:
        """One statement over what is under way."""
        return [TenantUse(*row) for row in self._database.rows(_USES)]

    def in_flight(self) -> list[TenantUse]:
        """One statement over what the fleet holds."""
        return [TenantUse(*row) for row in self._database.rows(_IN_FLIGHT)]

    def tell(self, shares: Sequence[TenantShare]) -> None:
        """All rows in one transaction, one teller after the other."""

        def tell(cursor: Cursor) -> None:
            cursor.execute("LOCK TABLE tenant_share IN SHARE ROW EXCLUSIVE MODE")
            cursor.execute("DELETE FROM tenant_share")
            if shares:
                cursor.execute(
                    _TELL,
                    {
                        "tenants": [s.tenant for s in shares],
                        "shares": [s.share for s in shares],
                        "weighted": [s.weighted_share for s in shares],
                        "held": [json.dumps(dict(s.held)) for s in shares],
                        "below": [s.below_s for s in shares],
                        "withheld": [s.withheld for s in shares],
                    },
                )

        self._database.run(tell)

    def told(self) -> list[TenantShare]:
        """One look at a table of a row for each."""
        return [
            TenantShare(tenant=tenant, share=share, weighted_share=weighted, held=held, below_s=below_s, withheld=withheld)
            for tenant, share, weighted, held, below_s, withheld in self._database.rows(_TOLD, {"told": TOLD_S})
        ]
