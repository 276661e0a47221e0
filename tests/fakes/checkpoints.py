"""The registry of checkpoints in memory: the same contract as `tango.store.checkpoints`, held to it by `tests/contract/`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

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
from tango.errors import CheckpointError, RequestRejected, UsageError
from tango.ports.leases import Fence
from tests.fakes.memory_state import MemoryState

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryCheckpointStore:
    """Implements `tango.ports.checkpoints.CheckpointStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state
        self.stored: dict[str, StoredCheckpoint] = {}
        self.files: dict[str, bytes] = {}
        self.events: list[CheckpointEvent] = []
        self.shadows: list[ShadowDecision] = []
        self.role = CheckpointRoles()
        self.looks = 0
        """How often the roles were read."""

    def register(self, new: NewCheckpoint, *, rename: bool = False) -> StoredCheckpoint:
        """Insert or renew."""
        if new.content is not None and len(new.content) > MOST_BYTES:
            raise RequestRejected(f"checkpoint {new.path} has {len(new.content)} bytes, expected at most {MOST_BYTES}")
        old = self.stored.get(new.digest)
        self.stored[new.digest] = StoredCheckpoint(
            checkpoint_id=old.checkpoint_id if old else len(self.stored) + 1,
            name=old.name if old and not rename else new.name,
            policy=new.policy,
            digest=new.digest,
            format_version=new.format_version,
            feature_schema=new.feature_schema,
            path=new.path,
            trained=dict(new.trained),
            code_version=new.code_version,
            scores=old.scores if old else [],
            size_bytes=len(new.content) if new.content is not None else old.size_bytes if old else None,
            refused=old.refused if old else "",
            refused_at=old.refused_at if old else None,
            note=old.note if old else new.note,
            registered_at=EPOCH,
        )
        if new.content is not None:
            self.files[new.digest] = new.content
            if old and old.refused and new.digest in (self.role.live, self.role.shadow):
                self.role = replace(self.role, generation=self.role.generation + 1)
        return self.stored[new.digest]

    def registered(self) -> list[StoredCheckpoint]:
        """Newest first."""
        return sorted(self.stored.values(), key=lambda c: -c.checkpoint_id)

    def find(self, named: str) -> StoredCheckpoint:
        """By name or digest."""
        found = chosen(named, self.registered())
        if len(found) == 1:
            return found[0]
        shown = ", ".join(f"{c.name} ({c.digest[:SHORT]})" for c in found or self.registered()) or "none"
        if found:
            raise UsageError(f"{len(found)} checkpoints are called {named!r}: {shown}; name one by its digest")
        raise UsageError(f"there is no checkpoint {named!r}; registered: {shown}")

    def content(self, digest: str) -> bytes:
        """Checked."""
        if digest not in self.files:
            raise CheckpointError(f"checkpoint {digest[:SHORT]} has no file in the registry")
        if hashlib.sha256(self.files[digest]).hexdigest() != digest:
            raise CheckpointError(f"the registry's file of checkpoint {digest[:SHORT]} is damaged")
        return self.files[digest]

    def damage(self, digest: str, content: bytes | None) -> None:
        """Other bytes in place of the file, or none."""
        self.files.pop(digest, None)
        if content is not None:
            self.files[digest] = content

    def add_scores(self, digest: str, scores: Mapping[str, Any]) -> None:
        """Append."""
        if digest in self.stored:
            old = self.stored[digest]
            self.stored[digest] = replace(old, scores=[*old.scores, dict(scores)])

    def roles(self) -> CheckpointRoles:
        """Counted."""
        self.looks += 1
        return self.role

    def promote(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Push."""
        old = self.role
        if digest != old.live:
            before = (*old.before, old.live) if old.live else old.before
            self._change("promote", digest, old.live, actor, live=digest, before=before)
        return self.role

    def demote(self, *, actor: str) -> CheckpointRoles:
        """Pop."""
        old = self.role
        if old.live:
            to = old.before[-1] if old.before else ""
            self._change("demote", to, old.live, actor, live=to, before=old.before[:-1])
        return self.role

    def shadow(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Set or clear."""
        old = self.role
        if digest != old.shadow:
            self._change("shadow" if digest else "shadow-off", digest, old.shadow, actor, shadow=digest)
        return self.role

    def decides(self, *, configured: str, deciding: str) -> None:
        """Noted."""
        self.role = replace(self.role, configured=configured, deciding=deciding)

    def used(self, digest: str, *, refused: str) -> None:
        """Noted once."""
        old = self.stored.get(digest)
        if old is not None and old.refused != refused:
            self.stored[digest] = replace(old, refused=refused, refused_at=EPOCH if refused else None)
            if refused:
                self.events.append(
                    CheckpointEvent(at=EPOCH, action="refuse", digest=digest, before="", actor="scheduler", note=refused)
                )

    def history(self, *, limit: int = 50) -> list[CheckpointEvent]:
        """Newest first."""
        return self.events[::-1][:limit]

    def record_shadow(self, decision: ShadowDecision, *, fence: Fence) -> bool:
        """Under the fence."""
        held, until_s = self._state.leases.get(fence.name, (None, 0.0))
        if held != fence or until_s <= self._state.now_s():
            return False
        self.shadows.append(decision)
        return True

    def shadow_summaries(self, candidate: str) -> list[ShadowSummary]:
        """As the view computes them."""
        groups = dict.fromkeys((s.live, s.policy) for s in reversed(self.shadows) if s.candidate == candidate)
        found = []
        for live, policy in groups:
            every = [s for s in self.shadows if (s.candidate, s.live, s.policy) == (candidate, live, policy)]
            own = [s for s in every if not s.skipped]
            considered, different = sum(s.considered for s in own), sum(s.different for s in own)
            placed = sum(s.live_placed for s in own), sum(s.candidate_placed for s in own)
            found.append(
                ShadowSummary(
                    candidate=candidate,
                    live=live,
                    policy=policy,
                    ticks=len(every),
                    skipped=len(every) - len(own),
                    considered=considered,
                    live_placed=placed[0],
                    candidate_placed=placed[1],
                    different=different,
                    share_different=different / considered if considered else None,
                    live_cpu_share=_mean([(s.live_cpu_share, s.live_placed) for s in own]),
                    candidate_cpu_share=_mean([(s.candidate_cpu_share, s.candidate_placed) for s in own]),
                    live_ms=_mean([(s.live_ms, 1) for s in own]),
                    candidate_ms=_mean([(s.candidate_ms, 1) for s in own]),
                )
            )
        return found

    def _change(self, action: str, digest: str, was: str, actor: str, **roles: Any) -> None:
        self.role = replace(self.role, generation=self.role.generation + 1, **roles)
        self.events.append(CheckpointEvent(at=EPOCH, action=action, digest=digest, before=was, actor=actor, note=""))


def _mean(weighted: list[tuple[float | None, int]]) -> float | None:
    known = [(value, weight) for value, weight in weighted if value is not None and weight]
    return math.fsum(v * w for v, w in known) / sum(w for _, w in known) if known else None
