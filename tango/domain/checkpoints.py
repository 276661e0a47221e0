"""Learned checkpoints as the registry keeps them: what was trained on what, how it scored, and which one decides."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20
"""Of a checkpoint's file, on disk and in the store."""
SHORT = 12
"""Letters of a digest by which tables, decisions and figures name a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint about to be stored; one whose file was read and accepted."""

    name: str
    policy: str
    """The learned policy it belongs to, such as `dcg-be`."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    format_version: int
    feature_schema: str
    """SHA-256 of the list of features it was trained on."""
    path: str
    """Where it was last read from."""
    trained: Mapping[str, Any]
    """Training configuration, as the training run wrote it."""
    code_version: str = ""
    """Of Tango, when it was trained."""
    content: bytes | None = None
    """The file; None: only that it exists is noted."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A registered checkpoint; `decision.checkpoint` and `run show` name it by the first letters of its digest."""

    checkpoint_id: int
    name: str
    policy: str
    digest: str
    format_version: int
    feature_schema: str
    path: str
    trained: dict[str, Any]
    code_version: str
    scores: list[dict[str, Any]]
    """One entry an evaluation, oldest first (`tango.experiments.checkpoint_scores`, or what the training run said)."""
    size_bytes: int | None
    """Of the stored file; None: the store has no copy."""
    refused: str
    """Why the scheduler could not use it when it last tried; empty where it could, or never has."""
    refused_at: datetime | None
    note: str
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRoles:
    """Who decides. Digests; empty: none."""

    generation: int = 0
    """Rises with every change of `live` or `shadow`: a scheduler compares it with the one that it has carried out."""
    live: str = ""
    """What was promoted; empty: the scheduler's own file decides."""
    before: tuple[str, ...] = ()
    """What was promoted before, the latest last: where `demote` goes back to."""
    shadow: str = ""
    configured: str = ""
    """The scheduler's own file: TANGO_CHECKPOINT's, else the shipped one."""
    deciding: str = ""
    """What the scheduler said that it decides by."""

    def of(self, digest: str) -> str:
        """The roles of a checkpoint in words: `live`, `shadow`, both, or nothing."""
        held = []
        if digest == (self.live or self.configured):
            held.append("live")
        if digest == self.shadow:
            held.append("shadow")
        return ", ".join(held)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointEvent:
    """One change of a role, or a refusal by the scheduler."""

    at: datetime
    action: str
    """`promote`, `demote`, `shadow`, `shadow-off` or `refuse`."""
    digest: str
    """What has the role now; of `refuse`, what was refused. Empty: none, so that the scheduler's own file decides."""
    before: str
    """What had it before."""
    actor: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowDecision:
    """What the candidate would have done in one tick, beside what was done."""

    run_ids: tuple[int, ...]
    policy: str
    """That decided."""
    live: str
    """Digest of the checkpoint that decided, as its plan names it; empty where none did."""
    candidate: str
    """Digest."""
    considered: int
    live_placed: int
    candidate_placed: int = 0
    different: int = 0
    """Requests for which the two name different nodes, or one of them none."""
    live_cpu_share: float | None = None
    """Mean over the requests placed: the share of its CPU limit that a request may expect on its node, LC served first; at most 1."""
    candidate_cpu_share: float | None = None
    live_ms: float = 0.0
    candidate_ms: float | None = None
    skipped: bool = False
    """The candidate did not decide; `reason` says why, and its figures say nothing."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSummary:
    """The ticks of a candidate beside one live checkpoint, as the view `shadow_summary` has them."""

    candidate: str
    live: str
    policy: str
    ticks: int
    skipped: int
    considered: int
    live_placed: int
    candidate_placed: int
    different: int
    share_different: float | None
    live_cpu_share: float | None
    candidate_cpu_share: float | None
    live_ms: float | None
    candidate_ms: float | None


def chosen(named: str, known: Sequence[StoredCheckpoint]) -> list[StoredCheckpoint]:
    """Those that a name or the first letters of a digest (four or more) mean; a name goes before a digest."""
    by_name = [c for c in known if c.name == named]
    if by_name or len(named) < 4:
        return by_name
    return [c for c in known if c.digest.startswith(named.lower())]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """A checkpoint as a simulation uses it: the file that lies here, and what it must hold."""

    path: str
    digest: str
    policy: str

    def changed(self) -> str:
        """Why the file here cannot be used for it; empty where it can."""
        try:
            found = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        except OSError as error:
            return f"checkpoint {self.path} cannot be read: {error.strerror}"
        if found != self.digest:
            return (
                f"checkpoint {self.path} has digest {found[:SHORT]}, expected {self.digest[:SHORT]}: the file was changed meanwhile"
            )
        return ""
