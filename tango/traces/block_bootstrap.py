"""Block bootstrap of arrivals: a seed lays blocks of a recorded window one after the other, and keeps what happens within a block.

Blocks begin anywhere in the window, which is closed to a circle, so that every arrival is as likely as any other. Gaps, bursts and
the mix of classes within a block are kept; what reaches over blocks (a daily wave) is not. Further copies of the window, each drawn
independently, are superposed where more requests are wanted than one holds.
Source: Politis and Romano, "A circular block-resampling procedure for stationary data", in Exploring the Limits of Bootstrap, 1992.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK_S = 60.0
FEWEST, MOST = 5, 30
"""Blocks in a window: with fewer all seeds look alike, with more little is left of bursts that last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    """A recorded window closed to a circle, and how many seconds are laid out of it."""

    period_s: float
    duration_s: float

    @property
    def block_s(self) -> float:
        """60 s, but at least a thirtieth and at most a fifth of the window."""
        return max(min(BLOCK_S, self.period_s / FEWEST), self.period_s / MOST)

    @property
    def block_begin_s(self) -> NDArray[np.float64]:
        """(blocks,) where the blocks are laid."""
        return np.arange(math.ceil(self.duration_s / self.block_s - 1e-9), dtype=np.float64) * self.block_s

    @property
    def block_length_s(self) -> NDArray[np.float64]:
        """(blocks,) lengths; the last block ends with the duration."""
        return np.minimum(self.block_s, self.duration_s - self.block_begin_s)

    def starts(self, copies: int, rng: np.random.Generator, *, first_as_recorded: bool) -> NDArray[np.float64]:
        """(copies, blocks) where each block begins in the window; the first copy can be the window itself, round and round.

        A copy has the same blocks whatever the number of copies.
        """
        starts = rng.random((copies, len(self.block_begin_s))) * self.period_s
        if first_as_recorded:
            starts[0] = self.block_begin_s % self.period_s
        return starts


@dataclass(frozen=True, slots=True)
class Laid:
    """Arrivals laid out, shape (n,)."""

    row: NDArray[np.int32]
    """Which arrival of the window it is."""
    copy: NDArray[np.int32]
    at_s: NDArray[np.float64]
    """From 0 to the duration."""


def lay(times_s: NDArray[np.float64], circle: Circle, starts_s: NDArray[np.float64], keep: NDArray[np.bool_] | None = None) -> Laid:
    """All arrivals of the blocks that begin at `starts_s`, shape (copies, blocks), or those of them that are kept.

    `times_s` are the window's, rising, in [0, period).
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
    """First arrival and number of arrivals of each block, in order of copies and blocks; counting goes on beyond the last arrival."""
    start = starts_s.ravel()
    end = start + np.tile(circle.block_length_s, len(starts_s))
    first = np.searchsorted(times_s, start)
    over = end > circle.period_s
    last = np.searchsorted(times_s, np.where(over, end - circle.period_s, end)) + over * len(times_s)
    return first, last - first


def copies_for(n: int, times_s: NDArray[np.float64], circle: Circle) -> int:
    """Copies that hold n requests on average."""
    return max(1, math.ceil(n / (len(times_s) * circle.duration_s / circle.period_s)))


def chosen(total: int, n: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask of n of `total` places, all such masks alike likely."""
    few = min(n, total - n)
    mask = np.full(total, n > few)
    mask[rng.choice(total, few, replace=False, shuffle=False)] = n == few
    return mask
