"""Refusals of clusters as rows: implements `tango.ports.refusals.RefusalStore`. Pauses are counted by the database's clock alone."""

from __future__ import annotations

from collections.abc import Sequence

from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Pauses, Refusal, RefusalState
from tango.settings import RefusalSettings
from tango.store.database import Cursor, Database

# A refusal within a pause is of what was under way when it began: it makes the pause no longer.
_NOTE = """
INSERT INTO refusal AS r (cluster, service, node, role, kind, words, paused_until)
VALUES (%(cluster)s, %(service)s, %(node)s, %(role)s, %(kind)s, %(words)s,
        now() + greatest(%(at_least)s, %(first)s * (1 - random() / 2)) * interval '1 s')
ON CONFLICT (cluster, service, node, role) DO UPDATE SET kind = excluded.kind, words = excluded.words,
    since = CASE WHEN r.paused_until < now() - %(forget)s * interval '1 s' THEN now() ELSE r.since END,
    times = CASE WHEN r.paused_until < now() - %(forget)s * interval '1 s' THEN 1
                 WHEN r.paused_until < now() THEN r.times + 1 ELSE r.times END,
    paused_until = CASE WHEN r.paused_until < now() THEN now() + interval '1 s' * greatest(%(at_least)s, (1 - random() / 2) * least(
        %(longest)s, %(first)s * 2 ^ CASE WHEN r.paused_until < now() - %(forget)s * interval '1 s' THEN 0 ELSE least(r.times, 30) END))
        ELSE r.paused_until END
"""
_CLEAR = "DELETE FROM refusal WHERE cluster = %s AND role = %s AND node = %s AND (service = '' OR service = ANY (%s))"
_PAUSES = """
SELECT cluster, service, node, role, kind, words, times, extract(epoch FROM since)::float8,
       extract(epoch FROM paused_until - now())::float8
FROM refusal WHERE paused_until > now() - %(forget)s * interval '1 s' ORDER BY cluster, service, node, role
"""


class PostgresRefusals:
    """The refusals on PostgreSQL; its methods may be called from any thread or process."""

    def __init__(self, database: Database, settings: RefusalSettings | None = None) -> None:
        self._database = database
        self._settings = settings or RefusalSettings()

    def note(self, refusals: Sequence[Refusal], *, role: str) -> None:
        """One transaction, in one order of rows."""
        settings = self._settings
        scopes = {(r.cluster, r.service, r.node): r for r in refusals}

        def write(cursor: Cursor) -> None:
            for _, refusal in sorted(scopes.items()):
                cursor.execute(
                    _NOTE,
                    {
                        "cluster": refusal.cluster,
                        "service": refusal.service,
                        "node": refusal.node,
                        "role": role,
                        "kind": str(refusal.kind),
                        "words": refusal.words.replace("\0", " "),
                        "at_least": min(refusal.at_least_s, settings.longest_pause_s),
                        "first": settings.first_pause_s,
                        "longest": settings.longest_pause_s,
                        "forget": settings.forget_s,
                    },
                )

        if scopes:
            self._database.run(write)

    def clear(self, cluster: str, services: Sequence[str], *, role: str, node: str = "") -> None:
        """Forget the refusals of a scope."""
        self._database.execute(_CLEAR, (cluster, role, node, list(services)))

    def pauses(self) -> Pauses:
        """A handful of rows at the most, and none while all is well."""
        rows = self._database.rows(_PAUSES, {"forget": self._settings.forget_s})
        return Pauses(
            tuple(
                RefusalState(
                    cluster=cluster,
                    service=service,
                    node=node,
                    role=role,
                    kind=RefusalKind(kind),
                    words=words,
                    times=times,
                    since_s=since_s,
                    left_s=left_s,
                )
                for cluster, service, node, role, kind, words, times, since_s, left_s in rows
            )
        )
