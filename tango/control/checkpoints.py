"""Register checkpoints and give them roles. How a scheduler follows the roles: `tango.control.checkpoint_roles`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tango.domain.checkpoints import LEARNED_BE, SHORT, YARDSTICK, CheckpointFile, CheckpointRoles, StoredCheckpoint
from tango.errors import CheckpointError, RequestRejected, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.settings import Settings
from tango.systems import read_checkpoint, stored_be_policy

LIVE_POLICY = "dcg-be"
"""The learned BE policy of the live system; a checkpoint must be of this policy to be promoted."""


def register_checkpoint(
    path: Path,
    *,
    store: CheckpointStore,
    name: str | None = None,
    note: str = "",
    scores: Mapping[str, Any] | None = None,
) -> StoredCheckpoint:
    """Put a checkpoint's file into the registry, with a copy of its bytes; gives what is stored.

    Called by `tango checkpoint add` and by programs, which may add scores of their own (any JSON, one entry per call). The training
    configuration and the version of the code are read from the file's `trained`. The same file twice is one row; a name given the
    second time renames it.
    Raises: CheckpointError for a file that cannot be used, with the reason; StoreUnavailable.
    """
    new = read_checkpoint(str(path), name=name, note=note)
    stored = store.register(new, rename=name is not None)
    if scores is None:
        return stored
    store.add_scores(stored.digest, scores)
    return store.find(stored.digest)


def register_missing(files: Iterable[CheckpointFile], *, store: CheckpointStore, note: str) -> None:
    """Register the files of which the store has no copy, each content once. Raises: as `register_checkpoint`."""
    wanted = {file.digest: file.path for file in files}
    known = {stored.digest for stored in store.registered() if stored.size_bytes} if wanted else set()
    for digest, path in wanted.items():
        if digest not in known:
            register_checkpoint(Path(path), store=store, note=note)


def promotable(named: str, *, store: CheckpointStore, force: bool = False) -> StoredCheckpoint:
    """A registered checkpoint that may become live; it is loaded here as a test.

    Raises: UsageError for one that is not registered or of another policy; RequestRejected for one that cannot be loaded, or that is known
    to place worse than `load-greedy`, unless `force`.
    """
    found = store.find(named)
    if found.policy != LIVE_POLICY:
        raise UsageError(f"checkpoint {found.name} is of policy {found.policy!r}, expected one of {LIVE_POLICY!r} to be live")
    known = gain_of(found)
    if known is not None and known.gain + known.margin < 0 and not force:
        raise RequestRejected(
            f"{found.name} ({found.digest[:SHORT]}) is worse than {known.reference}: {known}; evaluate it again with "
            f"`tango checkpoint evaluate {found.name}`, or say --force"
        )
    _try(found, store)
    return found


def promote(named: str, *, store: CheckpointStore, actor: str, force: bool = False) -> tuple[StoredCheckpoint, CheckpointRoles]:
    """Make a registered checkpoint live. Raises: as `promotable`; nothing changes then."""
    found = promotable(named, store=store, force=force)
    return found, store.promote(found.digest, actor=actor)


class Gain(NamedTuple):
    """How much better than a policy that is not learned a checkpoint places, paired by seed."""

    gain: float
    margin: float
    """Half the width of its 95 % interval."""
    unit: str
    """`%` of BE throughput as `tango checkpoint evaluate` measured it, or the reward of the training's own validation."""
    reference: str

    def __str__(self) -> str:
        what = "of BE throughput" if self.unit == "%" else "(training's reward)"
        return f"{self.gain:+.2f} ± {self.margin:.2f}{' %' if self.unit == '%' else ''} {what}"


def gain_of(found: StoredCheckpoint) -> Gain | None:
    """What is known of a checkpoint: its latest evaluation, else the validation of its training; None where there is neither.

    Of an evaluation of several scenarios the mean over all is given, with the margin of a sum of independent differences.
    """
    for entry in reversed(found.scores):
        rows = [row for row in entry.get("rows", ()) if row.get("figure") == "be_cpu_seconds_per_s"]
        pairs = [pair for row in rows if (pair := row.get("differences", {}).get(YARDSTICK)) and pair.get("mean") is not None]
        whole = sum(pair["value"] for pair in pairs if pair.get("value"))
        if entry.get("kind") == "simulated" and whole > 0:
            halves = [(pair["high"] - pair["low"]) / 2 for pair in pairs if pair.get("high") is not None]
            margin = math.hypot(*halves) if len(halves) == len(pairs) else math.inf
            return Gain(100 * sum(pair["mean"] for pair in pairs) / whole, 100 * margin / whole, "%", YARDSTICK)
    gained, within = found.trained.get("validation_gain"), found.trained.get("validation_margin")
    if not isinstance(gained, (int, float)) or not isinstance(within, (int, float)):
        return None
    return Gain(float(gained), float(within), "", str(found.trained.get("validation_reference", YARDSTICK)))


def shadow(named: str, *, store: CheckpointStore, actor: str) -> tuple[StoredCheckpoint, CheckpointRoles]:
    """Let a registered checkpoint decide in the shadow: beside the live one, recorded and not acted on. Raises: as `promote`."""
    found = store.find(named)
    if found.policy not in LEARNED_BE:
        raise UsageError(
            f"checkpoint {found.name} is of policy {found.policy!r}, expected one of {', '.join(LEARNED_BE)} to place beside "
            "the live one"
        )
    _try(found, store)
    return found, store.shadow(found.digest, actor=actor)


def _try(found: StoredCheckpoint, store: CheckpointStore) -> None:
    try:
        stored_be_policy(found.policy, store.content(found.digest), f"{found.name} ({found.digest[:SHORT]})", Settings())
    except CheckpointError as error:
        raise RequestRejected(f"{error}; what is live stays") from error
