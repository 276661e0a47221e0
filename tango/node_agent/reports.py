"""What a node agent tells of its node: real use, pressure, throttling, and where what is wanted does not hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tango.node_agent.ledger import Setting

LONGEST_LIST = 20
"""Settings that differ, in one report: an annotation has a limit, and the first ones tell the kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodReport:
    """Of one pod, over the time between the last two looks. Pressures and throttling from 0 to 1; None: not known."""

    is_lc: bool
    cpu_used_millicores: int
    memory_bytes: int
    cpu_pressure: float | None
    """Share of time in which others had the CPU that all its tasks waited for."""
    memory_pressure: float | None
    """Share of time in which some of its tasks waited for memory."""
    throttled: float | None
    """Share of its quota's periods in which it was used up."""
    differs: Sequence[Setting]
    """What was wanted and does not hold."""
    held_back: str
    """Why its limits are the kubelet's alone; empty: they are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Totals of the pods of a class: sums of what they use, and the highest pressure and throttling among them."""

    pods: int
    cpu_used_millicores: int
    memory_mib: int
    cpu_pressure: float | None
    memory_pressure: float | None
    throttled: float | None

    @classmethod
    def of(cls, pods: Sequence[PodReport]) -> Totals:
        """Sums of what these pods have used, and the most that any of them was held up."""
        return cls(
            pods=len(pods),
            cpu_used_millicores=sum(pod.cpu_used_millicores for pod in pods),
            memory_mib=sum(pod.memory_bytes for pod in pods) >> 20,
            cpu_pressure=_most([pod.cpu_pressure for pod in pods]),
            memory_pressure=_most([pod.memory_pressure for pod in pods]),
            throttled=_most([pod.throttled for pod in pods]),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, shares to three digits."""
        return {
            "pods": self.pods,
            "cpu_used_millicores": self.cpu_used_millicores,
            "memory_mib": self.memory_mib,
            "cpu_pressure": _rounded(self.cpu_pressure),
            "memory_pressure": _rounded(self.memory_pressure),
            "throttled": _rounded(self.throttled),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What the agent reports of its node."""

    lc: Totals
    be: Totals
    node_memory_pressure: float | None
    cpu_share: float
    """Of the CPU that LC leaves, what BE may take; 1: no quota."""
    memory_mark_bytes: int | None
    """Above which BE's memory is reclaimed; None: no mark."""
    pods: Mapping[str, PodReport]
    """By namespace and name."""

    def as_json(self) -> dict[str, Any]:
        """The report as the JSON of its annotation, without the pods that are as they should be."""
        differs = [
            {"pod": name, "group": one.path.rpartition("/")[2], "knob": one.knob.value, "wanted": one.wanted}
            | {"effective": one.effective, "refused": one.refused}
            for name, pod in sorted(self.pods.items())
            for one in pod.differs
        ]
        return {
            "lc": self.lc.as_json(),
            "be": self.be.as_json(),
            "node_memory_pressure": _rounded(self.node_memory_pressure),
            "be_cpu_share": round(self.cpu_share, 3),
            "be_memory_mark_mib": None if self.memory_mark_bytes is None else self.memory_mark_bytes >> 20,
            "held_back": {name: pod.held_back for name, pod in sorted(self.pods.items()) if pod.held_back},
            "differs": differs[:LONGEST_LIST],
        }


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
