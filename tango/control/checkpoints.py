"""Register checkpoints and give them roles. How a scheduler follows the roles: `tango.control.checkpoint_roles`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tango.domain.checkpoints import SHORT, CheckpointFile, CheckpointRoles, StoredCheckpoint
from tango.errors import CheckpointError, RequestRejected, UsageError
from tango.ports.checkpoints import CheckpointStore
from tango.settings import Settings
from tango.systems import read_checkpoint, stored_be_policy

LIVE_POLICY = "dcg-be"
"""The learned BE policy of the live system; a checkpoint must be of this policy to be promoted."""
SHADOW_POLICIES = ("dcg-be", "gnn-sac")
"""The policies whose checkpoints may decide in the shadow."""


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


def promote(named: str, *, store: CheckpointStore, actor: str) -> tuple[StoredCheckpoint, CheckpointRoles]:
    """Make a registered checkpoint live, after loading it here as a test.

    Raises: UsageError for one that is not registered or of another policy; RequestRejected for one that cannot be loaded. Nothing
    changes then.
    """
    found = store.find(named)
    if found.policy != LIVE_POLICY:
        raise UsageError(f"checkpoint {found.name} is of policy {found.policy!r}, expected one of {LIVE_POLICY!r} to be live")
    _try(found, store)
    return found, store.promote(found.digest, actor=actor)


def shadow(named: str, *, store: CheckpointStore, actor: str) -> tuple[StoredCheckpoint, CheckpointRoles]:
    """Let a registered checkpoint decide in the shadow: beside the live one, recorded and not acted on. Raises: as `promote`."""
    found = store.find(named)
    if found.policy not in SHADOW_POLICIES:
        raise UsageError(
            f"checkpoint {found.name} is of policy {found.policy!r}, expected one of {', '.join(SHADOW_POLICIES)} to place beside "
            "the live one"
        )
    _try(found, store)
    return found, store.shadow(found.digest, actor=actor)


def _try(found: StoredCheckpoint, store: CheckpointStore) -> None:
    try:
        stored_be_policy(found.policy, store.content(found.digest), f"{found.name} ({found.digest[:SHORT]})", Settings())
    except CheckpointError as error:
        raise RequestRejected(f"{error}; what is live stays") from error
