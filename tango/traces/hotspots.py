"""Hotspots: flash crowds. For a while a few clusters receive a multiple of the arrivals of the others, then others do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.errors import UsageError
from tango.traces.draws import seeded

FACTOR = 5.0
"""Default ratio of arrivals at a hot cluster to those at another. Chosen, not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hotspots:
    """Number of hot clusters, how hot they are, and how often they change. Raises: UsageError for a value out of bounds."""

    clusters: int
    """Clusters that are hot at a time."""
    factor: float = FACTOR
    """Ratio of arrivals at a hot cluster to those at another."""
    moves: int = 6
    """Number of equal periods of the duration, each with hot clusters of its own."""

    def __post_init__(self) -> None:
        if self.clusters < 1:
            raise UsageError(f"hotspots is {self.clusters}, expected 1 cluster or more")
        if not 1 <= self.factor < np.inf:
            raise UsageError(f"hotspot factor is {self.factor:g}, expected 1 or more")
        if self.moves < 1:
            raise UsageError(f"hotspots move {self.moves} times, expected 1 choice or more")


def hot_clusters(hotspots: Hotspots, clusters: int, seed: int) -> NDArray[np.int64]:
    """Rows of the hot clusters in each period, shape (moves, hot). Raises: UsageError if no cluster would remain cool."""
    if hotspots.clusters >= clusters:
        raise UsageError(f"hotspots is {hotspots.clusters}, expected fewer than the {clusters} entry clusters")
    rng = seeded(seed, "hotspots")
    return np.stack([rng.choice(clusters, hotspots.clusters, replace=False) for _ in range(hotspots.moves)])


def moved(
    cluster: NDArray[np.int32],
    arrival_s: NDArray[np.float64],
    hotspots: Hotspots,
    *,
    clusters: int,
    duration_s: float,
    seed: int,
) -> NDArray[np.int32]:
    """Entry clusters with hotspots, shape (n,): a random share of the requests enters at a hot cluster in place of its own.

    Times and number of requests stay. If a share p of all requests moves to K of C clusters with even arrivals, the ratio of hot to cool
    is 1 + p/(1-p) x C/K; solved for p, with the ratio given.
    """
    hot = hot_clusters(hotspots, clusters, seed)
    extra = (hotspots.factor - 1.0) * hotspots.clusters / clusters
    share = extra / (1.0 + extra)
    draw = seeded(seed, "crowd").random(len(cluster))
    rows = np.flatnonzero(draw < share)
    choice = np.minimum((arrival_s[rows] * (hotspots.moves / duration_s)).astype(np.int64), hotspots.moves - 1)
    place = np.minimum((draw[rows] * (hotspots.clusters / max(share, 1e-300))).astype(np.int64), hotspots.clusters - 1)
    out = np.array(cluster)
    out[rows] = hot[choice, place]
    return out
