"""How much of its target a latency leaves. All that speaks of slack counts it here: re-assurance, snapshots, the engine."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Share = TypeVar("Share", float, NDArray[np.float64])


def slack_of(tail_ms: Share, target_ms: Share) -> Share:
    """1 - tail latency / target, of both in milliseconds of one clock: 1 is idle, 0 just on target, below 0 too late. Plain arithmetic:
    compiled steps inline it."""
    return 1.0 - tail_ms / target_ms
