"""Maps a trace on a fleet: which service, which entry cluster, how much work, by rules that are stated here and in docs/traces.md.

1. **Service.** A named service must be one of the fleet and of the request's class. Requests without one are ranked within their
   class by size (work where any of the class has it, else memory) and cut into as many groups of equal count as the class has
   services; the smallest group goes to the service with the least work. Without any size the service is drawn evenly.
2. **Entry.** A name of the fleet, or a whole number k for its k-th cluster. An origin (`~job`) is hashed with the seed, so that all
   requests of a job enter at one cluster. Without a name the cluster is drawn evenly.
3. **Work.** As the trace has it, else lognormal around the service's mean with its coefficient of variation.
4. **Memory.** LC: the service's, since the concurrency of instances is counted in it. BE: as the trace has it, else the service's;
   where the service was assigned by rule 1 it is kept between a quarter and four times the service's.
5. **Tenant.** As the trace has it; a request that names none is the default tenant's, or that of `tango run submit --tenant`.
6. **Time.** The first arrival is due at 0. Speed X divides times, works and targets by X, so that the offered load stays.

Every draw depends on (seed, request index) alone.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.domain.trace import ORIGIN, Trace
from tango.errors import BadRow, BadRows, RequestRejected, UsageError
from tango.traces.draws import ROWS_AT_A_TIME, RequestDraws, lognormal, request_draws

WARN_TARGET_S = 0.05
"""Below this the windows, ticks and round trips of the replay, which stay in wall time, weigh on the result."""

MEMORY_SPREAD = 4.0
"""Times its service's memory that a request may need at most, and the part of it that it needs at least."""


def map_trace(
    trace: Trace,
    fleet: Fleet,
    *,
    seed: int,
    speed: float = 1.0,
    begin_s: float | None = None,
    tenant: str = DEFAULT_TENANT,
) -> NewRequests:
    """The requests of a run of this trace on this fleet, in wall seconds; `begin_s` is the trace second that is due at 0.

    By default that is the first arrival. `tenant`: whose the requests are that name none.
    Raises: UsageError for a speed that is not above 0; BadRows for a service or cluster that the fleet does not have;
    RequestRejected if the fleet has no service of a class that the trace needs.
    """
    if not (speed > 0 and np.isfinite(speed)):
        raise UsageError(f"the speed is {speed:g}, expected a number above 0")
    draws = request_draws(seed, len(trace))
    service, assigned = _services(trace, fleet, draws)
    mean_s, cv, own_mib, target_s = _figures(fleet.services)
    is_lc = trace.service_class == int(ServiceClass.LC)
    work_s = np.empty(len(trace))
    for first in range(0, len(trace), ROWS_AT_A_TIME):
        rows = slice(first, first + ROWS_AT_A_TIME)
        drawn_s = lognormal(draws.normal[rows], mean_s[service[rows]], cv[service[rows]])
        work_s[rows] = np.where(np.isnan(trace.cpu_work_s[rows]), drawn_s, trace.cpu_work_s[rows])
    of_tenant, tenants = _tenants(trace, tenant)
    if begin_s is None:
        begin_s = float(trace.arrival_s[0]) if len(trace) else 0.0
    return NewRequests(
        due_s=(trace.arrival_s - begin_s) / speed,
        target_s=np.where(is_lc, target_s[service] / speed, np.nan),
        service_class=trace.service_class.astype(np.int8),
        service=service,
        cluster=_clusters(trace, fleet, draws, seed),
        cpu_work_s=work_s if speed == 1.0 else work_s / speed,
        memory_mib=_memory_mib(trace.memory_mib, own_mib[service], assigned, is_lc),
        services=tuple(s.name for s in fleet.services),
        clusters=tuple(c.name for c in fleet.clusters),
        tenant=of_tenant,
        tenants=tenants,
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


def settled(trace: Trace, fleet: Fleet) -> Trace:
    """The trace with the names of the fleet's services wherever no chance decides (rule 1), and their memory bounds (rule 4).

    What is left unnamed is drawn when the trace is mapped. Raises: as `map_trace`.
    """
    service, unnamed = _named_services(trace, fleet)
    own_mib = _figures(fleet.services)[2]
    memory_mib = trace.memory_mib.copy()
    for service_class, rows in _rows_by_class(trace, unnamed):
        choices = _choices(trace, fleet, service_class, len(rows))
        known, group = _sized(trace, rows, len(choices))
        sized = rows[known]
        service[sized] = choices[group]
        memory_mib[sized] = _kept_to_service(memory_mib[sized], own_mib[service[sized]])
    service[service < 0] = len(fleet.services)
    names = (*(s.name for s in fleet.services), "")
    return dataclasses.replace(trace, service=service, services=names, memory_mib=memory_mib)


def entries(trace: Trace, fleet: Fleet) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Row of the fleet's clusters for each request, -1 where the trace names none, and which of those have an origin instead.

    Raises: BadRows for a cluster that the fleet does not have.
    """
    n = len(fleet.clusters)
    index = {str(row + 1): row for row in range(n)} | {cluster.name: row for row, cluster in enumerate(fleet.clusters)}
    names = trace.clusters or ("",)
    row_of = np.array([index.get(name, -1) for name in names], np.int32)
    is_origin = np.array([name.startswith(ORIGIN) for name in names])
    is_empty = np.array([not name for name in names])
    cluster = row_of[trace.cluster]
    unknown = (cluster < 0) & ~(is_empty | is_origin)[trace.cluster]
    if unknown.any():
        expected = f"{' or '.join(c.name for c in fleet.clusters)}, or a number from 1 to {n}"
        _refuse(trace, "cluster", np.asarray(trace.clusters)[trace.cluster], unknown, expected)
    return cluster, is_origin[trace.cluster]


def _services(trace: Trace, fleet: Fleet, draws: RequestDraws) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Row of the fleet's services for each request, and where it was assigned because the trace names none."""
    service, unnamed = _named_services(trace, fleet)
    for service_class, rows in _rows_by_class(trace, unnamed):
        choices = _choices(trace, fleet, service_class, len(rows))
        group = np.minimum((draws.service[rows] * len(choices)).astype(np.int64), len(choices) - 1)
        known, sized = _sized(trace, rows, len(choices))
        group[known] = sized
        service[rows] = choices[group]
    return service, unnamed


def _named_services(trace: Trace, fleet: Fleet) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Row of the fleet's services for each request, -1 where the trace names none, and where that is."""
    index = {service.name: row for row, service in enumerate(fleet.services)}
    named = np.array([index.get(name, -1) for name in trace.services] or [-1], np.int32)
    empty = np.array([not name for name in trace.services] or [True])
    service = named[trace.service]
    unnamed = empty[trace.service]
    unknown = (service < 0) & ~unnamed
    if unknown.any():
        _refuse(trace, "service", np.asarray(trace.services)[trace.service], unknown, " or ".join(index))
    class_of = np.array([int(s.service_class) for s in fleet.services] or [0], np.int8)
    other = ~unnamed & (class_of[service] != trace.service_class)
    if other.any():
        row = int(np.flatnonzero(other)[0])
        found = ServiceClass(int(trace.service_class[row])).label
        expected = f"{ServiceClass(int(class_of[service[row]])).label}, the class of {trace.services[trace.service[row]]!r}"
        _refuse(trace, "class", np.full(len(trace), found), other, expected)
    return service, unnamed


def _rows_by_class(trace: Trace, where: NDArray[np.bool_]) -> list[tuple[ServiceClass, NDArray[np.int64]]]:
    rows = [(c, np.flatnonzero(where & (trace.service_class == int(c)))) for c in ServiceClass]
    return [(service_class, found) for service_class, found in rows if len(found)]


def _choices(trace: Trace, fleet: Fleet, service_class: ServiceClass, requests: int) -> NDArray[np.int32]:
    """The fleet's services of a class, the smallest work first: those of the synthetic workload, where there are any, since a trace that
    names no service has no requests that another one understands."""
    mine = [s.service_class is service_class for s in fleet.services]
    synthetic = [of_class and s.is_synthetic for of_class, s in zip(mine, fleet.services, strict=True)]
    choices = np.flatnonzero(synthetic if any(synthetic) else mine)
    if not len(choices):
        raise RequestRejected(
            f"the trace has {requests} {service_class.label} requests, fleet {fleet.name!r} has no service of that class"
        )
    return choices[np.argsort([fleet.services[i].cpu_work_s for i in choices], kind="stable")].astype(np.int32)


def _sized(trace: Trace, rows: NDArray[np.int64], groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of the rows have a size (work where any has one, else memory), and their groups by it."""
    for size in (trace.cpu_work_s[rows], trace.memory_mib[rows]):
        known = np.flatnonzero(~np.isnan(size))
        if len(known):
            return known, by_size(size[known], groups)
    return np.zeros(0, np.int64), np.zeros(0, np.int64)


def _clusters(trace: Trace, fleet: Fleet, draws: RequestDraws, seed: int) -> NDArray[np.int32]:
    n = len(fleet.clusters)
    cluster, has_origin = entries(trace, fleet)
    if has_origin.any():
        origins = np.unique(trace.cluster[has_origin])
        of_origin = np.zeros(len(trace.clusters), np.int32)
        of_origin[origins] = [_origin(trace.clusters[code], n, seed) for code in origins]
        cluster = np.where(has_origin, of_origin[trace.cluster], cluster)
    open_ = cluster < 0
    if open_.any():
        cluster = np.where(open_, np.minimum((draws.cluster * n).astype(np.int32), n - 1), cluster)
    return cluster.astype(np.int32, copy=False)


def _origin(name: str, clusters: int, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") % clusters


def _tenants(trace: Trace, of_the_others: str) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Whose each request is, and the names; None: all are the first one's."""
    if trace.tenant is None or not trace.named_tenants:
        return None, (of_the_others,)
    named = [name or of_the_others for name in trace.tenants]
    names = tuple(dict.fromkeys(named))
    if len(used := {named[k] for k in np.unique(trace.tenant).tolist()}) == 1:
        return None, tuple(used)
    return np.array([names.index(name) for name in named], np.int32)[trace.tenant], names


def _memory_mib(
    given: NDArray[np.float64], own: NDArray[np.float64], assigned: NDArray[np.bool_], is_lc: NDArray[np.bool_]
) -> NDArray[np.float64]:
    if np.isnan(given).all():
        return own
    kept = np.where(assigned, _kept_to_service(given, own), given)
    return np.where(is_lc | np.isnan(given), own, np.maximum(kept, 1.0))


def _kept_to_service(given: NDArray[np.float64], own: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(given, own / MEMORY_SPREAD, own * MEMORY_SPREAD)


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
