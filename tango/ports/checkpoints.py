"""The registry of learned checkpoints: their files, scores and roles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tango.domain.checkpoints import (
    CheckpointEvent,
    CheckpointRoles,
    NewCheckpoint,
    ShadowDecision,
    ShadowSummary,
    StoredCheckpoint,
)
from tango.ports.leases import Fence


class CheckpointStore(Protocol):
    """The registry of learned checkpoints. Raises: StoreUnavailable, StoreError."""

    def register(self, new: NewCheckpoint, *, rename: bool = False) -> StoredCheckpoint:
        """Store a checkpoint, with its file where `new` has one. A digest that is known keeps its id, its first note and, unless
        `rename`, its name; all else follows `new`. A file for one that has a role and was refused raises the generation, so that it is
        tried again. Raises: RequestRejected for a file that is too large.
        """
        ...

    def registered(self) -> list[StoredCheckpoint]:
        """All checkpoints, newest first, without their files."""
        ...

    def find(self, named: str) -> StoredCheckpoint:
        """The checkpoint of this name, or whose digest begins with it. Raises: UsageError for none or several; the message lists them."""
        ...

    def content(self, digest: str) -> bytes:
        """The file of a checkpoint. Raises: CheckpointError where there is none, or where it is not of this digest any more."""
        ...

    def add_scores(self, digest: str, scores: Mapping[str, Any]) -> None:
        """Append one evaluation (JSON). A digest that is not known is left alone."""
        ...

    def roles(self) -> CheckpointRoles:
        """The roles now; one small row, cheap enough for every tick."""
        ...

    def promote(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Make a checkpoint live and remember the one that was. A second call changes nothing."""
        ...

    def demote(self, *, actor: str) -> CheckpointRoles:
        """Make the checkpoint live that was before; when there is none, the scheduler's own file decides, and nothing changes any more."""
        ...

    def shadow(self, digest: str, *, actor: str) -> CheckpointRoles:
        """Let a checkpoint decide in the shadow, recorded and not acted on; an empty digest ends that."""
        ...

    def decides(self, *, configured: str, deciding: str) -> None:
        """Record the digests that the scheduler was started with and decides by, for people to see; no role changes."""
        ...

    def used(self, digest: str, *, refused: str) -> None:
        """Record whether the scheduler could use a checkpoint; `refused`: why not, empty if it could. A new refusal is an event."""
        ...

    def history(self, *, limit: int = 50) -> list[CheckpointEvent]:
        """Changes of roles and refusals, newest first."""
        ...

    def record_shadow(self, decision: ShadowDecision, *, fence: Fence) -> bool:
        """Append a decision of the shadow; False, and nothing is written, when another scheduler has taken the lease since."""
        ...

    def shadow_summaries(self, candidate: str) -> list[ShadowSummary]:
        """The candidate's ticks, summed up for each live checkpoint and policy beside it, the latest first."""
        ...
