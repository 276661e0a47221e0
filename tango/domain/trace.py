"""A trace in memory: arrivals as columns, in time order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORIGIN = "~"
"""Begins the name of an entry that is no cluster but an origin (a job), which mapping gives to some cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Arrivals of n requests in order of `arrival_s` (trace seconds from the trace's own zero, not wall time), shape (n,).

    Work and memory that a trace does not give are NaN; they are drawn when the trace is mapped on a fleet's services.
    Raises: ValueError if the columns differ in length or the times decrease.
    """

    arrival_s: NDArray[np.float64]
    service_class: NDArray[np.int8]
    """0 LC, 1 BE (`ServiceClass`)."""
    service: NDArray[np.int32]
    """Index into `services`."""
    cluster: NDArray[np.int32]
    """Index into `clusters`: the entry cluster."""
    cpu_work_s: NDArray[np.float64]
    """CPU-seconds; NaN where the trace has none."""
    memory_mib: NDArray[np.float64]
    services: tuple[str, ...]
    clusters: tuple[str, ...]
    tenant: NDArray[np.int32] | None = None
    """Index into `tenants`: whose each request is; None: the trace names no tenant."""
    tenants: tuple[str, ...] = ("",)
    source: str = ""
    """Origin of the trace: names of files, or the generator with its arguments."""

    def __post_init__(self) -> None:
        n = len(self.arrival_s)
        for name in ("service_class", "service", "cluster", "cpu_work_s", "memory_mib"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"trace column {name} has {len(getattr(self, name))} rows, arrival_s has {n}")
        if self.tenant is not None and len(self.tenant) != n:
            raise ValueError(f"trace column tenant has {len(self.tenant)} rows, arrival_s has {n}")
        if n and np.any(np.diff(self.arrival_s) < 0):
            raise ValueError("trace arrivals are not in time order")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def named_tenants(self) -> tuple[str, ...]:
        """Tenants that requests name, in order of the names."""
        used = () if self.tenant is None else np.unique(self.tenant).tolist()
        return tuple(sorted({self.tenants[k] for k in used} - {""}))

    @property
    def span_s(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival_s[-1] - self.arrival_s[0]) if len(self) else 0.0
