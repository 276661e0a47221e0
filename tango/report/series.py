"""Columns of a run turned into what charts draw: counts per time bin, how many are in the system, histograms, grids of node use.

All times here are trace seconds. Every function takes arrays and gives arrays; nothing knows how it will be drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NICE_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBins:
    """Even bins of `step_s` seconds from 0."""

    step_s: float
    count: int

    @property
    def edges_s(self) -> Floats:
        """(count + 1,) bin edges."""
        return np.arange(self.count + 1, dtype=np.float64) * self.step_s

    @property
    def centres_s(self) -> Floats:
        """(count,) bin centres."""
        return (np.arange(self.count, dtype=np.float64) + 0.5) * self.step_s

    def index(self, at_s: Floats) -> NDArray[np.int64]:
        """Bin of each instant, clipped into the range; NaN goes to bin 0, so mask it before."""
        return np.clip(np.nan_to_num(at_s) // self.step_s, 0, self.count - 1).astype(np.int64)

    def counts(self, at_s: Floats) -> Floats:
        """(count,) how many instants fall into each bin; NaN is left out."""
        known = at_s[~np.isnan(at_s)]
        return np.bincount(self.index(known), minlength=self.count).astype(np.float64)

    def mean(self, at_s: Floats, values: Floats) -> Floats:
        """(count,) mean of values per bin; NaN where a bin has none."""
        known = ~np.isnan(at_s) & ~np.isnan(values)
        rows = self.index(at_s[known])
        seen = np.bincount(rows, minlength=self.count)
        total = np.bincount(rows, weights=values[known], minlength=self.count)
        return np.where(seen > 0, total / np.maximum(seen, 1), np.nan)

    def quantile(self, at_s: Floats, values: Floats, share: float) -> Floats:
        """(count,) a quantile of values per bin; NaN where a bin has none."""
        known = ~np.isnan(at_s) & ~np.isnan(values)
        rows, kept = self.index(at_s[known]), values[known]
        order = np.argsort(rows, kind="stable")
        parts = np.split(kept[order], np.cumsum(np.bincount(rows, minlength=self.count))[:-1])
        return np.array([np.quantile(part, share) if len(part) else np.nan for part in parts])


def time_bins(end_s: float, *, at_most: int = 90) -> TimeBins:
    """The finest round bins that cover 0 … end_s with at most so many of them."""
    end_s = max(end_s, 1e-3)
    wanted = end_s / at_most
    step_s = next((step for step in NICE_STEPS_S if step >= wanted), None)
    if step_s is None:
        step_s = 86400.0 * np.ceil(wanted / 86400.0)
    return TimeBins(step_s=float(step_s), count=max(1, int(np.ceil(end_s / step_s - 1e-9))))


def population(begin_s: Floats, end_s: Floats, at_s: Floats) -> Floats:
    """How many of the intervals [begin, end) cover each instant; a begin of NaN never was, an end of NaN never ends."""
    began = ~np.isnan(begin_s)
    ends = np.sort(np.where(np.isnan(end_s[began]), np.inf, end_s[began]))
    begins = np.sort(begin_s[began])
    covered = np.searchsorted(begins, at_s, side="right") - np.searchsorted(ends, at_s, side="right")
    return covered.astype(np.float64)


def log_edges(low: float, high: float, *, per_decade: int = 12) -> Floats:
    """Edges evenly spaced in the logarithm, on a fixed grid, so that the same figure always falls into the same bin."""
    first = int(np.floor(np.log10(max(low, 1e-6)) * per_decade))
    last = int(np.ceil(np.log10(max(high, low, 1e-6)) * per_decade))
    edges: Floats = 10.0 ** (np.arange(first, max(last, first + 1) + 1) / per_decade)
    return edges


def share_grid(bins: TimeBins, at_s: Floats, row: NDArray[np.int32], rows: int, part: Floats, whole: Floats) -> Floats:
    """(rows, bins) sum of parts over sum of wholes per row and bin; NaN where nothing was measured."""
    known = ~np.isnan(part) & (row >= 0)
    cell = row[known] * bins.count + bins.index(at_s[known])
    size = rows * bins.count
    top = np.bincount(cell, weights=part[known], minlength=size)
    bottom = np.bincount(cell, weights=whole[known], minlength=size)
    grid: Floats = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan).reshape(rows, bins.count)
    return grid
