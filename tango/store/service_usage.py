"""What services really use, as agents measure it, and the figures that are learned from it.

A learned figure is written into the service's own declaration, so that everything that reads it goes by it; `Service.assumed` goes on
saying that nobody has declared it. A new declaration begins anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from psycopg2.extras import Json

from tango.domain.learned_figures import learned
from tango.domain.memory_by_load import MemoryByLoad
from tango.domain.observations import MeasuredService, ServiceUsage
from tango.domain.services import service_of, spec_of
from tango.store.database import Cursor, Database

SHIPPED_LATE_S = 10.0
"""Seconds within which the end of an LC request is at the centre while its line is up; what ended later is counted the next time."""

_SUMS = tuple(f.name for f in dataclasses.fields(MemoryByLoad))
_NAMED, _GIVEN, _ADDED, _TOGETHER = (
    ", ".join(form.format(name=name) for name in _SUMS)
    for form in ("{name}", "%({name})s", "{name} = u.{name} + excluded.{name}", "sum({name})")
)
_NOTE = f"""
INSERT INTO service_usage AS u (cluster, service, cpu_s, memory_mib, answered, {_NAMED})
SELECT %(cluster)s, s.name, %(cpu_s)s, %(usage_mib)s, %(answered)s, {_GIVEN} FROM service s WHERE s.name = %(service)s
ON CONFLICT (cluster, service) DO UPDATE SET
    cpu_s = u.cpu_s + excluded.cpu_s,
    memory_mib = greatest(u.memory_mib, excluded.memory_mib),
    answered = u.answered + excluded.answered + (
        SELECT count(*) FROM attempt a
        WHERE a.ended_at > u.counted_to AND a.ended_at <= now() - %(late_s)s * interval '1 s'
          AND a.class = 'lc' AND a.outcome = 'succeeded' AND a.service = u.service AND a.cluster = u.cluster
    ),
    counted_to = greatest(u.counted_to, now() - %(late_s)s * interval '1 s'),
    {_ADDED}
"""
_MEASURED = f"""
SELECT service, sum(cpu_s), sum(answered)::bigint, max(memory_mib), {_TOGETHER}
FROM service_usage WHERE service = ANY (%s) GROUP BY 1
"""


class ServiceUsages:
    """The part of the fleet store that keeps what services use."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note_usage(self, cluster: str, usages: Sequence[ServiceUsage]) -> None:
        """Add what a cluster's pods have used, and learn from all that is known of these services."""
        if not usages:
            return

        def note(cursor: Cursor) -> None:
            for usage in sorted(usages, key=lambda u: u.service):
                cursor.execute(
                    _NOTE,
                    {
                        "cluster": cluster,
                        "service": usage.service,
                        "cpu_s": usage.cpu_s,
                        "usage_mib": usage.memory_mib,
                        "answered": usage.answered,
                        "late_s": SHIPPED_LATE_S,
                        **{name: getattr(usage.by_load, name) for name in _SUMS},
                    },
                )
            names = sorted(u.service for u in usages)
            measured = {m.service: m for m in self._usage_of(cursor, names)}
            cursor.execute("SELECT spec FROM service WHERE name = ANY (%s) ORDER BY name FOR NO KEY UPDATE", (names,))
            for (spec,) in cursor.fetchall():
                before = service_of(spec)
                after = learned(before, measured[before.name]) if before.name in measured else before
                if after != before:
                    cursor.execute("UPDATE service SET spec = %s WHERE name = %s", (Json(spec_of(after)), after.name))

        self._database.run(note)

    def measured(self, names: Sequence[str]) -> list[MeasuredService]:
        """What is known of these services; one that was never measured is left out."""

        def read(cursor: Cursor) -> list[MeasuredService]:
            return self._usage_of(cursor, names)

        return self._database.run(read)

    def _usage_of(self, cursor: Cursor, names: Sequence[str]) -> list[MeasuredService]:
        cursor.execute(_MEASURED, (list(names),))
        return [
            MeasuredService(
                service=service,
                cpu_s=float(cpu_s),
                requests=int(requests),
                memory_mib=float(memory_mib),
                by_load=MemoryByLoad(**dict(zip(_SUMS, map(float, sums), strict=True))),
            )
            for service, cpu_s, requests, memory_mib, *sums in cursor.fetchall()
        ]
