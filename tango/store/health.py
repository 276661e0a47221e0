"""How a PostgreSQL server stands, for `tango doctor`."""

from __future__ import annotations

import time

from tango.domain.findings import DatabaseFacts
from tango.errors import StoreError, StoreUnavailable
from tango.store.database import Database
from tango.store.schema import newest_revision, revision_of

_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
_STANDS = """
SELECT current_setting('server_version_num')::int, current_setting('max_connections')::int,
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       coalesce((SELECT extract(epoch FROM max(now() - xact_start))::float8 FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'), 0),
       (SELECT jsonb_object_agg(name, setting) FROM pg_settings WHERE name = ANY (%s))
"""


def database_facts(url: str) -> DatabaseFacts:
    """What can be asked of the server at `url`; one that does not answer is a fact too."""
    if not url:
        return DatabaseFacts(failure="no stack runs, and TANGO_DATABASE_URL is not set")
    database = Database(url)
    try:
        version, most, connections, oldest_s, settings = database.rows(_STANDS, (list(_SETTINGS),))[0]
        ahead_s, answer_s = _clock(database)
        return DatabaseFacts(
            version=version,
            revision=revision_of(url),
            newest_revision=newest_revision(),
            settings=dict(settings),
            connections=connections,
            max_connections=most,
            oldest_transaction_s=oldest_s,
            ahead_s=ahead_s,
            answer_ms=answer_s * 1e3,
        )
    except (StoreUnavailable, StoreError) as error:
        return DatabaseFacts(failure=str(error))
    finally:
        database.close()


TRIES = 5
"""Times that a clock is read; the reading with the shortest round trip is the one that waited for nothing."""


def _clock(database: Database) -> tuple[float, float]:
    """(seconds by which the server's clock is ahead, seconds of an answer): the quickest of a few tries, whose middle is best known."""
    best = (float("inf"), 0.0)
    for _ in range(TRIES):
        began_s, began = time.time(), time.perf_counter()
        server_s = float(database.rows("SELECT extract(epoch FROM clock_timestamp())::float8")[0][0])
        took_s = time.perf_counter() - began
        best = min(best, (took_s, server_s - (began_s + took_s / 2)))
    return best[1], best[0]


def lease_times(database: Database) -> dict[str, float]:
    """Seconds for which each lease still holds, by its name; negative: since when nobody has it."""
    return dict(database.rows("SELECT name, extract(epoch FROM expires_at - now())::float8 FROM lease"))
