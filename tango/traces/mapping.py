"""Maps a trace on a fleet: which service, which entry cluster, how much work, by rules that are stated here and in docs/traces.md.

1. **Service.** A named service must be one of the fleet and of the request's class. Requests without one are ranked within their
class
   by size (work where any of the class has it, else memory) and cut into as many groups of equal count as the class has services;
   the smallest group goes to the service with the least work. Without any size the service is drawn evenly.
2. **Entry.** A name of the fleet, or a whole number k for its k-th cluster. An origin (`~job`) is hashed with the seed, so that all
   requests of a job enter at one cluster. Without a name the cluster is drawn evenly.
3. **Work.** As the trace has it, else lognormal around the service's mean with its coefficient of variation.
4. **Memory.** LC: the service's, since the concurrency of instances is counted in it. BE: as the trace has it, else the
service's; where
   the service was assigned by rule 1 it is kept between a quarter and four times the service's.
5. **Time.** The first arrival is due at 0. Speed X divides times, works and targets by X, so that the offered load stays.

Every draw depends on (seed, request index) alone.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.trace import Trace
from tango.errors import BadRow, BadRows, RequestRejected, UsageError
from tango.traces.draws import RequestDraws, lognormal, request_draws
from tango.traces.own_format import ORIGIN

WARN_TARGET_S = 0.05
"""Below this the windows, ticks and round trips of the replay, which stay in wall time, weigh on the result."""

MEMORY_SPREAD = 4.0


def map_trace(trace: Trace, fleet: Fleet, *, seed: int, speed: float = 1.0, begin_s: float | None = None) -> NewRequests:
    """The requests of a run of this trace on this fleet, in wall seconds; `begin_s` is the trace second that is due at 0.

    By default that is the first arrival.
    Raises: UsageError for a speed that is not above 0; BadRows for a service or cluster that the fleet does not have;
    RequestRejected if the fleet has no service of a class that the trace needs.
    """
    if not (speed > 0 and np.isfinite(speed)):
        raise UsageError(f"the speed is {speed:g}, expected a number above 0")
    draws = request_draws(seed, len(trace))
    service, assigned = _services(trace, fleet, draws)
    mean_s, cv, own_mib, target_s = _figures(fleet.services)
    is_lc = trace.service_class == int(ServiceClass.LC)
    drawn_s = lognormal(draws.normal, mean_s[service], cv[service])
    work_s = np.where(np.isnan(trace.cpu_work_s), drawn_s, trace.cpu_work_s)
    if begin_s is None:
        begin_s = float(trace.arrival_s[0]) if len(trace) else 0.0
    return NewRequests(
        due_s=(trace.arrival_s - begin_s) / speed,
        target_s=np.where(is_lc, target_s[service] / speed, np.nan),
        service_class=trace.service_class.astype(np.int8),
        service=service,
        cluster=_clusters(trace, fleet, draws, seed),
        cpu_work_s=work_s / speed,
        memory_mib=_memory_mib(trace.memory_mib, own_mib[service], assigned, is_lc),
        services=tuple(s.name for s in fleet.services),
        clusters=tuple(c.name for c in fleet.clusters),
    )


def shortest_target_s(requests: NewRequests) -> float | None:
    """The shortest LC target in wall seconds; None without LC requests."""
    targets = requests.target_s[~np.isnan(requests.target_s)]
    return float(targets.min()) if len(targets) else None


def speed_warning(requests: NewRequests) -> str | None:
    """What to tell the user when a target is below `WARN_TARGET_S` of wall time, else None."""
    shortest = shortest_target_s(requests)
    if shortest is None or shortest >= WARN_TARGET_S:
        return None
    return (
        f"the shortest LC target is {shortest * 1000:.3g} ms of wall time at this speed; below {WARN_TARGET_S * 1000:.0f} ms the"
        " delays of the replay itself (windows, ticks, round trips, which are not sped up) lower the QoS rate; take a lower --speed"
    )


def by_size(size: NDArray[np.float64], groups: int) -> NDArray[np.int64]:
    """Group 0 … groups-1 of each value by rank, of equal counts (within one); equal values go by position."""
    rank = np.empty(len(size), np.int64)
    rank[np.argsort(size, kind="stable")] = np.arange(len(size))
    return rank * groups // max(len(size), 1)


def _services(trace: Trace, fleet: Fleet, draws: RequestDraws) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Row of the fleet's services for each request, and where it was assigned because the trace names none."""
    index = {service.name: row for row, service in enumerate(fleet.services)}
    named = np.array([index.get(name, -1) for name in trace.services] or [-1], np.int32)
    unnamed = np.array([not name for name in trace.services] or [True])
    service = named[trace.service]
    assigned = unnamed[trace.service]
    unknown = (service < 0) & ~assigned
    if unknown.any():
        _refuse(trace, "service", np.asarray(trace.services)[trace.service], unknown, " or ".join(index))
    class_of = np.array([int(s.service_class) for s in fleet.services] or [0], np.int8)
    other = ~assigned & (class_of[service] != trace.service_class)
    if other.any():
        row = int(np.flatnonzero(other)[0])
        found = ServiceClass(int(trace.service_class[row])).label
        name = trace.services[trace.service[row]]
        _refuse(
            trace,
            "class",
            np.full(len(trace), found),
            other,
            f"{ServiceClass(int(class_of[service[row]])).label}, the class of {name!r}",
        )
    for service_class in ServiceClass:
        rows = np.flatnonzero(assigned & (trace.service_class == int(service_class)))
        if len(rows):
            service[rows] = _assigned(trace, fleet, service_class, rows, draws)
    return service, assigned


def _assigned(
    trace: Trace, fleet: Fleet, service_class: ServiceClass, rows: NDArray[np.int64], draws: RequestDraws
) -> NDArray[np.int32]:
    choices = np.flatnonzero([s.service_class is service_class for s in fleet.services])
    if not len(choices):
        raise RequestRejected(
            f"the trace has {len(rows)} {service_class.label} requests, fleet {fleet.name!r} has no service of that class"
        )
    choices = choices[np.argsort([fleet.services[i].cpu_work_s for i in choices], kind="stable")]
    group = np.minimum((draws.service[rows] * len(choices)).astype(np.int64), len(choices) - 1)
    for size in (trace.cpu_work_s[rows], trace.memory_mib[rows]):
        known = np.flatnonzero(~np.isnan(size))
        if len(known):
            group[known] = by_size(size[known], len(choices))
            break
    return choices[group].astype(np.int32)


def _clusters(trace: Trace, fleet: Fleet, draws: RequestDraws, seed: int) -> NDArray[np.int32]:
    n = len(fleet.clusters)
    index = {str(row + 1): row for row in range(n)} | {cluster.name: row for row, cluster in enumerate(fleet.clusters)}
    rows = np.full(max(len(trace.clusters), 1), -1, np.int32)
    for code in np.unique(trace.cluster):
        name = trace.clusters[code] if trace.clusters else ""
        rows[code] = _origin(name, n, seed) if name.startswith(ORIGIN) else index.get(name, -1)
    cluster = rows[trace.cluster]
    empty = np.array([not name for name in trace.clusters] or [True])[trace.cluster]
    unknown = (cluster < 0) & ~empty
    if unknown.any():
        expected = f"{' or '.join(c.name for c in fleet.clusters)}, or a number from 1 to {n}"
        _refuse(trace, "cluster", np.asarray(trace.clusters)[trace.cluster], unknown, expected)
    drawn = np.minimum((draws.cluster * n).astype(np.int32), n - 1)
    return np.where(empty, drawn, cluster).astype(np.int32)


def _origin(name: str, clusters: int, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") % clusters


def _memory_mib(
    given: NDArray[np.float64], own: NDArray[np.float64], assigned: NDArray[np.bool_], is_lc: NDArray[np.bool_]
) -> NDArray[np.float64]:
    kept = np.where(assigned, np.clip(given, own / MEMORY_SPREAD, own * MEMORY_SPREAD), given)
    # A pod's memory is a whole number of MiB; rounding up never promises less than is used.
    return np.where(is_lc | np.isnan(given), own, np.maximum(np.ceil(kept), 1.0))


def _figures(services: tuple[Service, ...]) -> tuple[NDArray[np.float64], ...]:
    """Mean work, its spread, memory and target in seconds (NaN for BE), by service."""
    columns = [
        (s.cpu_work_s, s.cpu_work_cv, float(s.memory_mib), np.nan if s.target_ms is None else s.target_ms / 1000) for s in services
    ]
    return tuple(np.array(column, np.float64) for column in zip(*columns, strict=True))


def _refuse(trace: Trace, column: str, names: NDArray[np.str_], where: NDArray[np.bool_], expected: str) -> None:
    rows = np.flatnonzero(where)
    words, first, count = np.unique(names[rows], return_index=True, return_counts=True)
    bad = [
        BadRow(
            file=trace.source or "trace",
            line=0,
            column=column,
            found=f"{str(word)!r} ({times} requests, the first arrives at {trace.arrival_s[rows[at]]:.6g} s)",
            expected=expected,
        )
        for word, at, times in zip(words, first, count, strict=True)
    ]
    remedy = (
        f"tango trace convert --forget {column} drops the names, so that they are assigned by rule" if column != "class" else ""
    )
    raise BadRows(bad, total=len(bad), remedy=remedy)
