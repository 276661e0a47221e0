"""The learned layer of `dsaco`: its file, and the LC policy made of it.

The layer is small and runs inside the compiled dispatch (`tango/scheduling/lc/dsaco.py`); torch only reads the file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tango.errors import CheckpointError
from tango.learning.checkpoint import checked, read_bytes, weights_of, width_of, write_file
from tango.learning.shipped import shipped_path
from tango.scheduling.lc import dsaco
from tango.scheduling.lc.dsaco import ScoredLayer
from tango.scheduling.lc.rule import LEARNED_LC, LcRule

POLICY = dsaco.POLICY.name

SCHEMA = hashlib.sha256(repr((dsaco.OFFER_FEATURES, dsaco.CANDIDATES)).encode()).hexdigest()
"""A checkpoint holds for this list of features and this number of candidates."""


def shipped_lc_policy(name: str) -> LcRule:
    """The learned LC policy of this name that comes with Tango. Raises: CheckpointError when its file cannot be used."""
    return load_lc_policy(shipped_path(name), name)


def load_lc_policy(path: Path, name: str = POLICY) -> LcRule:
    """The LC policy of a file. Raises: CheckpointError, as `load_checkpoint` does."""
    return LcRule(LEARNED_LC[name], load_layer(path, name).weights())


def save_layer(learned: ScoredLayer, path: Path, *, trained: dict[str, Any], policy: str = POLICY) -> str:
    """Write a layer, whole or not at all, and give the file's SHA-256."""
    return write_file(
        {
            "policy": policy,
            "feature_schema": SCHEMA,
            "name": policy,
            "hidden": len(learned.head),
            "trained": trained,
            "weights": {"layer": torch.from_numpy(learned.layer), "head": torch.from_numpy(learned.head)},
        },
        path,
    )


def load_layer(path: Path, policy: str = POLICY) -> ScoredLayer:
    """Read a layer.

    Raises: CheckpointError with what was found and expected, for a file that is missing, too large, damaged, of another format, policy
    or feature list, or whose weights do not fit or are not finite.
    """
    return layer_of(read_bytes(path), path, policy)


def layer_of(content: bytes, path: Path, policy: str = POLICY) -> ScoredLayer:
    """The layer in a file's content; `path` says where it came from. Raises: as `load_layer`."""
    found = checked(content, path, policy=policy, schema=SCHEMA)
    hidden = width_of(found, path)
    expected = {"layer": (hidden, dsaco.LEARNED_FEATURES + 1), "head": (hidden,)}
    weights = weights_of(found, path)
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    if shapes != expected:
        raise CheckpointError(f"checkpoint {path} has weights that do not fit: {shapes or 'none'}, expected {expected}")
    layer, head = (np.ascontiguousarray(weights[name].numpy(), np.float64) for name in ("layer", "head"))
    if not (np.isfinite(layer).all() and np.isfinite(head).all()):
        raise CheckpointError(f"checkpoint {path} has weights that are not finite")
    return ScoredLayer(layer, head)
