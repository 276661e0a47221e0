"""Workloads: the sources of a comparison's requests, and the drawing of requests from them by a seed.

    Workload + fleet + seed -> arrivals of each class (patterns, trace files) -> joined, hotspots -> mapping -> works to the load

A workload is a value that names its sources and is kept in a cell as JSON. A seed draws everything that is random: arrivals, entry
clusters, services, works. A request's work depends on (seed, request index) only, so that all systems of a comparison serve the same
work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import RequestRejected, UsageError
from tango.traces import borg_shape
from tango.traces.class_arrivals import NONE, ClassArrivals, joined
from tango.traces.column_map import column_map
from tango.traces.draws import seeded
from tango.traces.generators import MAX_REQUESTS, PATTERNS, PHASE_SPREAD, arrivals
from tango.traces.hotspots import Hotspots, moved
from tango.traces.mapping import map_trace
from tango.traces.trace_sources import Redraw, arrivals_of
from tango.traces.transforms import BE_CLIP, LC_CLIP, with_mean

LC_LOAD_SHARE = 0.4
"""LC's part of the offered CPU work. Chosen: at a load of 1 LC alone stays below the fleet's CPU at the crests of its waves (1.8 times the
mean), and BE has most of the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The sources of both classes, their load and their duration. Raises: UsageError for a value or a source that is not valid."""

    lc: tuple[str, ...]
    """One pattern of `PATTERNS`, or trace files (parts, globs); empty: no LC requests."""
    be: tuple[str, ...]
    duration_s: float
    """Seconds in which the requests arrive."""
    load: float | None = None
    """Offered CPU work of both classes over the CPU of the fleet; None: that of the traces."""
    lc_load_share: float = LC_LOAD_SHARE
    """LC's part of the load."""
    from_s: float = 0.0
    """Of trace files: begin of the window of `duration_s`, in seconds after the first arrival."""
    be_from_s: float | None = None
    """The same for a BE source of its own; None: `from_s`."""
    resample: bool = True
    """Of trace files: whether the seed draws blocks of the window. False: arrivals as recorded, repeated to the end of the duration, with
    further drawn copies only if the load needs more requests. Entry clusters, services and works that the trace leaves open are drawn in
    either case."""
    lc_map: str = ""
    """Of LC files that are in no known format: Tango's columns as expressions over theirs (`column_map`)."""
    be_map: str = ""
    """The same for BE files; one source for both classes has one map."""
    hotspots: Hotspots | None = None
    phase_spread: float = PHASE_SPREAD
    """Of periodic patterns: share of a period over which the clusters' phases are spread; 0: all peak together."""

    def __post_init__(self) -> None:
        if not self.lc and not self.be:
            raise UsageError(f"the workload has no source, expected a pattern ({', '.join(PATTERNS)}) or trace files")
        if not (0 < self.duration_s < np.inf):
            raise UsageError(f"duration_s is {self.duration_s:g}, expected seconds above 0")
        if self.load is not None and not (0 < self.load < np.inf):
            raise UsageError(f"load is {self.load:g}, expected a number above 0 (1: as much work as the fleet has CPU)")
        if not 0 <= self.lc_load_share <= 1:
            raise UsageError(f"lc_load_share is {self.lc_load_share:g}, expected 0 to 1")
        for name in ("from_s", "be_from_s", "phase_spread"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < np.inf:
                raise UsageError(f"{name} is {value:g}, expected 0 or more")
        if self.lc == self.be and self.be_from_s is not None:
            raise UsageError("be_from_s is for a BE source of its own; both classes of one source share their window")
        for source, map in ((self.lc, self.lc_map), (self.be, self.be_map)):
            _check_source(source, has_load=self.load is not None)
            if map and (not source or is_pattern(source)):
                raise UsageError(
                    f"the map {map!r} is for trace files, and the source is {', '.join(source) or 'none'}; leave it out"
                )
            if map:
                column_map(map)
        if self.lc == self.be and self.lc_map != self.be_map:
            raise UsageError("a map of BE (--be-map) is for a BE source of its own; both classes of one source share theirs")

    @property
    def label(self) -> str:
        """A short name for tables: sources, load, and options that differ from their defaults; without duration and folders."""
        names = [_short(source) for source in dict.fromkeys((self.lc, self.be)) if source]
        parts = ["+".join(names) + (f"@{self.load:g}" if self.load is not None else "")]
        if self.load is not None and self.lc_load_share != LC_LOAD_SHARE:
            parts.append(f"lc={self.lc_load_share:g}")
        if self.from_s or self.be_from_s:
            parts.append("from=" + ",".join(f"{begin:g}" for begin in (self.from_s, self.be_from_s) if begin is not None))
        if not self.resample:
            parts.append("as-recorded")
        if self.lc_map or self.be_map:
            parts.append("mapped")
        if self.hotspots:
            parts.append(f"hot={self.hotspots.clusters}x{self.hotspots.factor:g}/{self.hotspots.moves}")
        if self.phase_spread != PHASE_SPREAD:
            parts.append(f"phases={self.phase_spread:g}")
        return " ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """The workload as a JSON object."""
        values = dataclasses.asdict(self)
        return values | {"lc": list(self.lc), "be": list(self.be)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Workload:
        """The workload from a JSON object of `as_dict`. Raises: UsageError for unknown or missing keys, or values that are not valid."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(
                f"a workload has no {', '.join(unknown)}{near_name(unknown, known)}, expected some of {', '.join(known)}"
            )
        missing = [name for name in ("lc", "be", "duration_s") if name not in values]
        if missing:
            raise UsageError(f"the workload lacks {', '.join(missing)}")
        for name in ("lc", "be"):
            if isinstance(values[name], str):
                raise UsageError(f"{name} of a workload is {values[name]!r}, expected a list of patterns or files")
        try:
            given = dict(values) | {"lc": tuple(values["lc"]), "be": tuple(values["be"])}
            if given.get("hotspots"):
                given["hotspots"] = Hotspots(**given["hotspots"])
            return cls(**given)
        except TypeError as error:
            raise UsageError(f"a value of the workload has another type than expected ({error})") from error


def is_pattern(source: tuple[str, ...]) -> bool:
    """Whether a source is a pattern and not files; a file named like a pattern is written `./p3`."""
    return len(source) == 1 and source[0] in PATTERNS


def _check_source(source: tuple[str, ...], *, has_load: bool) -> None:
    if len(source) > 1 and set(source) & set(PATTERNS):
        raise UsageError(f"the source {', '.join(source)} mixes patterns and files, expected one pattern or files alone")
    for name in source:
        if name not in PATTERNS and not set("./*") & set(name):
            raise UsageError(
                f"{name!r} is no pattern{near_name(name, PATTERNS)}; known patterns: {', '.join(PATTERNS)}; a file is named by a path "
                "with a / or with its ending"
            )
    if is_pattern(source) and not has_load:
        raise UsageError(f"pattern {source[0]} has no rate of its own, expected a load")


def draw_requests(workload: Workload, fleet: Fleet, seed: int) -> NewRequests:
    """The requests of a workload on a fleet, due from 0 to the duration; equal arguments give equal requests.

    Raises: RequestRejected if a source has no request of its class, or the fleet no service of a class.
    """
    wanted = {c: _wanted_work_s(workload, fleet, c) for c in ServiceClass}
    lc, be = (_arrivals(workload, fleet, c, wanted[c], seed) for c in ServiceClass)
    trace = joined(lc, be, fleet, workload.label)
    del lc, be
    if workload.hotspots:
        n = len(fleet.clusters)
        cluster = moved(trace.cluster, trace.arrival_s, workload.hotspots, clusters=n, duration_s=workload.duration_s, seed=seed)
        trace = dataclasses.replace(trace, cluster=cluster)
    requests = map_trace(trace, fleet, seed=seed, begin_s=0.0)
    return dataclasses.replace(requests, cpu_work_s=_to_load(requests, wanted))


def trace_of(requests: NewRequests, source: str) -> Trace:
    """The requests as a trace with everything that was drawn, so that mapping the trace changes nothing."""
    return Trace(
        arrival_s=requests.due_s,
        service_class=requests.service_class,
        service=requests.service,
        cluster=requests.cluster,
        cpu_work_s=requests.cpu_work_s,
        memory_mib=requests.memory_mib,
        services=requests.services,
        clusters=requests.clusters,
        tenant=requests.tenant,
        tenants=requests.tenants,
        source=source,
    )


def offered_load(
    requests: NewRequests | Trace, fleet: Fleet, duration_s: float, service_class: ServiceClass | None = None
) -> float:
    """Load: CPU work of the requests, or of those of one class, over the CPU-seconds of the fleet in `duration_s`."""
    work_s = requests.cpu_work_s
    if service_class is not None:
        work_s = work_s[requests.service_class == int(service_class)]
    return float(work_s.sum()) / (fleet_cores(fleet) * duration_s)


def fleet_cores(fleet: Fleet) -> float:
    """The number of cores of all nodes."""
    return sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1000.0


def mean_work_s(fleet: Fleet, service_class: ServiceClass) -> float:
    """Mean CPU work of a request whose service is drawn uniformly. Raises: RequestRejected if the fleet has no service of the class."""
    services = fleet.services_of(service_class)
    if not services:
        raise RequestRejected(f"fleet {fleet.name!r} has no {service_class.label} service, which the workload needs")
    return sum(service.cpu_work_s for service in services) / len(services)


def _wanted_work_s(workload: Workload, fleet: Fleet, service_class: ServiceClass) -> float | None:
    """CPU-seconds that a class is to offer; None: those of its trace. A class without the other offers the whole load."""
    source, other = (workload.lc, workload.be) if service_class is ServiceClass.LC else (workload.be, workload.lc)
    if not source:
        return 0.0
    if workload.load is None:
        return None
    share = workload.lc_load_share if service_class is ServiceClass.LC else 1.0 - workload.lc_load_share
    return workload.load * (share if other else 1.0) * fleet_cores(fleet) * workload.duration_s


def _arrivals(workload: Workload, fleet: Fleet, service_class: ServiceClass, work_s: float | None, seed: int) -> ClassArrivals:
    """The requests of one class that offer `work_s`; with None those that its trace has."""
    source = workload.lc if service_class is ServiceClass.LC else workload.be
    if work_s == 0:
        return NONE
    n = None if work_s is None else _count(work_s, fleet, service_class)
    if n is not None and is_pattern(source):
        return _pattern(workload, fleet, service_class, n, seed)
    from_s = workload.from_s if service_class is ServiceClass.LC or workload.be_from_s is None else workload.be_from_s
    redraw = Redraw(
        service_class=service_class,
        duration_s=workload.duration_s,
        from_s=from_s,
        resample=workload.resample,
        seed=seed,
        blocks_of="blocks" if workload.lc == workload.be else f"{service_class.label}-blk",
        n=n,
        work_s=None if work_s is None else mean_work_s(fleet, service_class),
        map=workload.lc_map if service_class is ServiceClass.LC else workload.be_map,
    )
    return arrivals_of(source, fleet, redraw)


def _count(work_s: float, fleet: Fleet, service_class: ServiceClass) -> int:
    """Number of requests of the fleet's mean work that offer `work_s`."""
    count = max(1, round(work_s / mean_work_s(fleet, service_class)))
    if count > MAX_REQUESTS:
        raise UsageError(
            f"the load takes {count} {service_class.label} requests, expected at most {MAX_REQUESTS}; take a shorter duration"
        )
    return count


def _pattern(workload: Workload, fleet: Fleet, service_class: ServiceClass, count: int, seed: int) -> ClassArrivals:
    (pattern,) = workload.lc if service_class is ServiceClass.LC else workload.be
    rng = seeded(seed, f"{pattern}-{service_class.label}")
    arrival_s, cluster = arrivals(
        pattern, service_class, count, workload.duration_s, len(fleet.clusters), rng, workload.phase_spread
    )
    if pattern != "borg":
        return ClassArrivals(arrival_s=arrival_s, cluster=cluster)
    clip = LC_CLIP if service_class is ServiceClass.LC else BE_CLIP
    work_s = with_mean(borg_shape.works(service_class, count, rng), mean_work_s(fleet, service_class), clip=clip)
    memory_mib = borg_shape.memories_mib(service_class, count, rng)
    return ClassArrivals(arrival_s=arrival_s, cluster=cluster, cpu_work_s=work_s, memory_mib=memory_mib)


def _to_load(requests: NewRequests, wanted: Mapping[ServiceClass, float | None]) -> NDArray[np.float64]:
    """Works whose sum is what each class shall offer: one factor a class, near 1, takes away what chance left."""
    factor = np.ones(len(ServiceClass))
    offered = np.bincount(requests.service_class, requests.cpu_work_s, minlength=len(factor))
    for service_class, work_s in wanted.items():
        if work_s and offered[service_class] > 0:
            factor[service_class] = work_s / offered[service_class]
    return requests.cpu_work_s * factor[requests.service_class]


def _short(source: tuple[str, ...]) -> str:
    name = source[0].rsplit("/", 1)[-1]
    for ending in (".gz", ".csv", ".parquet", ".json"):
        name = name.removesuffix(ending)
    return name + ("…" if len(source) > 1 else "")
