"""Workloads: where the requests of a comparison come from, and how a seed redraws them.

    Workload + fleet + seed -> arrivals of each class (patterns, trace files) -> joined Trace -> mapping -> works to the load

A workload is a value: it names its sources and stands in a sweep's cell as JSON. A seed redraws everything that chance decides:
arrivals, entry clusters, services, works. Which request has which work depends on (seed, request index) alone, so that all systems
of a comparison serve the same work.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass
from tango.errors import RequestRejected, UsageError
from tango.traces import borg_shape
from tango.traces.class_arrivals import NONE, ClassArrivals, joined
from tango.traces.draws import seeded
from tango.traces.generators import MAX_REQUESTS, PATTERNS, PHASE_SPREAD, arrivals
from tango.traces.mapping import map_trace
from tango.traces.transforms import BE_CLIP, LC_CLIP, with_mean

LC_LOAD_SHARE = 0.4
"""LC's part of the offered CPU work. Chosen: LC alone never fills a fleet, also at the crests of its waves (1.8 times the mean), and
BE has more work than LC leaves idle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The sources of both classes and what is made of them.

    Raises: UsageError for a figure out of bounds or a source that cannot be.
    """

    lc: tuple[str, ...]
    """One pattern of `PATTERNS`, or trace files (parts, globs); empty: no LC requests."""
    be: tuple[str, ...]
    duration_s: float
    """Seconds in which the requests arrive."""
    load: float | None = None
    """Offered CPU work of both classes over the CPU of the fleet; None: as the traces are."""
    lc_load_share: float = LC_LOAD_SHARE
    """Part of the load that LC offers."""
    phase_spread: float = PHASE_SPREAD
    """Periodic patterns: periods over which the phases of the clusters are spread; 0: all peak together."""

    def __post_init__(self) -> None:
        if not self.lc and not self.be:
            raise UsageError(f"the workload has no source, expected a pattern ({', '.join(PATTERNS)}) or trace files")
        if not (0 < self.duration_s < np.inf):
            raise UsageError(f"duration_s is {self.duration_s:g}, expected seconds above 0")
        if self.load is not None and not (0 < self.load < np.inf):
            raise UsageError(f"load is {self.load:g}, expected a number above 0 (1: as much work as the fleet has CPU)")
        if not 0 <= self.lc_load_share <= 1:
            raise UsageError(f"lc_load_share is {self.lc_load_share:g}, expected 0 to 1")
        for source in (self.lc, self.be):
            if self.load is None and is_pattern(source):
                raise UsageError(f"pattern {source[0]} has no rate of its own, expected a load")

    @property
    def label(self) -> str:
        """A short name for tables: sources, load and seconds."""
        names = [_short(source) for source in dict.fromkeys((self.lc, self.be)) if source]
        return "+".join(names) + (f"@{self.load:g}" if self.load is not None else "")

    def as_dict(self) -> dict[str, Any]:
        """The workload as JSON holds it."""
        values = dataclasses.asdict(self)
        return values | {"lc": list(self.lc), "be": list(self.be)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Workload:
        """The workload that `as_dict` gave. Raises: UsageError for unknown or missing keys, as the constructor for values."""
        known = {field.name: field for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise UsageError(f"a workload has no {', '.join(unknown)}, expected some of {', '.join(known)}")
        missing = [name for name in ("lc", "be", "duration_s") if name not in values]
        if missing:
            raise UsageError(f"the workload lacks {', '.join(missing)}")
        return cls(**(dict(values) | {"lc": tuple(values["lc"]), "be": tuple(values["be"])}))


def is_pattern(source: tuple[str, ...]) -> bool:
    """Whether a source is a generated pattern; a file of such a name is written `./p3`."""
    return len(source) == 1 and source[0] in PATTERNS


def draw_requests(workload: Workload, fleet: Fleet, seed: int) -> NewRequests:
    """The requests of a workload on a fleet, due from 0 to its duration; equal arguments give equal requests.

    Raises: RequestRejected if a source has no request of its class, or the fleet no service of a class.
    """
    wanted = {c: _wanted_work_s(workload, fleet, c) for c in ServiceClass}
    lc, be = (_pattern(workload, fleet, c, _count(wanted[c], fleet, c), seed) for c in ServiceClass)
    trace = joined(lc, be, fleet, workload.label)
    requests = map_trace(trace, fleet, seed=seed, begin_s=0.0)
    return dataclasses.replace(requests, cpu_work_s=_to_load(requests, wanted))


def offered_load(requests: NewRequests, fleet: Fleet, duration_s: float) -> float:
    """CPU work of the requests over what the fleet's CPU can do in that time."""
    return float(requests.cpu_work_s.sum()) / (fleet_cores(fleet) * duration_s)


def fleet_cores(fleet: Fleet) -> float:
    """Cores of all nodes."""
    return sum(node.cpu_millicores for cluster in fleet.clusters for node in cluster.nodes) / 1000.0


def mean_work_s(fleet: Fleet, service_class: ServiceClass) -> float:
    """Mean CPU work of a request whose service is drawn evenly. Raises: RequestRejected if the fleet has no such service."""
    services = fleet.services_of(service_class)
    if not services:
        raise RequestRejected(f"fleet {fleet.name!r} has no {service_class.label} service, which the workload needs")
    return sum(service.cpu_work_s for service in services) / len(services)


def _wanted_work_s(workload: Workload, fleet: Fleet, service_class: ServiceClass) -> float | None:
    """CPU-seconds that a class shall offer; None: as its trace is. A class alone offers the whole load."""
    source, other = (workload.lc, workload.be) if service_class is ServiceClass.LC else (workload.be, workload.lc)
    if not source:
        return 0.0
    if workload.load is None:
        return None
    share = workload.lc_load_share if service_class is ServiceClass.LC else 1.0 - workload.lc_load_share
    return workload.load * (share if other else 1.0) * fleet_cores(fleet) * workload.duration_s


def _count(work_s: float | None, fleet: Fleet, service_class: ServiceClass) -> int:
    """Requests of the fleet's mean work that offer `work_s`."""
    if not work_s:
        return 0
    count = max(1, round(work_s / mean_work_s(fleet, service_class)))
    if count > MAX_REQUESTS:
        raise UsageError(
            f"the load takes {count} {service_class.label} requests, expected at most {MAX_REQUESTS}; take a shorter duration"
        )
    return count


def _pattern(workload: Workload, fleet: Fleet, service_class: ServiceClass, n: int, seed: int) -> ClassArrivals:
    source = workload.lc if service_class is ServiceClass.LC else workload.be
    if not n:
        return NONE
    (pattern,) = source
    rng = seeded(seed, f"{pattern}-{service_class.label}")
    arrival_s, cluster = arrivals(pattern, service_class, n, workload.duration_s, len(fleet.clusters), rng, workload.phase_spread)
    if pattern != "borg":
        return ClassArrivals(arrival_s=arrival_s, cluster=cluster)
    clip = LC_CLIP if service_class is ServiceClass.LC else BE_CLIP
    work_s = with_mean(borg_shape.works(service_class, n, rng), mean_work_s(fleet, service_class), clip=clip)
    memory_mib = borg_shape.memories_mib(service_class, n, rng)
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
