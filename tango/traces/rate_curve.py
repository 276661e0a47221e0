"""Traces that have counts of requests per minute and no single requests.

Such a trace can be long (575 million requests of the World Cup), so it is cut and thinned as counts and expanded to requests last. Given
its count, a minute's requests are a Poisson process: their times are independent and uniform in the minute.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import RequestRejected, UsageError
from tango.traces.draws import seeded

MINUTE_S = 60.0
MAX_EXPANDED = 20_000_000
"""Most requests of one expansion: 33 bytes each in memory, 60 in CSV."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """Counts of LC requests in m minutes, shape (m,), in order; a minute without a request may be missing."""

    begin_s: NDArray[np.float64]
    """Start of each minute, in seconds from the trace's first."""
    count: NDArray[np.int64]
    source: str = ""

    def __len__(self) -> int:
        return int(self.count.sum())

    @property
    def end_s(self) -> float:
        """End of the last minute."""
        return float(self.begin_s[-1]) + MINUTE_S if len(self.begin_s) else 0.0

    def within(self, from_s: float, to_s: float) -> RateCurve:
        """The whole minutes that overlap [from_s, to_s), with unchanged times.

        Raises: UsageError if the bounds are no interval; RequestRejected if nothing arrives in those minutes.
        """
        if not 0 <= from_s < to_s:
            raise UsageError(f"cannot cut from {from_s:g} to {to_s:g} s, expected 0 <= from < to")
        kept = (self.begin_s + MINUTE_S > from_s) & (self.begin_s < to_s)
        part = dataclasses.replace(self, begin_s=self.begin_s[kept], count=self.count[kept])
        if not len(part):
            raise RequestRejected(f"no request arrives from {from_s:g} to {to_s:g} s; the trace runs from 0 to {self.end_s:g} s")
        return part

    def thinned(self, share: float, *, seed: int) -> RateCurve:
        """The counts after keeping each request with probability `share`, which makes them binomial.

        Raises: UsageError for a share outside (0, 1]; RequestRejected if none is left.
        """
        if not 0 < share <= 1:
            raise UsageError(f"cannot thin to {share:g}, expected a share above 0 and at most 1")
        part = dataclasses.replace(self, count=seeded(seed, "thin").binomial(self.count, share))
        if not len(part):
            raise RequestRejected(f"thinning {len(self)} requests to {share:g} left none; take a larger share or another seed")
        return part

    def expanded(self, *, seed: int) -> Trace:
        """The requests one by one, at random times in whole microseconds; services, entry clusters, works and memory stay open.

        Raises: RequestRejected for more than `MAX_EXPANDED` requests.
        """
        n = len(self)
        if n > MAX_EXPANDED:
            raise RequestRejected(
                f"{self.source or 'the trace'}: {n} requests in {len(self.count)} minutes, expected at most {MAX_EXPANDED} to be"
                " written out one by one; cut them with --from and --to, thin them with --thin (tango trace convert, tango run submit),"
                " or name the file as the source of a workload (tango trace compose), which draws no more requests than its load takes"
            )
        time_us = np.repeat((self.begin_s * 1e6).astype(np.int64), self.count)
        time_us += seeded(seed, "minutes").integers(0, round(MINUTE_S * 1e6), n)
        time_us.sort()
        unknown = np.full(n, np.nan)
        return Trace(
            arrival_s=time_us / 1e6,
            service_class=np.full(n, int(ServiceClass.LC), np.int8),
            service=np.zeros(n, np.int32),
            cluster=np.zeros(n, np.int32),
            cpu_work_s=unknown,
            memory_mib=unknown.copy(),
            services=("",),
            clusters=("",),
            source=self.source,
        )

    def cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The number of requests before a time, a piecewise linear function: (times, counts), shape (2m,) each, ascending."""
        times = np.stack((self.begin_s, self.begin_s + MINUTE_S), axis=1).ravel()
        after = np.cumsum(self.count).astype(np.float64)
        return times, np.stack((after - self.count, after), axis=1).ravel()
