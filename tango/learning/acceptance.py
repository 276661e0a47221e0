"""Whether a checkpoint's file may enter the registry: read in full and tried once, as whoever decides by it will."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tango.domain.checkpoints import NewCheckpoint
from tango.errors import CheckpointError
from tango.learning import features, lc_layer
from tango.learning.checkpoint import FORMAT_VERSION, parsed, policy_of
from tango.learning.policy import tried_checkpoint

BE_POLICIES = ("dcg-be", "gnn-sac")


def accepted(content: bytes, path: Path) -> NewCheckpoint:
    """What is to be stored of a file of any learned policy. Raises: CheckpointError with what was found and expected."""
    found = parsed(content, path)
    policy = policy_of(found)
    if policy in BE_POLICIES:
        tried_checkpoint(content, path, policy)
        schema = features.SCHEMA
    elif policy == lc_layer.POLICY:
        lc_layer.layer_of(content, path)
        schema = lc_layer.SCHEMA
    else:
        raise CheckpointError(
            f"checkpoint {path} is of policy {policy!r}, expected one of {', '.join((*BE_POLICIES, lc_layer.POLICY))}"
        )
    told = found.get("trained")
    trained = told if isinstance(told, dict) else {}
    return NewCheckpoint(
        name=str(found.get("name", path.stem)),
        policy=policy,
        digest=hashlib.sha256(content).hexdigest(),
        format_version=FORMAT_VERSION,
        feature_schema=schema,
        path=str(path.absolute()),
        trained=trained,
        code_version=str(trained.get("code_version", "")),
        content=content,
    )
