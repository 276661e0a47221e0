"""Memory of an LC request, from the memory of its instance beside the requests that it has in flight: least squares, as sums that add up.

    memory of an instance = what it holds without a request + memory of a request * requests in flight

Spread counts within instances alone (a fixed effect of each), so that one that has grown for another reason, as a cache, does not pass for
one with much to do. A runtime that gives no memory back shows as samples that the line does not explain, and nothing is learned from it.

Source: B. P. Welford, "Note on a method for calculating corrected sums of squares and products", Technometrics 4 (1962); the standard error
of a slope is in every text on linear regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

LEAST_DEGREES = 30
"""Samples, less one for each instance, from which on a slope is believed: below it the error of the error is large."""
LEAST_VARIANCE = 1.0
"""Variance of the requests in flight of an instance, squared, that is spread enough: they change by one request or more, mostly."""
MOST_ERROR = 0.2
"""Standard error of the slope over the slope, at the most: figures are learned in steps of a tenth anyway."""
LEAST_EXPLAINED = 0.5
"""Share of the spread of the memory that the line explains, at the least. Samples that follow each other are alike, so that the standard
error alone looks smaller than it is."""


class FittedLine(NamedTuple):
    """What was fitted, in MiB."""

    per_request: float
    idle: float
    """What an instance holds without a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryByLoad:
    """Sums over samples of (requests in flight, memory in MiB) of instances of one service."""

    samples: float = 0.0
    loads: float = 0.0
    memory: float = 0.0
    degrees: float = 0.0
    """Samples that were not the first one of their instance."""
    load_spread: float = 0.0
    """Sum of squares of the loads around the mean of their instance; the next two likewise."""
    both_spread: float = 0.0
    memory_spread: float = 0.0

    def __add__(self, other: MemoryByLoad) -> MemoryByLoad:
        return MemoryByLoad(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def line(self) -> FittedLine | None:
        """The fitted line; None where the samples do not tell one."""
        if self.degrees < LEAST_DEGREES or self.load_spread < self.degrees * LEAST_VARIANCE or not self.both_spread > 0.0:
            return None
        slope = self.both_spread / self.load_spread
        explained = slope * self.both_spread
        left = max(0.0, self.memory_spread - explained)
        error = math.sqrt(left / (self.degrees - 1.0) / self.load_spread)
        if explained < LEAST_EXPLAINED * self.memory_spread or error > MOST_ERROR * slope:
            return None
        return FittedLine(per_request=slope, idle=max(0.0, (self.memory - slope * self.loads) / self.samples))


NO_SAMPLES = MemoryByLoad()


class MeasuredInstance:
    """One instance while it is measured: gives what each sample adds to the sums."""

    __slots__ = ("_load", "_memory", "_samples", "read_at")

    def __init__(self) -> None:
        self._samples, self._load, self._memory = 0, 0.0, 0.0
        self.read_at = ""
        """Time of the last sample, as who measured it says."""

    def sample(self, load: float, memory_mib: float) -> MemoryByLoad:
        """Add a sample; the sums that it adds."""
        self._samples += 1
        off_load, off_memory = load - self._load, memory_mib - self._memory
        self._load += off_load / self._samples
        self._memory += off_memory / self._samples
        is_first = self._samples == 1
        return MemoryByLoad(
            samples=1.0,
            loads=load,
            memory=memory_mib,
            degrees=0.0 if is_first else 1.0,
            load_spread=0.0 if is_first else off_load * (load - self._load),
            both_spread=0.0 if is_first else off_load * (memory_mib - self._memory),
            memory_spread=0.0 if is_first else off_memory * (memory_mib - self._memory),
        )
