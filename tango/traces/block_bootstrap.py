"""Circular block bootstrap of arrivals: a seed draws blocks of a recorded excerpt and concatenates them.

Blocks begin anywhere in the excerpt, which is closed to a circle, so that every arrival is equally likely. Gaps, bursts and the mix of
classes within a block are kept; structure longer than a block (a daily wave) is lost. If more requests are wanted than one excerpt holds,
further copies of it, each drawn independently, are superposed.
Source: Politis and Romano, "A circular block-resampling procedure for stationary data", in Exploring the Limits of Bootstrap, 1992.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_S = 60.0
"""Length of a block if the excerpt's length allows it."""
FEWEST, MOST = 5, 30
"""Least and greatest number of blocks in an excerpt: with fewer all seeds look alike, with more longer bursts are cut up. Chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """A recorded excerpt closed to a circle, and the length of the resampled arrivals."""

    period_s: float
    """Length of the excerpt."""
    duration_s: float
    """Seconds of arrivals to draw from it."""

    @property
    def block_s(self) -> float:
        """Length of a block: `BLOCK_S`, but at least 1/`MOST` and at most 1/`FEWEST` of the excerpt."""
        return max(min(BLOCK_S, self.period_s / FEWEST), self.period_s / MOST)

    @property
    def block_begin_s(self) -> NDArray[np.float64]:
        """Begin of each block in the result, shape (blocks,)."""
        return np.arange(math.ceil(self.duration_s / self.block_s - 1e-9), dtype=np.float64) * self.block_s

    @property
    def block_length_s(self) -> NDArray[np.float64]:
        """Length of each block, shape (blocks,); the last one ends with the duration."""
        return np.minimum(self.block_s, self.duration_s - self.block_begin_s)

    def starts(self, copies: int, rng: np.random.Generator, *, first_as_recorded: bool) -> NDArray[np.float64]:
        """Begin of each block in the excerpt, shape (copies, blocks); a copy has the same blocks whatever the number of copies.

        With `first_as_recorded` the first copy is the excerpt itself, repeated as often as the duration needs.
        """
        starts = rng.random((copies, len(self.block_begin_s))) * self.period_s
        if first_as_recorded:
            starts[0] = self.block_begin_s % self.period_s
        return starts


@dataclass(frozen=True, slots=True)
class Laid:
    """Resampled arrivals, columns of shape (n,)."""

    row: NDArray[np.int32]
    """Index of the arrival in the excerpt."""
    copy: NDArray[np.int32]
    """Copy that it belongs to."""
    at_s: NDArray[np.float64]
    """Time from 0 to the duration."""


def lay(times_s: NDArray[np.float64], circle: Circle, starts_s: NDArray[np.float64], keep: NDArray[np.bool_] | None = None) -> Laid:
    """The arrivals of the blocks that begin at `starts_s`, shape (copies, blocks); with `keep` only those that it selects.

    `times_s` are the arrivals of the excerpt, ascending, in [0, period). Order of the result: by copy, block and time.
    """
    copies, blocks = starts_s.shape
    first, count = rows_of(times_s, circle, starts_s)
    block = np.repeat(np.arange(copies * blocks, dtype=np.int32), count)
    row = np.repeat((first - (np.cumsum(count) - count)).astype(np.int32), count)
    row += np.arange(len(row), dtype=np.int32)
    if keep is not None:
        block, row = block[keep], row[keep]
    wrapped = row >= len(times_s)
    row -= wrapped * np.int32(len(times_s))
    at_s = times_s[row]
    at_s += wrapped * circle.period_s
    at_s += (np.tile(circle.block_begin_s, copies) - starts_s.ravel())[block]
    block //= blocks
    # A time at the very edge of a block may be rounded beyond it.
    return Laid(row, block, np.clip(at_s, 0.0, circle.duration_s, out=at_s))


def rows_of(
    times_s: NDArray[np.float64], circle: Circle, starts_s: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(first, count) of the arrivals of each block, shape (copies x blocks,); a block over the excerpt's end has indices beyond n."""
    start = starts_s.ravel()
    end = start + np.tile(circle.block_length_s, len(starts_s))
    first = np.searchsorted(times_s, start)
    over = end > circle.period_s
    last = np.searchsorted(times_s, np.where(over, end - circle.period_s, end)) + over * len(times_s)
    return first, last - first


def copies_for(count: int, times_s: NDArray[np.float64], circle: Circle) -> int:
    """Number of copies that hold `count` requests on average."""
    return max(1, math.ceil(count / (len(times_s) * circle.duration_s / circle.period_s)))


def chosen(total: int, count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A random mask of shape (total,) with `count` True values; all such masks are equally likely."""
    few = min(count, total - count)
    mask = np.full(total, count > few)
    mask[rng.choice(total, few, replace=False, shuffle=False)] = count == few
    return mask
