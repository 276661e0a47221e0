"""Decides whether a checkpoint file may enter the registry: it is read in full, and a placement network decides once on a tiny fleet."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from tango.domain.checkpoints import LEARNED_BE, NewCheckpoint
from tango.errors import CheckpointError
from tango.learning import features, lc_layer
from tango.learning.checkpoint import FORMAT_VERSION, parsed, policy_of
from tango.learning.policy import tried_checkpoint

MOST_TRAINED = 256 * 1024
"""Most characters of a training configuration as JSON."""


def accepted(content: bytes, path: Path) -> NewCheckpoint:
    """The registry's row for a file of any learned policy. Raises: CheckpointError with what was found and expected."""
    found = parsed(content, path)
    policy = policy_of(found)
    if policy in LEARNED_BE:
        tried_checkpoint(content, path, policy)
        schema = features.SCHEMA
    elif policy == lc_layer.POLICY:
        lc_layer.layer_of(content, path)
        schema = lc_layer.SCHEMA
    else:
        raise CheckpointError(
            f"checkpoint {path} is of policy {policy!r}, expected one of {', '.join((*LEARNED_BE, lc_layer.POLICY))}"
        )
    told = found.get("trained")
    trained = plain(told) if isinstance(told, dict) else {}
    if len(json.dumps(trained)) > MOST_TRAINED:
        raise CheckpointError(f"checkpoint {path} has a training configuration of more than {MOST_TRAINED} characters")
    return NewCheckpoint(
        name=_text(found.get("name", path.stem), 100) or path.stem,
        policy=policy,
        digest=hashlib.sha256(content).hexdigest(),
        format_version=FORMAT_VERSION,
        feature_schema=schema,
        path=str(path.absolute()),
        trained=trained,
        code_version=_text(trained.get("code_version", ""), 100),
        content=content,
    )


def plain(value: object, *, depth: int = 8) -> Any:
    """A value from a file as JSON that PostgreSQL takes: what is no number, text, list or mapping becomes the name of its type."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else float(value) if abs(value) < 2**1000 else None
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        return _text(value, MOST_TRAINED)
    if depth and isinstance(value, dict):
        return {_text(key, 200): plain(item, depth=depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple):
        return [plain(item, depth=depth - 1) for item in value]
    return type(value).__name__


def _text(value: object, most: int) -> str:
    """The text without control characters, NUL and lone surrogates, which PostgreSQL refuses or a terminal would act on."""
    text = str(value)[:most].encode("utf-8", "replace").decode()
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")
