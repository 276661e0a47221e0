"""The tables of a journal, and the states of requests as lists of SQL."""

from __future__ import annotations

import dataclasses

from tango.domain.lifecycle import Event, transitions_of
from tango.domain.runs import RunInfo
from tango.domain.state_lists import listed

FORMAT = 6
"""Version of the tables; older ones are changed as `UPGRADES` says, any other is refused."""
APPLICATION_ID = 0x746E676A
"""SQLite's mark of files of one application: "tngj" in ASCII."""
RUN_FIELDS = tuple(field.name for field in dataclasses.fields(RunInfo))
IS_UNDER_WAY = "released_at_s IS NOT NULL"
"""The condition of the index `request_under_way`: only what is under way has a time of release. A list of states instead would be built
anew for every row that is written, which took three times as long as the write."""
NOT_SHIPPED = "seq > (SELECT value FROM meta WHERE name = 'position')"
"""The condition of events that the centre is not known to have; those before are kept for a centre that was restored."""
OWNED_STATES = listed(sorted({t.after for e in (Event.START, Event.CLAIM) for t in transitions_of(e) if t.after is not None}))
"""What some process runs, and stands by the lease of that process."""

OF_CALLERS = (
    # Numbers for requests of callers, up to `last`; `next` is the first that is free.
    """
    CREATE TABLE number_block (
        run_id INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (run_id, first)
    ) WITHOUT ROWID
    """,
    # What a caller sent, until its request has ended. Bodies: rows of a table without rowid would carry them through its whole tree.
    """
    CREATE TABLE call (
        run_id INTEGER NOT NULL, request_id INTEGER NOT NULL,
        method TEXT NOT NULL, path TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, address TEXT, key TEXT,
        UNIQUE (run_id, request_id)
    )
    """,
    # One row for each caller's request that has ended, in that order; with the answer, where one was kept.
    """
    CREATE TABLE answer (
        answer_id INTEGER PRIMARY KEY, run_id INTEGER NOT NULL, request_id INTEGER NOT NULL, at_s REAL NOT NULL,
        status INTEGER, headers TEXT, body BLOB, is_whole INTEGER,
        UNIQUE (run_id, request_id)
    )
    """,
    """
    CREATE TABLE call_key (
        tenant TEXT NOT NULL, key TEXT NOT NULL, run_id INTEGER NOT NULL, request_id INTEGER NOT NULL, at_s REAL NOT NULL,
        PRIMARY KEY (tenant, key)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX call_key_at ON call_key (at_s)",
)
"""The tables of requests that callers sent, and that have a tenant in `request`."""
HELD_HEADERS = ("ALTER TABLE call ADD COLUMN has_held INTEGER NOT NULL DEFAULT 0",)
"""Whether the gateway holds further headers of a call."""

KEY_DIGESTS = ("ALTER TABLE call_key ADD COLUMN digest BLOB",)
"""What the request asked for that had a key first (`CallerRequest.digest`)."""

PHASES = (
    # Since when it waits for its present attempt, when that was given out, and the number of the event that has the decision.
    "ALTER TABLE request ADD COLUMN waits_from_s REAL",
    "ALTER TABLE request ADD COLUMN dispatched_at_s REAL",
    "ALTER TABLE request ADD COLUMN decided INTEGER",
    *(f"ALTER TABLE event ADD COLUMN {name} REAL" for name in ("waits_from_s", "dispatched_at_s", "sent_s")),
    "ALTER TABLE event ADD COLUMN decided INTEGER",
)
"""Where the time of an attempt went. `..._at_s` and `waits_from_s` are Unix time, `sent_s` is of the run's clock. `released_at_s` is not of
it: a request whose message seems lost is told again, and counts from then on there."""

_BYTES = "coalesce(length({0}.body), 0) + coalesce(length({0}.headers), 0)"
ANSWER_BYTES = (
    f"INSERT OR REPLACE INTO meta SELECT 'answer_bytes', coalesce(sum({_BYTES.format('answer')}), 0) FROM answer",
    *(
        f"CREATE TRIGGER answer_{name} AFTER {name.upper()} ON answer BEGIN "
        f"UPDATE meta SET value = value + {change} WHERE name = 'answer_bytes'; END"
        for name, change in (
            ("insert", _BYTES.format("new")),
            ("update", f"({_BYTES.format('new')}) - ({_BYTES.format('old')})"),
            ("delete", f"0 - ({_BYTES.format('old')})"),
        )
    ),
)
"""Bytes of all answers that are kept, counted as they come and go. To add them up took 200 ms for ten minutes of answers at 333 a second,
every ten seconds, in a transaction that nobody else may write beside."""

SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID",
    # `taken_to`: the last request of the share that is here; `next_request`: all before it have been released or cancelled.
    f"CREATE TABLE run ({', '.join(name if name != 'run_id' else 'run_id INTEGER PRIMARY KEY' for name in RUN_FIELDS)}, "
    "followed INTEGER NOT NULL, taken_to INTEGER NOT NULL DEFAULT -1, next_request INTEGER NOT NULL DEFAULT 0)",
    """
    CREATE TABLE request (
        run_id INTEGER NOT NULL, request_id INTEGER NOT NULL,
        service TEXT NOT NULL, due_s REAL NOT NULL, target_s REAL NOT NULL, cpu_work_s REAL NOT NULL, memory_mib REAL NOT NULL,
        state TEXT NOT NULL, epoch INTEGER NOT NULL, attempt INTEGER NOT NULL,
        target_cluster TEXT, node TEXT, owner TEXT, late INTEGER NOT NULL DEFAULT 0,
        started_s REAL, finished_s REAL, reason TEXT NOT NULL DEFAULT '',
        released_at_s REAL, lease_until_s REAL,
        tenant TEXT, patience_s REAL, is_repeatable INTEGER NOT NULL DEFAULT 1,
        PRIMARY KEY (run_id, request_id)
    ) WITHOUT ROWID
    """,
    f"CREATE INDEX request_under_way ON request (state, released_at_s) WHERE {IS_UNDER_WAY}",
    """
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, run_id INTEGER NOT NULL, request_id INTEGER,
        state TEXT, epoch INTEGER, attempt INTEGER, target_cluster TEXT, node TEXT, owner TEXT, late INTEGER,
        started_s REAL, finished_s REAL, reason TEXT,
        service TEXT, attempt_started_s REAL, attempt_finished_s REAL, latency_s REAL, outcome TEXT, attempt_reason TEXT,
        work_lost_s REAL,
        decision TEXT, apply_ms REAL,
        due_s REAL, target_s REAL, cpu_work_s REAL, memory_mib REAL, tenant TEXT
    )
    """,
    "CREATE TABLE process (owner TEXT PRIMARY KEY, until_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE lease (name TEXT PRIMARY KEY, owner TEXT NOT NULL, until_s REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE fleet (part TEXT PRIMARY KEY, version INTEGER NOT NULL, content BLOB NOT NULL) WITHOUT ROWID",
    *OF_CALLERS,
    *HELD_HEADERS,
    *KEY_DIGESTS,
    *ANSWER_BYTES,
    *PHASES,
)

UPGRADES = {
    1: (
        "ALTER TABLE request ADD COLUMN tenant TEXT",
        "ALTER TABLE request ADD COLUMN patience_s REAL",
        "ALTER TABLE request ADD COLUMN is_repeatable INTEGER NOT NULL DEFAULT 1",
        *(f"ALTER TABLE event ADD COLUMN {name} REAL" for name in ("due_s", "target_s", "cpu_work_s", "memory_mib")),
        "ALTER TABLE event ADD COLUMN tenant TEXT",
        *OF_CALLERS,
    ),
    2: HELD_HEADERS,
    3: KEY_DIGESTS,
    4: ANSWER_BYTES,
    5: PHASES,
}
"""By format, the statements that make the next one of it."""
