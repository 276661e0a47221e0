"""Checkpoints of learned policies, their files and roles: implements `tango.ports.checkpoints.CheckpointStore`.

Files are in a table of their own, so that a listing reads none of them. Every change of a role is made under the lock of the one row of
`checkpoint_role`, with its event in the same transaction.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from psycopg2.extras import Json

from tango.domain.checkpoints import (
    MOST_BYTES,
    SHORT,
    CheckpointEvent,
    CheckpointRoles,
    NewCheckpoint,
    ShadowDecision,
    ShadowSummary,
    StoredCheckpoint,
    chosen,
)
from tango.domain.near_names import near_name
from tango.errors import CheckpointError, RequestRejected, UsageError
from tango.ports.leases import Fence
from tango.store.database import Cursor, Database
from tango.store.rows import insert

_RENEWED = """
ON CONFLICT (digest) DO UPDATE SET
    name = CASE WHEN {rename} THEN excluded.name ELSE c.name END, policy = excluded.policy,
    format_version = excluded.format_version, feature_schema = excluded.feature_schema, path = excluded.path,
    trained = excluded.trained, code_version = excluded.code_version, size_bytes = coalesce(excluded.size_bytes, c.size_bytes)
RETURNING checkpoint_id
"""
_COLUMNS = tuple(f.name for f in dataclasses.fields(StoredCheckpoint))
_ROLES = tuple(f.name for f in dataclasses.fields(CheckpointRoles))
_SHADOW = tuple(f.name for f in dataclasses.fields(ShadowDecision))
_SUMMARY = tuple(f.name for f in dataclasses.fields(ShadowSummary))
_EVENT = tuple(f.name for f in dataclasses.fields(CheckpointEvent))


class PostgresCheckpointStore:
    """One row for each checkpoint, by its digest, and one row for the roles."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # ---- what there is -------------------------------------------------------------------------------------------------------

    def register(self, new: NewCheckpoint, *, rename: bool = False) -> StoredCheckpoint:
        """Insert a checkpoint, or update the one of the same digest; its name changes only with `rename`.

        Raises: RequestRejected if the file is larger than `MOST_BYTES`.
        """
        size = None if new.content is None else len(new.content)
        if size is not None and size > MOST_BYTES:
            raise RequestRejected(f"checkpoint {new.path} has {size} bytes, expected at most {MOST_BYTES}")
        values = dataclasses.asdict(new) | {"trained": Json(dict(new.trained)), "size_bytes": size}
        values.pop("content")
        renewed = _RENEWED.format(rename="true" if rename else "false")

        def write(cursor: Cursor) -> None:
            ((checkpoint_id,),) = insert(cursor, "checkpoint AS c", [values], then=renewed)
            if new.content is not None:
                file = {"checkpoint_id": checkpoint_id, "content": new.content}
                insert(
                    cursor, "checkpoint_file", [file], then="ON CONFLICT (checkpoint_id) DO UPDATE SET content = excluded.content"
                )
                # A new generation makes the scheduler try a checkpoint again that has a role and was refused, as when its file was damaged.
                cursor.execute(
                    "UPDATE checkpoint_role SET generation = generation + 1 WHERE %(d)s IN (live, shadow) "
                    "AND EXISTS (SELECT FROM checkpoint WHERE digest = %(d)s AND refused <> '')",
                    {"d": new.digest},
                )

        self._database.run(write)
        return next(c for c in self.registered() if c.digest == new.digest)

    def registered(self) -> list[StoredCheckpoint]:
        """All checkpoints, newest first, without their files."""
        rows = self._database.rows(f"SELECT {', '.join(_COLUMNS)} FROM checkpoint ORDER BY checkpoint_id DESC")
        return [StoredCheckpoint(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    def find(self, named: str) -> StoredCheckpoint:
        """The checkpoint of a name or of the first letters of a digest. Raises: UsageError if there is none, or more than one."""
        known = self.registered()
        found = chosen(named, known)
        if len(found) == 1:
            return found[0]
        shown = ", ".join(f"{c.name} ({c.digest[:SHORT]})" for c in (found or known)[:10]) or "none"
        if found:
            raise UsageError(f"{len(found)} checkpoints are called {named!r}: {shown}; name one by its digest")
        raise UsageError(
            f"there is no checkpoint {named!r}{near_name(named, [c.name for c in known])}, expected a name or the first letters of a "
            f"digest; registered: {shown}. Register a file with `tango checkpoint add FILE`"
        )

    def content(self, digest: str) -> bytes:
        """The file's bytes, after checking size and digest. Raises: CheckpointError if it is missing or damaged."""
        rows = self._database.rows(
            "SELECT f.content FROM checkpoint c JOIN checkpoint_file f USING (checkpoint_id) "
            "WHERE c.digest = %s AND octet_length(f.content) <= %s",
            (digest, MOST_BYTES),
        )
        if not rows:
            raise CheckpointError(
                f"checkpoint {digest[:SHORT]} has no file in the registry; add it again with `tango checkpoint add FILE`"
            )
        content = bytes(rows[0][0])
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise CheckpointError(
                f"the registry's file of checkpoint {digest[:SHORT]} is damaged: its digest is {found[:SHORT]}, expected "
                f"{digest[:SHORT]}; add it again with `tango checkpoint add FILE`"
            )
        return content

    def add_scores(self, digest: str, scores: Mapping[str, Any]) -> None:
        """Append one evaluation."""
        self._database.run(
            lambda cursor: cursor.execute(
                "UPDATE checkpoint SET scores = scores || jsonb_build_array(%s::jsonb) WHERE digest = %s",
                (Json(dict(scores)), digest),
            ),
            once=True,
        )

    # ---- who decides ---------------------------------------------------------------------------------------------------------

    def roles(self) -> CheckpointRoles:
        """The current roles."""
        rows = self._database.rows(f"SELECT {', '.join(_ROLES)} FROM checkpoint_role WHERE scope = 'be'")
        return _roles(rows[0]) if rows else CheckpointRoles()

    def promote(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Make a checkpoint live; the one before is kept for `demote`. Returns the new roles."""
        return self._change("promote", actor, lambda r: replace(r, live=digest, before=(*r.before, r.live) if r.live else r.before))

    def demote(self, *, actor: str) -> CheckpointRoles:
        """Make the checkpoint live that was so before, in the end none. Returns the new roles."""
        return self._change("demote", actor, lambda r: replace(r, live=r.before[-1] if r.before else "", before=r.before[:-1]))

    def shadow(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Put a checkpoint into the shadow; an empty digest ends the shadow. Returns the new roles."""
        return self._change("shadow" if digest else "shadow-off", actor, lambda r: replace(r, shadow=digest))

    def decides(self, *, configured: str, deciding: str) -> None:
        """Note what the scheduler's own file is and by which checkpoint it decides; this changes no role."""
        self._database.execute(
            "UPDATE checkpoint_role SET configured = %(c)s, deciding = %(d)s "
            "WHERE scope = 'be' AND (configured, deciding) <> (%(c)s, %(d)s)",
            {"c": configured, "d": deciding},
        )

    def used(self, digest: str, *, refused: str) -> None:
        """Note why the scheduler refused a checkpoint, or with "" that it could use it; the same refusal is noted once."""

        def note(cursor: Cursor) -> None:
            cursor.execute(
                "UPDATE checkpoint SET refused = %(why)s, refused_at = CASE WHEN %(why)s = '' THEN NULL ELSE now() END "
                "WHERE digest = %(digest)s AND refused <> %(why)s",
                {"why": refused, "digest": digest},
            )
            if cursor.rowcount and refused:
                _note(cursor, action="refuse", digest=digest, before="", actor="scheduler", note=refused)

        self._database.run(note)

    def history(self, *, limit: int = 50) -> list[CheckpointEvent]:
        """The changes of roles and the refusals, newest first."""
        rows = self._database.rows(f"SELECT {', '.join(_EVENT)} FROM checkpoint_event ORDER BY event_id DESC LIMIT %s", (limit,))
        return [CheckpointEvent(**dict(zip(_EVENT, row, strict=True))) for row in rows]

    # ---- candidates ----------------------------------------------------------------------------------------------------------

    def record_shadow(self, decision: ShadowDecision, *, fence: Fence) -> bool:
        """Append a decision in the shadow; return False, and write nothing, if the scheduler's lease has a newer holder."""
        values = dataclasses.asdict(decision) | {"run_ids": list(decision.run_ids)}
        given = ", ".join(f"%({name})s" for name in _SHADOW)
        written = self._database.execute(
            f"INSERT INTO shadow_decision ({', '.join(_SHADOW)}) SELECT {given} FROM lease "
            "WHERE name = %(fence_name)s AND owner = %(fence_owner)s AND epoch = %(fence_epoch)s AND expires_at > now()",
            values | {"fence_name": fence.name, "fence_owner": fence.owner, "fence_epoch": fence.epoch},
        )
        return written > 0

    def shadow_summaries(self, candidate: str) -> list[ShadowSummary]:
        """The summaries of a candidate beside each live checkpoint, latest first."""
        rows = self._database.rows(
            f"SELECT {', '.join(_SUMMARY)} FROM shadow_summary WHERE candidate = %s ORDER BY last_at DESC", (candidate,)
        )
        return [ShadowSummary(**_numbers(dict(zip(_SUMMARY, row, strict=True)))) for row in rows]

    def _change(self, action: str, actor: str, changed: Callable[[CheckpointRoles], CheckpointRoles]) -> CheckpointRoles:
        """Change the roles under the row's lock and append an event; nothing is written if the roles stay the same."""

        def change(cursor: Cursor) -> CheckpointRoles:
            cursor.execute(f"SELECT {', '.join(_ROLES)} FROM checkpoint_role WHERE scope = 'be' FOR UPDATE")
            old = _roles(cursor.fetchall()[0])
            new = changed(old)
            if (new.live, new.shadow) == (old.live, old.shadow):
                return old
            new = replace(new, generation=old.generation + 1)
            cursor.execute(
                "UPDATE checkpoint_role SET live = %s, before = %s, shadow = %s, generation = %s, changed_at = now() "
                "WHERE scope = 'be'",
                (new.live, list(new.before), new.shadow, new.generation),
            )
            of = "shadow" if action.startswith("shadow") else "live"
            _note(cursor, action=action, digest=getattr(new, of), before=getattr(old, of), actor=actor, note="")
            return new

        return self._database.run(change, once=True)


def _note(cursor: Cursor, *, action: str, digest: str, before: str, actor: str, note: str) -> None:
    insert(cursor, "checkpoint_event", [{"action": action, "digest": digest, "before": before, "actor": actor, "note": note}])


def _roles(row: tuple[Any, ...]) -> CheckpointRoles:
    values = dict(zip(_ROLES, row, strict=True))
    return CheckpointRoles(**values | {"before": tuple(values["before"])})


def _numbers(values: dict[str, Any]) -> dict[str, Any]:
    """The values with whole sums as int: PostgreSQL returns sums of integers as numeric."""
    return {k: int(v) if k in ("considered", "live_placed", "candidate_placed", "different") else v for k, v in values.items()}
