"""What the agents of nodes report of them, kept for a week."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extras import Json

from tango.domain.node_reports import NodeAgentReport
from tango.store.database import Cursor, Database

KEPT_DAYS = 7
"""Days that reports are kept: over a weekend and a holiday. One node makes 8,640 a day, of half a KiB each."""
_NOTE = """
INSERT INTO node_report (cluster, node, at, report) VALUES (%s, %s, %s::timestamptz, %s) ON CONFLICT DO NOTHING
"""
_DROP = "DELETE FROM node_report WHERE cluster = %s AND node = %s AND at < now() - %s * interval '1 day'"


class NodeReports:
    """The part of the fleet store that keeps reports."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note_reports(self, cluster: str, reports: Sequence[NodeAgentReport]) -> None:
        """Add them, and drop what is older than a week of the same nodes."""

        def note(cursor: Cursor) -> None:
            for report in sorted(reports, key=lambda r: r.node):
                cursor.execute(_NOTE, (cluster, report.node, report.at, Json(dict(report.report))))
                cursor.execute(_DROP, (cluster, report.node, KEPT_DAYS))

        self._database.run(note)
