"""Changes of a trace before it is mapped on a fleet: cut, thin, rescale works, drop names."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import RequestRejected, UsageError
from tango.traces.draws import seeded
from tango.traces.rate_curve import RateCurve

BE_CLIP = 10.0
"""Largest rescaled BE work, in means of the class, so that no request outlasts a short run. Chosen, as the next."""
LC_CLIP = 4.0
"""Largest rescaled LC work, in means of the class, so that a request can still meet its target."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSelection:
    """What is taken of a trace, and how large its works become; by default all of it as it is."""

    from_s: float = 0.0
    """First trace second taken; it becomes zero."""
    to_s: float = np.inf
    """Trace second before which to stop."""
    share: float | None = None
    """Probability with which each request is kept; None: all are."""
    work_scale: float = 1.0
    """Factor of the works that the trace gives."""
    lc_work_s: float | None = None
    """Mean to which LC works are brought, in CPU-seconds; None leaves them."""
    be_work_s: float | None = None
    """As `lc_work_s`, for BE."""

    def of(self, content: Trace | RateCurve, *, seed: int) -> Trace:
        """The trace cut, thinned and rescaled, in this order. Raises: as `select` and `rescale_work`."""
        part = select(content, from_s=self.from_s, to_s=self.to_s, share=self.share, seed=seed)
        return rescale_work(part, scale=self.work_scale, lc_work_s=self.lc_work_s, be_work_s=self.be_work_s)


def select(
    content: Trace | RateCurve, *, from_s: float = 0.0, to_s: float = np.inf, share: float | None = None, seed: int = 0
) -> Trace:
    """A random share of the requests of an interval. A `RateCurve` is cut and thinned before it is expanded.

    Raises: as `cut` and `thin`; RequestRejected if a `RateCurve` has too many requests left to expand.
    """
    is_cut = from_s != 0.0 or to_s != np.inf
    if isinstance(content, RateCurve):
        curve = content.within(from_s, to_s) if is_cut else content
        content = (curve if share is None else curve.thinned(share, seed=seed)).expanded(seed=seed)
        share = None
    part = cut(content, from_s, to_s) if is_cut else content
    return part if share is None else thin(part, share, seed=seed)


def cut(trace: Trace, from_s: float = 0.0, to_s: float = np.inf) -> Trace:
    """The requests that arrive in [from_s, to_s), in trace seconds; `from_s` becomes zero.

    Raises: UsageError if the bounds are no interval; RequestRejected if nothing arrives in it.
    """
    if not 0 <= from_s < to_s:
        raise UsageError(f"cannot cut from {from_s:g} to {to_s:g} s, expected 0 <= from < to")
    first, last = np.searchsorted(trace.arrival_s, (from_s, to_s), side="left")
    part = take(trace, np.arange(first, last))
    if not len(part):
        begin, end = (trace.arrival_s[0], trace.arrival_s[-1]) if len(trace) else (0.0, 0.0)
        raise RequestRejected(f"no request arrives from {from_s:g} to {to_s:g} s; the trace runs from {begin:g} to {end:g} s")
    return dataclasses.replace(part, arrival_s=np.round(part.arrival_s - from_s, 9))


def thin(trace: Trace, share: float, *, seed: int) -> Trace:
    """A random subset: each request is kept with probability `share`, by a draw that depends on (seed, its index) only.

    Raises: UsageError for a share outside (0, 1]; RequestRejected if none is left.
    """
    if not 0 < share <= 1:
        raise UsageError(f"cannot thin to {share:g}, expected a share above 0 and at most 1")
    part = take(trace, np.flatnonzero(seeded(seed, "thin").random(len(trace)) < share))
    if not len(part):
        raise RequestRejected(f"thinning {len(trace)} requests to {share:g} left none; take a larger share or another seed")
    return part


def rescale_work(trace: Trace, *, scale: float = 1.0, lc_work_s: float | None = None, be_work_s: float | None = None) -> Trace:
    """Multiply known works by `scale`, then scale those of a class to the mean `lc_work_s` or `be_work_s` if it is given.

    Works of a class with a given mean are clipped at `LC_CLIP` or `BE_CLIP` times that mean, which holds exactly afterwards. Unknown
    works (NaN) stay unknown. Raises: UsageError for a value that is not above 0.
    """
    for name, value in (("work scale", scale), ("LC work", lc_work_s), ("BE work", be_work_s)):
        if value is not None and not (value > 0 and np.isfinite(value)):
            raise UsageError(f"the {name} is {value:g}, expected a number above 0")
    work_s = trace.cpu_work_s * scale
    for service_class, mean_s, clip in ((ServiceClass.LC, lc_work_s, LC_CLIP), (ServiceClass.BE, be_work_s, BE_CLIP)):
        rows = (trace.service_class == int(service_class)) & ~np.isnan(work_s)
        if mean_s is not None and rows.any():
            work_s[rows] = with_mean(work_s[rows], mean_s, clip=clip)
    return dataclasses.replace(trace, cpu_work_s=work_s)


def forget(trace: Trace, *, services: bool = False, clusters: bool = False, tenants: bool = False) -> Trace:
    """The trace without names of services or clusters, so that mapping assigns them by its own rules, or of tenants."""
    none = np.zeros(len(trace), np.int32)
    if services:
        trace = dataclasses.replace(trace, service=none, services=("",))
    if clusters:
        trace = dataclasses.replace(trace, cluster=none.copy(), clusters=("",))
    return dataclasses.replace(trace, tenant=None, tenants=("",)) if tenants else trace


def take(trace: Trace, rows: NDArray[np.int64]) -> Trace:
    """The rows of a trace at the given ascending indices."""
    names = ("arrival_s", "service_class", "service", "cluster", "cpu_work_s", "memory_mib")
    tenant = None if trace.tenant is None else trace.tenant[rows]
    return dataclasses.replace(trace, tenant=tenant, **{name: getattr(trace, name)[rows] for name in names})


def with_mean(values: NDArray[np.float64], mean: float, *, clip: float) -> NDArray[np.float64]:
    """Positive values, shape (n,), scaled to a mean, with none above `clip` times the mean; their order by size is kept."""
    scaled = values * (mean / values.mean())
    for _ in range(50):
        # Clipping lowers the mean and scaling lifts the rest; the fixed point is reached from below, the limit then holds exactly.
        capped = scaled >= mean * clip
        scaled[capped] = mean * clip
        rest = scaled[~capped]
        missing = mean * len(scaled) - scaled.sum()
        if missing <= 1e-12 * mean * len(scaled) or not len(rest):
            break
        scaled[~capped] = rest * (1.0 + missing / rest.sum())
    return np.asarray(np.minimum(scaled, mean * clip))
