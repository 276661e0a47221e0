"""Best fit, the rule that a new network imitates before it learns from rewards.

On runs of the engine it does more BE work than `load-greedy`, since whole nodes stay free for large pods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tango.learning.features import PAIR_FEATURES

LEFT_OVER = next(k for k, name in enumerate(PAIR_FEATURES) if name.startswith("(CPU that LC mostly leaves"))
_FITS = 100.0
"""Any node with enough left comes before any without."""


def best_fit(pair: Tensor, allowed: Tensor) -> Tensor:
    """(b,) the fullest node on which the pod may still use all that its limit allows, by what LC mostly leaves; where no node has that
    much, the one that lacks least. `pair` (b, n, PAIRS), `allowed` (b, n)."""
    left = pair[:, :, LEFT_OVER]
    score = torch.where(left >= 0, _FITS - left, left)
    return score.masked_fill(~allowed, -torch.inf).argmax(1)
