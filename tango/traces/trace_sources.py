"""Trace files as sources of a workload: read once in a process, cut to an excerpt, and resampled by a seed.

    files -> cached content -> Window of the wanted class -> blocks by the seed -> ClassArrivals

Both classes of one file share the excerpt and the blocks of each copy, so that requests which came together in the trace stay together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import RequestRejected, UsageError
from tango.traces.block_bootstrap import Circle, chosen, copies_for, lay, rows_of
from tango.traces.class_arrivals import ClassArrivals
from tango.traces.draws import hashed, seeded
from tango.traces.files import expand
from tango.traces.generators import MAX_REQUESTS
from tango.traces.mapping import entries, settled
from tango.traces.rate_curve import RateCurve
from tango.traces.reading import Reading, read_trace
from tango.traces.transforms import rescale_work, take

MAX_BLOCKS = 5_000_000
"""Most blocks over all copies. More would be needed only if each request were copied thousands of times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Redraw:
    """How the requests of one class are drawn from a source."""

    service_class: ServiceClass
    duration_s: float
    """Seconds of arrivals to draw."""
    from_s: float
    """Begin of the excerpt, in seconds after the files' first arrival."""
    resample: bool
    """Whether blocks are drawn; False: the first copy is the excerpt as recorded."""
    seed: int
    blocks_of: str
    """Name of the random stream of blocks; sources with the same name get the same blocks."""
    n: int | None
    """Number of requests; None: as many as the drawn blocks hold."""
    work_s: float | None
    """Mean that known works are scaled to; None: works stay as recorded."""
    map: str = ""
    """Makes Tango's columns of the files'; empty: they are of a known format."""

    def block_rng(self) -> np.random.Generator:
        """The random generator for the blocks."""
        return seeded(self.seed, self.blocks_of)

    def own_rng(self) -> np.random.Generator:
        """The random generator for everything that this class draws for itself."""
        return seeded(self.seed, f"thin-{self.service_class.label}")


def arrivals_of(files: tuple[str, ...], fleet: Fleet, redraw: Redraw) -> ClassArrivals:
    """The requests of one class, drawn from trace files as `redraw` says.

    Raises: BadRows for files with bad rows; RequestRejected if the files or the excerpt have no request of the class.
    """
    content = content_of(files, redraw.map)
    if isinstance(content, RateCurve):
        return _of_curve(content, redraw)
    return _of_trace(content, fleet, redraw)


def content_of(files: tuple[str, ...], map: str = "") -> Trace | RateCurve:
    """The trace or rate curve in files, or what a map makes of them. It is cached in the process until a file's time stamp or size changes.

    Raises: BadRows; UsageError for what is no map.
    """
    return _reading(files, map).content


def notes_of(files: tuple[str, ...], map: str = "") -> tuple[str, ...]:
    """What whoever reads figures made from these files has to know of them. Raises: as `content_of`."""
    return _reading(files, map).notes


def _reading(files: tuple[str, ...], map: str) -> Reading:
    stamps = ((path, path.stat()) for path in expand(files))
    return _read(tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stamps), map)


@lru_cache(maxsize=8)
def _read(stamped: tuple[tuple[str, int, int], ...], map: str) -> Reading:
    return read_trace([Path(path) for path, _, _ in stamped], map=map)


def _of_trace(trace: Trace, fleet: Fleet, redraw: Redraw) -> ClassArrivals:
    begin_s = float(trace.arrival_s[0]) + redraw.from_s
    first, last = np.searchsorted(trace.arrival_s, (begin_s, begin_s + redraw.duration_s))
    circle = Circle(period_s=_period_s(trace.arrival_s[first:last], trace.arrival_s, redraw), duration_s=redraw.duration_s)
    rows = first + np.flatnonzero(trace.service_class[first:last] == int(redraw.service_class))
    if not len(rows):
        raise _nothing(trace, redraw, float(trace.span_s), at_all=bool(np.any(trace.service_class == int(redraw.service_class))))
    excerpt = settled(_rescaled(take(trace, rows), redraw), fleet)
    times_s = excerpt.arrival_s - begin_s
    starts, keep = _blocks(times_s, circle, redraw)
    laid = lay(times_s, circle, starts, keep)
    return ClassArrivals(
        arrival_s=laid.at_s,
        cluster=_entry(excerpt, fleet, redraw.seed, laid.row, laid.copy),
        service=excerpt.service[laid.row],
        cpu_work_s=_known(excerpt.cpu_work_s, laid.row),
        # LC memory is the service's.
        memory_mib=_known(excerpt.memory_mib, laid.row) if redraw.service_class is ServiceClass.BE else None,
        tenant=None if excerpt.tenant is None else excerpt.tenant[laid.row],
        tenants=excerpt.tenants,
    )


def _period_s(excerpt_s: NDArray[np.float64], all_s: NDArray[np.float64], redraw: Redraw) -> float:
    """The duration, or what the trace has of it, with one mean gap from its last arrival to its first."""
    begin_s = float(all_s[0]) + redraw.from_s
    if all_s[-1] - begin_s >= redraw.duration_s or len(excerpt_s) < 2 or excerpt_s[-1] <= begin_s:
        return redraw.duration_s
    closing = len(excerpt_s) / (len(excerpt_s) - 1)
    return min(float(excerpt_s[-1] - begin_s) * closing, redraw.duration_s)


def _blocks(times_s: NDArray[np.float64], circle: Circle, redraw: Redraw) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """Begins of the blocks of as many copies as it takes, and which of their arrivals are kept to have exactly n."""
    copies = 1 if redraw.n is None else copies_for(redraw.n, times_s, circle)
    while True:
        if copies * len(circle.block_begin_s) > MAX_BLOCKS:
            raise RequestRejected(
                f"the excerpt has {len(times_s)} {redraw.service_class.label} requests, too few to draw {redraw.n} from; take a longer"
                " excerpt or another trace"
            )
        starts = circle.starts(copies, redraw.block_rng(), first_as_recorded=not redraw.resample)
        total = int(rows_of(times_s, circle, starts)[1].sum())
        if redraw.n is None:
            return starts, None
        if total >= redraw.n:
            return starts, chosen(total, redraw.n, redraw.own_rng())
        # Chance gave blocks with few arrivals of this class.
        copies += max(1, copies // 50)


def _entry(excerpt: Trace, fleet: Fleet, seed: int, row: NDArray[np.int32], copy: NDArray[np.int32]) -> NDArray[np.int32]:
    """Entry clusters: the named one; one for all requests of an origin in a copy; else left to mapping."""
    n = len(fleet.clusters)
    cluster, has_origin = entries(excerpt, fleet)
    cluster = np.where(cluster < 0, n, cluster).astype(np.int32)
    if not has_origin.any():
        return cluster[row]
    of_origin = (hashed(seed, excerpt.cluster[row], copy) % np.uint64(n)).astype(np.int32)
    return np.where(has_origin[row], of_origin, cluster[row])


def _rescaled(trace: Trace, redraw: Redraw) -> Trace:
    if redraw.work_s is None:
        return trace
    name = "lc_work_s" if redraw.service_class is ServiceClass.LC else "be_work_s"
    return rescale_work(trace, **{name: redraw.work_s})


def _known(values: NDArray[np.float64], row: NDArray[np.int32]) -> NDArray[np.float64] | None:
    return None if np.isnan(values).all() else values[row]


def _of_curve(curve: RateCurve, redraw: Redraw) -> ClassArrivals:
    """Requests of a rate curve: as many as wanted, Poisson given their number, over the minutes of the drawn blocks."""
    if redraw.service_class is not ServiceClass.LC:
        raise _nothing(curve, redraw, curve.end_s, at_all=False)
    times, before = curve.cumulative()
    period_s = min(curve.end_s - redraw.from_s, redraw.duration_s)
    bounds = np.interp((redraw.from_s, redraw.from_s + period_s), times, before)
    in_period = float(bounds[1] - bounds[0])
    if not in_period:
        raise _nothing(curve, redraw, curve.end_s, at_all=True)
    circle = Circle(period_s=period_s, duration_s=redraw.duration_s)
    start = circle.starts(1, redraw.block_rng(), first_as_recorded=not redraw.resample)[0]

    def counted(at_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests from the excerpt's begin to a time of the circle, counting on beyond its end."""
        turns = np.floor(at_s / period_s)
        return np.asarray(np.interp(redraw.from_s + at_s - turns * period_s, times, before) - bounds[0] + turns * in_period)

    reached = counted(start)
    weight = np.cumsum(counted(start + circle.block_length_s) - reached)
    n = round(float(weight[-1])) if redraw.n is None else redraw.n
    if not n:
        raise _nothing(curve, redraw, curve.end_s, at_all=True)
    if n > MAX_REQUESTS:
        raise UsageError(
            f"{curve.source} has {n} requests in the excerpt, expected at most {MAX_REQUESTS}; give a load or a duration"
        )
    share = redraw.own_rng().random(n) * weight[-1]
    block = np.minimum(np.searchsorted(weight, share, side="right"), len(weight) - 1)
    share += (reached - np.concatenate(([0.0], weight[:-1])))[block]
    turns = share >= in_period
    at_s = np.interp(share - turns * in_period + bounds[0], before, times) - redraw.from_s + turns * period_s
    at_s += (circle.block_begin_s - start)[block]
    return ClassArrivals(arrival_s=np.clip(at_s, 0.0, redraw.duration_s))


def _nothing(source: Trace | RateCurve, redraw: Redraw, span_s: float, *, at_all: bool) -> RequestRejected:
    label = redraw.service_class.label
    if not at_all:
        return RequestRejected(f"{source.source} has no {label} request, expected some in the source of {label} requests")
    end_s = redraw.from_s + redraw.duration_s
    return RequestRejected(
        f"{source.source}: no {label} request arrives from {redraw.from_s:g} to {end_s:g} s after the first arrival; the trace spans"
        f" {span_s:g} s"
    )
