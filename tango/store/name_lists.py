"""Names of what the store holds, for the completion of shells: one short look on a connection of its own, which imports hardly anything.

`tango.store.database` would wait for a server that is away, and try again; who has pressed Tab does not.
"""

from __future__ import annotations

from typing import Any

import psycopg2

from tango.store.addresses import ENCODING, TANGO_S_TABLES, libpq_url, own_options

MOST_NAMES = 200
"""Names that are put forward: more than anybody reads, and few enough that a shell shows them at once."""
CONNECT_S = 2
"""Seconds to connect within, the least that libpq allows."""
_SESSION = (
    "-c statement_timeout=500ms -c lock_timeout=200ms -c default_transaction_read_only=on -c idle_in_transaction_session_timeout=5s"
)

# Each gives (name, what is said beside it), the likeliest first. %(prefix)s is what has been typed, as a pattern of LIKE.
LISTS: dict[str, str] = {
    "runs": "SELECT run_id::text, status || ' ' || name FROM run WHERE run_id::text LIKE %(prefix)s ORDER BY run_id DESC",
    "services": "SELECT name, class::text FROM service WHERE name LIKE %(prefix)s ORDER BY name",
    "lc-services": "SELECT name, '' FROM service WHERE class = 'lc' AND name LIKE %(prefix)s ORDER BY name",
    "be-services": "SELECT name, '' FROM service WHERE class = 'be' AND name LIKE %(prefix)s ORDER BY name",
    "clusters": "SELECT name, context FROM cluster WHERE name LIKE %(prefix)s ORDER BY position, name",
    "nodes": "SELECT cluster || '/' || name, '' FROM node WHERE cluster || '/' || name LIKE %(prefix)s ORDER BY 1",
    "pods": "SELECT pod, cluster || '/' || node FROM instance WHERE pod LIKE %(prefix)s ORDER BY 1",
    "checkpoints": "SELECT DISTINCT ON (name) name, left(digest, 12) FROM checkpoint WHERE name LIKE %(prefix)s "
    "ORDER BY name, registered_at DESC",
    "jobs": "SELECT run_id || '-' || request_id, CASE WHEN ended_at IS NULL THEN 'goes on' ELSE 'ended' END FROM job "
    "WHERE run_id || '-' || request_id LIKE %(prefix)s ORDER BY submitted_at DESC",
    "systems": "SELECT DISTINCT system, 'of a run' FROM run WHERE system LIKE %(prefix)s ORDER BY 1",
    "tenants": "SELECT name, 'weight ' || weight FROM tenant WHERE name LIKE %(prefix)s ORDER BY name",
    "tokens": "SELECT token_id::text, name FROM token WHERE token_id::text LIKE %(prefix)s ORDER BY token_id",
}
_REQUESTS = """
SELECT run_id || {separator} || request_id, service || ' ' || state FROM request
WHERE run_id = %(run)s AND request_id::text LIKE %(prefix)s
ORDER BY finished_s - due_s DESC NULLS LAST, request_id LIMIT {most}
"""


def names(url: str, kind: str, prefix: str = "") -> list[tuple[str, str]]:
    """At most `MOST_NAMES` names of a kind that begin so, each with a few words about it. Raises: psycopg2.Error, ConfigError."""
    return _rows(url, f"{LISTS[kind]} LIMIT {MOST_NAMES}", {"prefix": _pattern(prefix)})


def request_names(url: str, run_id: int, prefix: str = "", *, separator: str = "-") -> list[tuple[str, str]]:
    """Requests of a run as RUN-REQUEST whose numbers begin so: those that failed first, then the slowest. Raises: as `names`."""
    sql = _REQUESTS.format(separator=f"'{separator}'", most=MOST_NAMES)
    return _rows(url, sql, {"run": run_id, "prefix": _pattern(prefix)})


def _pattern(prefix: str) -> str:
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _rows(url: str, sql: str, of: dict[str, Any]) -> list[tuple[str, str]]:
    connection = psycopg2.connect(
        libpq_url(url),
        connect_timeout=CONNECT_S,
        application_name="tango completion",
        client_encoding=ENCODING,
        options=own_options(url, f"{_SESSION} {TANGO_S_TABLES}"),
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, of)
            return [(str(name), str(words)) for name, words in cursor.fetchall()]
    finally:
        connection.close()
