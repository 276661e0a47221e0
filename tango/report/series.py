"""Aggregation of a run's columns for charts: counts per time bin, numbers in the system, histogram edges, heat map grids.

All times are trace seconds. Every function takes and returns arrays; drawing is left to `charts` and `svg`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Widths of time bins that read well on an axis, seconds.
NICE_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeBins:
    """`count` equal time bins of `step_s` seconds, from 0 on."""

    step_s: float
    count: int

    @property
    def edges_s(self) -> Floats:
        """Edges of the bins in seconds, shape (count + 1,)."""
        return np.arange(self.count + 1, dtype=np.float64) * self.step_s

    @property
    def centres_s(self) -> Floats:
        """Centres of the bins in seconds, shape (count,)."""
        return (np.arange(self.count, dtype=np.float64) + 0.5) * self.step_s

    def index(self, at_s: Floats) -> NDArray[np.int64]:
        """The bin of each instant, same shape, clipped to the first and last bin. NaN goes to bin 0, so callers mask it."""
        return np.clip(np.nan_to_num(at_s) // self.step_s, 0, self.count - 1).astype(np.int64)

    def counts(self, at_s: Floats) -> Floats:
        """Number of instants in each bin, shape (count,); NaN is left out."""
        known = at_s[~np.isnan(at_s)]
        return np.bincount(self.index(known), minlength=self.count).astype(np.float64)

    def mean(self, at_s: Floats, values: Floats) -> Floats:
        """Mean of the values in each bin, shape (count,); NaN for empty bins. Entries with a NaN are left out."""
        known = ~np.isnan(at_s) & ~np.isnan(values)
        rows = self.index(at_s[known])
        seen = np.bincount(rows, minlength=self.count)
        total = np.bincount(rows, weights=values[known], minlength=self.count)
        return np.where(seen > 0, total / np.maximum(seen, 1), np.nan)

    def quantile(self, at_s: Floats, values: Floats, share: float) -> Floats:
        """The quantile `share` (0 to 1) of the values in each bin, shape (count,); NaN for empty bins."""
        known = ~np.isnan(at_s) & ~np.isnan(values)
        rows, kept = self.index(at_s[known]), values[known]
        order = np.argsort(rows, kind="stable")
        parts = np.split(kept[order], np.cumsum(np.bincount(rows, minlength=self.count))[:-1])
        return np.array([np.quantile(part, share) if len(part) else np.nan for part in parts])


def time_bins(end_s: float, *, at_most: int = 90) -> TimeBins:
    """The narrowest bins of a round width that cover 0 to `end_s` with at most `at_most` of them."""
    end_s = max(end_s, 1e-3)
    wanted = end_s / at_most
    step_s = next((step for step in NICE_STEPS_S if step >= wanted), None)
    if step_s is None:
        step_s = 86400.0 * np.ceil(wanted / 86400.0)
    # A whole number of steps, but for rounding, must not get an empty bin at its end.
    return TimeBins(step_s=float(step_s), count=max(1, int(np.ceil(end_s / step_s - 1e-9))))


def population(begin_s: Floats, end_s: Floats, at_s: Floats) -> Floats:
    """Number of intervals [begin, end) that contain each instant, same shape as `at_s`.

    An interval whose begin is NaN is left out; one whose end is NaN never ends. `end_s` must not lie before `begin_s`.
    """
    began = ~np.isnan(begin_s)
    # Begins so far less ends so far: two sorts in place of a look at every interval for every instant.
    ends = np.sort(np.where(np.isnan(end_s[began]), np.inf, end_s[began]))
    begins = np.sort(begin_s[began])
    covered = np.searchsorted(begins, at_s, side="right") - np.searchsorted(ends, at_s, side="right")
    return covered.astype(np.float64)


def log_edges(low: float, high: float, *, per_decade: int = 12) -> Floats:
    """Logarithmic bin edges that cover `low` to `high`, `per_decade` to a power of ten.

    The edges lie on a fixed grid, so that histograms of different runs have the same bins.
    """
    first = int(np.floor(np.log10(max(low, 1e-6)) * per_decade))
    last = int(np.ceil(np.log10(max(high, low, 1e-6)) * per_decade))
    edges: Floats = 10.0 ** (np.arange(first, max(last, first + 1) + 1) / per_decade)
    return edges


def share_grid(bins: TimeBins, at_s: Floats, row: NDArray[np.int32], rows: int, part: Floats, whole: Floats) -> Floats:
    """Sum of `part` over sum of `whole` for each row and bin, shape (rows, bins); NaN where nothing was measured.

    `at_s`, `row`, `part` and `whole` have one element for each sample; samples with a NaN part or a row of -1 are left out.
    """
    known = ~np.isnan(part) & (row >= 0)
    cell = row[known] * bins.count + bins.index(at_s[known])
    size = rows * bins.count
    top = np.bincount(cell, weights=part[known], minlength=size)
    bottom = np.bincount(cell, weights=whole[known], minlength=size)
    # The inner `where`: numpy divides every cell, the empty ones too, and would warn of them.
    grid: Floats = np.where(bottom > 0, top / np.where(bottom > 0, bottom, 1.0), np.nan).reshape(rows, bins.count)
    return grid
