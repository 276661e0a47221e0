"""Checkpoints of learned policies as the registry keeps them: training, scores, roles, and what the scheduler made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

MOST_BYTES = 16 * 2**20
"""Largest file of a checkpoint, on disk and in the store. The shipped ones have some 50 KiB, so this only refuses wrong files."""
LEARNED_BE = ("dcg-be", "gnn-sac")
"""Learned policies that place BE requests."""
YARDSTICK = "load-greedy"
"""The policy that is not learned, by which checkpoints are judged and that learners are compared with."""
SHORT = 12
"""Leading characters of a digest by which tables, decisions and figures name a checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCheckpoint:
    """A checkpoint that is to be stored; its file has been read and accepted."""

    name: str
    policy: str
    """The learned policy it belongs to, such as `dcg-be`."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""
    format_version: int
    feature_schema: str
    """SHA-256 of the list of features it was trained on."""
    path: str
    """Path that it was last read from."""
    trained: Mapping[str, Any]
    """Training configuration, as the training run wrote it."""
    code_version: str = ""
    """Version of Tango that trained it."""
    content: bytes | None = None
    """Bytes of the file; None: the store gets no copy."""
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
    """One entry for each evaluation, oldest first (from `tango.experiments.checkpoint_scores` or the training run)."""
    size_bytes: int | None
    """Size of the stored file; None: the store has no copy."""
    refused: str
    """Why the scheduler could not use it at its last try; empty if it could, or has never tried."""
    refused_at: datetime | None
    note: str
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRoles:
    """Which checkpoint has which role. Values are digests; empty: none."""

    generation: int = 0
    """Incremented by every change of `live` or `shadow`; a scheduler compares it with the one that it has applied."""
    live: str = ""
    """The promoted checkpoint; empty: the scheduler's own file decides."""
    before: tuple[str, ...] = ()
    """Checkpoints that were promoted earlier, latest last; `demote` returns to the last one."""
    shadow: str = ""
    """The candidate that decides beside the live policy without effect."""
    configured: str = ""
    """The scheduler's own file: that of TANGO_CHECKPOINT, else the shipped one."""
    deciding: str = ""
    """The checkpoint by which the scheduler reported to decide."""

    def of(self, digest: str) -> str:
        """The roles of a checkpoint as text: `live`, `shadow`, `live, shadow`, or empty."""
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
    """The checkpoint that has the role now, or that was refused. Empty: none, so the scheduler's own file decides."""
    before: str
    """The checkpoint that had the role before."""
    actor: str
    """Name of the user who made the change."""
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowDecision:
    """One tick of the candidate in the shadow: its plan compared with the one that was carried out."""

    run_ids: tuple[int, ...]
    policy: str
    """The policy that decided."""
    live: str
    """Digest of the checkpoint that decided, as its plan names it; empty if none did."""
    candidate: str
    """Digest of the candidate."""
    considered: int
    """Requests that both planned for."""
    live_placed: int
    candidate_placed: int = 0
    different: int = 0
    """Requests for which the plans name different nodes, or only one of them a node."""
    live_cpu_share: float | None = None
    """Mean over placed requests of the share of its CPU limit that a request may expect on its node, with LC served first; at most 1."""
    candidate_cpu_share: float | None = None
    live_ms: float = 0.0
    """Milliseconds of the decision."""
    candidate_ms: float | None = None
    skipped: bool = False
    """Whether the candidate did not decide; `reason` says why, and its figures are meaningless."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSummary:
    """The sums and means over a candidate's ticks beside one live checkpoint; a row of the view `shadow_summary`."""

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
    """The checkpoints with this name; if there are none, those whose digest begins with it, given four characters or more."""
    by_name = [c for c in known if c.name == named]
    if by_name or len(named) < 4:
        return by_name
    return [c for c in known if c.digest.startswith(named.lower())]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFile:
    """A checkpoint for a simulation: the path of its file on this machine, and the digest that the file must have."""

    path: str
    digest: str
    policy: str

    def changed(self) -> str:
        """Why the file cannot be used: it is missing, or its digest is another one; empty if it can."""
        try:
            found = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        except OSError as error:
            return f"checkpoint {self.path} cannot be read: {error.strerror}"
        if found != self.digest:
            return (
                f"checkpoint {self.path} has digest {found[:SHORT]}, expected {self.digest[:SHORT]}: the file was changed meanwhile"
            )
        return ""
