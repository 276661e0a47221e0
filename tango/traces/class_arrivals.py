"""Requests of one class from a source of a workload, and the merge of both classes into one trace in order of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace

_Scalar = TypeVar("_Scalar", np.int32, np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassArrivals:
    """Requests of one class in any order, columns of shape (n,). A column that is None is left to the mapping (`mapping.map_trace`)."""

    arrival_s: NDArray[np.float64]
    """From 0 to the workload's duration."""
    cluster: NDArray[np.int32] | None = None
    """Row of the entry cluster in the fleet; the number of clusters for a request whose source names none."""
    service: NDArray[np.int32] | None = None
    """Row of the service in the fleet; the number of services for a request whose source names none."""
    cpu_work_s: NDArray[np.float64] | None = None
    """CPU-seconds; NaN where unknown."""
    memory_mib: NDArray[np.float64] | None = None
    """MiB; NaN where unknown."""
    tenant: NDArray[np.int32] | None = None
    """Index into `tenants`; None: the source names no tenant."""
    tenants: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return len(self.arrival_s)


NONE = ClassArrivals(arrival_s=np.zeros(0))


def joined(lc: ClassArrivals, be: ClassArrivals, fleet: Fleet, source: str) -> Trace:
    """Both classes as one trace in order of time, with the fleet's names; a name is empty where the source has none."""
    arrival_s = np.concatenate((lc.arrival_s, be.arrival_s))
    # Rounded to microseconds, as CSV prints them, so that a trace that is written and read again is the same.
    np.round(arrival_s, 6, out=arrival_s)
    order = time_order(arrival_s)
    is_be = order >= len(lc)
    tenant, tenants = _tenants(lc, be)
    return Trace(
        arrival_s=arrival_s[order],
        service_class=np.where(is_be, int(ServiceClass.BE), int(ServiceClass.LC)).astype(np.int8),
        service=_column(lc.service, be.service, lc, be, order, np.int32(len(fleet.services))),
        cluster=_column(lc.cluster, be.cluster, lc, be, order, np.int32(len(fleet.clusters))),
        cpu_work_s=_column(lc.cpu_work_s, be.cpu_work_s, lc, be, order, np.float64(np.nan)),
        memory_mib=_column(lc.memory_mib, be.memory_mib, lc, be, order, np.float64(np.nan)),
        services=(*(s.name for s in fleet.services), ""),
        clusters=(*(c.name for c in fleet.clusters), ""),
        tenant=None if tenant is None else tenant[order],
        tenants=tenants,
        source=source,
    )


def _tenants(lc: ClassArrivals, be: ClassArrivals) -> tuple[NDArray[np.int32] | None, tuple[str, ...]]:
    """Whose the requests are, those of LC first, and the names of both sources; None where neither names any."""
    if lc.tenant is None and be.tenant is None:
        return None, ("",)
    names = tuple(dict.fromkeys(("", *lc.tenants, *be.tenants)))
    parts = [
        np.zeros(len(part), np.int32)
        if part.tenant is None
        else np.array([names.index(name) for name in part.tenants], np.int32)[part.tenant]
        for part in (lc, be)
    ]
    return np.concatenate(parts), names


def time_order(arrival_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The stable sorting order, shape (n,), of times that are whole microseconds and not negative.

    Time and index are packed into one 64-bit key. Keys are distinct, so any sort gives the stable order, and the fastest takes a
    twentieth of the time of a stable `argsort`. Times too large for the key take `argsort`.
    """
    n = len(arrival_s)
    bits = max(n - 1, 1).bit_length()
    if n and arrival_s.max() * 1e6 >= float(1 << (62 - bits)):
        return np.argsort(arrival_s, kind="stable")
    key = np.rint(arrival_s * 1e6).astype(np.int64)
    key <<= bits
    key |= np.arange(n)
    key.sort()
    key &= (1 << bits) - 1
    return key


def _column(
    lc_values: NDArray[_Scalar] | None,
    be_values: NDArray[_Scalar] | None,
    lc: ClassArrivals,
    be: ClassArrivals,
    order: NDArray[np.int64],
    absent: _Scalar,
) -> NDArray[_Scalar]:
    """One column of both classes in the given order; if neither class has it, `absent` broadcast, which takes no memory."""
    if lc_values is None and be_values is None:
        return np.broadcast_to(absent, (len(order),))
    parts = [
        np.broadcast_to(absent, (len(part),)) if values is None else values for values, part in ((lc_values, lc), (be_values, be))
    ]
    return np.concatenate(parts)[order]
