"""Services as declared: one row each, the whole declaration as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import Json

from tango.domain.near_names import near_name
from tango.domain.services import Service, service_of, spec_of
from tango.domain.state_lists import LIVE_STATES
from tango.errors import UsageError
from tango.settings import LeaseSettings
from tango.store.database import Cursor, Database
from tango.store.lifecycle_sql import HOLDING_RUNS
from tango.store.rows import insert

DECLARATIONS_LOCK = 0x6465_636C
"""Key of the advisory lock that serializes declarations ("decl" in ASCII)."""


def hold_declarations(cursor: Cursor) -> None:
    """Be the only transaction that changes fleet, clusters, links and services, until it ends.

    Declarations are rare and come from a person, so waiting in turn costs nothing, and no order of locks among four tables is needed.
    """
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (DECLARATIONS_LOCK,))


class Services:
    """The part of the fleet store that keeps declared services."""

    _lease: LeaseSettings

    def __init__(self, database: Database) -> None:
        self._database = database

    def services(self) -> tuple[Service, ...]:
        """All declared services, in order of their names."""
        return tuple(service_of(spec) for (spec,) in self._database.rows("SELECT spec FROM service ORDER BY name"))

    def put_services(self, services: Sequence[Service]) -> None:
        """Declare services, or change those of the same names."""

        def put(cursor: Cursor) -> None:
            hold_declarations(cursor)
            write_services(cursor, services)

        self._database.run(put)

    def require_unneeded(self, names: Sequence[str]) -> None:
        """Raises: UsageError for a service that is not declared, or that live requests still need."""
        known = {s.name for s in self.services()}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(
                f"no service {', '.join(unknown)}{near_name(unknown, known)}; declared: {', '.join(sorted(known)) or 'none'}"
            )
        live = self._database.rows(
            f"SELECT DISTINCT service FROM request WHERE run_id = ANY ({HOLDING_RUNS}) AND service = ANY (%s) AND state IN {LIVE_STATES}",
            (list(names),),
        )
        if live:
            raise UsageError(f"runs still need {', '.join(row[0] for row in live)}; wait for them or cancel them")

    def delete_services(self, names: Sequence[str]) -> None:
        """Withdraw services. Raises: as `require_unneeded`."""
        self.require_unneeded(names)

        def delete(cursor: Cursor) -> None:
            hold_declarations(cursor)
            note_namespaces(cursor, names)
            cursor.execute("DELETE FROM service WHERE name = ANY (%s)", (list(names),))
            cursor.execute("DELETE FROM service_usage WHERE service = ANY (%s)", (list(names),))

        self._database.run(delete)

    def namespaces(self) -> tuple[str, ...]:
        """The namespaces of services, kept as long as a BE pod may run there (`LeaseSettings.run_s`)."""
        rows = self._database.rows(_NAMESPACES, {"within": self._lease.run_s})
        return tuple(name for (name,) in rows)


_NAMESPACES = """
SELECT name FROM service_namespace n
WHERE declared_at > now() - %(within)s * interval '1 s'
   OR EXISTS (SELECT FROM service s WHERE s.spec ->> 'namespace' = n.name)
ORDER BY name
"""


def note_namespaces(cursor: Cursor, services: Sequence[str]) -> None:
    """Remember the namespaces that these services are declared with now; before and after what changes them."""
    cursor.execute(
        """
        INSERT INTO service_namespace (name)
        SELECT DISTINCT spec ->> 'namespace' FROM service WHERE name = ANY (%s) AND spec ->> 'namespace' <> ''
        ON CONFLICT (name) DO UPDATE SET declared_at = now()
        """,
        (list(services),),
    )


def write_services(cursor: Cursor, services: Sequence[Service]) -> None:
    """Insert or change services inside the caller's transaction, which holds `hold_declarations`."""
    rows = [
        {
            "name": s.name,
            "class": s.service_class.label,
            "target_ms": s.target_ms,
            "spec": Json(spec_of(s)),
            "tenant": s.tenant,
        }
        for s in services
    ]
    # What was measured of other pods says nothing of these.
    cursor.execute("SELECT spec FROM service WHERE name = ANY (%s)", ([s.name for s in services],))
    before = {s.name: (s.template, s.adopt, s.image) for s in (service_of(spec) for (spec,) in cursor.fetchall())}
    note_namespaces(cursor, list(before))
    others = [s.name for s in services if before.get(s.name) != (s.template, s.adopt, s.image)]
    cursor.execute("DELETE FROM service_usage WHERE service = ANY (%s)", (others,))
    changed = ", ".join(f"{name} = excluded.{name}" for name in ("class", "target_ms", "spec", "tenant"))
    insert(cursor, "service", rows, then=f"ON CONFLICT (name) DO UPDATE SET {changed}, declared_at = now()")
    note_namespaces(cursor, [s.name for s in services])
