"""Clusters that do what they are told at once, unless a test says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tango.domain.identity import PodKey
from tango.domain.plans import Eviction, Resize
from tango.domain.runs import Placement, ScalingOutcome, ScalingRecord


class RecordingClusterCalls:
    """Implements `tango.ports.clusters.ClusterCalls`.

    `errors` has the answer of a cluster to new pods, `outcomes` the outcome of a pod's resize or eviction, by its
    name or its `cluster/name`, where they are not good.
    """

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.outcomes: dict[str, ScalingOutcome] = {}
        self.placed: list[Placement] = []
        self.resized: list[Resize] = []
        self.evicted: list[Eviction] = []
        self.deleted: list[PodKey] = []
        self.calls: list[str] = []
        """Names of the methods called, in order."""
        self.on_call: Callable[[str], object] = lambda name: None
        """Called first in every method, with its name."""

    def run_be_pods(self, placements: Sequence[Placement]) -> dict[Placement, Exception | None]:
        """Keep the placements; each fails as its cluster does."""
        self._called("run_be_pods")
        self.placed.extend(placements)
        return {p: self.errors.get(p.cluster) for p in placements}

    def resize(self, resizes: Sequence[Resize]) -> list[ScalingRecord]:
        """Keep the resizes."""
        self._called("resize")
        self.resized.extend(resizes)
        return [
            ScalingRecord(
                kind="resize",
                cluster=r.cluster,
                node=r.node,
                service=r.service,
                pod=r.pod,
                before_millicores=r.cpu_limit_before_millicores,
                after_millicores=r.cpu_limit_after_millicores,
                slack=r.slack,
                reason=r.reason,
                actuation_ms=1.0,
                outcome=self._outcome(r.pod_key),
            )
            for r in resizes
        ]

    def evict(self, evictions: Sequence[Eviction]) -> list[ScalingRecord]:
        """Keep the evictions."""
        self._called("evict")
        self.evicted.extend(evictions)
        return [
            ScalingRecord(
                kind="evict",
                cluster=e.cluster,
                node=e.node,
                service="",
                pod=e.pod,
                before_millicores=None,
                after_millicores=None,
                slack=None,
                reason=": ".join(filter(None, (str(e.reason), e.why))),
                actuation_ms=1.0,
                outcome=self._outcome(e.pod_key),
                spared=e.spared,
            )
            for e in evictions
        ]

    def delete_pods(self, pods: Sequence[PodKey]) -> None:
        """Keep the names."""
        self._called("delete_pods")
        self.deleted.extend(pods)

    def _outcome(self, pod: PodKey) -> ScalingOutcome:
        return self.outcomes.get(str(pod), self.outcomes.get(pod.name, "done"))

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.on_call(name)
