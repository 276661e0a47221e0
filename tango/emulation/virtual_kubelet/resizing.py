"""In-place resizes by KEP-1287: a resize is allocated or refused, actuated after a delay, and reported at each step.

Desired resources (the spec's) become allocated ones when the node admits them, and actual ones when they are in effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tango.domain.fleet import Node
from tango.domain.kubelet_ways import USUAL, KubeletWays
from tango.emulation.virtual_kubelet.admission import Allocations, ResizeDecision
from tango.emulation.virtual_kubelet.node_timeline import NodeTimeline
from tango.emulation.virtual_kubelet.pod_run import PodRun
from tango.emulation.virtual_kubelet.pod_spec import PodSize, allocated_size, container_resources, pod_size
from tango.emulation.virtual_kubelet.statuses import ResizeState

Json = dict[str, Any]

AGAIN_S = 1.0
"""Seconds until an actuation that failed is tried again."""
LEAST_WEIGHT = 2
"""Least CPU weight of a pod, as the kubelet's MinShares for cgroup CPU shares."""


class Resizer:
    """The resizes on all nodes of a cluster. `runs` is the pool's table of pods by uid; `delay_s` is the delay of an actuation."""

    def __init__(
        self,
        ledgers: list[Allocations],
        runs: dict[str, PodRun],
        *,
        timeline: NodeTimeline,
        delay_s: float,
        report: Callable[[str], None],
        ways: Callable[[int], KubeletWays] = lambda _: USUAL,
    ) -> None:
        """`ways`: of the kubelet of a node, by its row."""
        self._ways = ways
        self._ledgers = ledgers
        self._runs = runs
        self._timeline = timeline
        self._actuation_delay_s = delay_s
        self._report = report
        self._deferred: list[list[str]] = [[] for _ in ledgers]

    def follow(self, pod: Json) -> None:
        """Start a resize if the resources in the pod's spec have changed; called for every change of the pod.

        A spec of an older generation, as a list after a broken watch may bring it, is ignored.
        """
        run = self._runs.get(pod["metadata"]["uid"])
        generation = pod["metadata"].get("generation", 1)
        if run is None or run.over or generation < run.generation:
            return
        run.generation = generation
        wanted = container_resources(pod)
        if wanted == run.wanted:
            return
        run.wanted = wanted
        self._allocate(run)

    def _allocate(self, run: PodRun) -> None:
        """Allocate the wanted resources, or report the resize as deferred or infeasible."""
        uid, deferred = run.spec.uid, self._deferred[run.node]
        if uid in deferred:
            deferred.remove(uid)
        if run.wanted == run.allocated:
            # The spec has returned to what is allocated: a pending resize is withdrawn, one in progress continues.
            if run.resize is not None and run.resize.kind == "PodResizePending":
                self._set_resize(run, None if run.allocated == run.actual else "PodResizeInProgress")
            return
        try:
            size = allocated_size(run.spec, run.wanted)
        except ValueError as error:
            self._set_resize(run, "PodResizePending", ResizeDecision.INFEASIBLE.value, str(error))
            return
        verdict, message = self._decide(run, size)
        if verdict is not ResizeDecision.FITS:
            if verdict is ResizeDecision.DEFERRED:
                deferred.append(uid)
            self._set_resize(run, "PodResizePending", verdict.value, message)
            return
        self._ledgers[run.node].put(uid, size)
        run.allocated = run.wanted
        self._set_resize(run, "PodResizeInProgress")
        self._actuate_later(run, self._actuation_delay_s)
        self.retry_deferred(run.node)

    def _decide(self, run: PodRun, size: PodSize) -> tuple[ResizeDecision, str]:
        verdict, message = self._ledgers[run.node].decide(run.spec.uid, size)
        declared = self._ways(run.node).resize
        if verdict is ResizeDecision.FITS and declared in ("deferred", "infeasible"):
            return ResizeDecision(declared.capitalize()), f"the node's kubelet is declared to answer {declared.capitalize()}"
        return verdict, message

    def _actuate_later(self, run: PodRun, delay_s: float) -> None:
        run.actuation += 1
        number = run.actuation
        self._timeline.at(self._timeline.now_s() + delay_s, lambda _: self._actuate(run, number))

    def _actuate(self, run: PodRun, number: int) -> None:
        if run.over or number != run.actuation:
            return
        if (declared := self._ways(run.node).resize) in ("error", "stuck"):
            if declared == "error":
                self._set_resize(run, "PodResizeInProgress", "Error", "the node's kubelet is declared to answer Error")
            self._actuate_later(run, AGAIN_S)  # until the declaration is another
            return
        size = pod_size(run.allocated)
        cores = limit_cores(self._ledgers[run.node].node, size)
        if run.instance is not None:
            memory_mib = float(size.memory_limit_mib or self._ledgers[run.node].node.memory_mib)
            _, queued, held_mib = self._timeline.model.instance_load(run.node, run.key)
            # Memory is not lowered below what is held, nor while requests queue: one of them may need more than the new limit, and would
            # block those behind it for ever.
            if held_mib > memory_mib or (queued and memory_mib < run.instance.largest_memory_mib):
                words = f"memory limit {memory_mib:.0f} MiB is below the current usage of {held_mib:.0f} MiB"
                self._set_resize(run, "PodResizeInProgress", "Error", words)
                self._actuate_later(run, AGAIN_S)
                return
            self._timeline.resize_instance(run.node, run.key, limit_cores=cores, memory_mib=memory_mib)
            run.instance.largest_memory_mib = memory_mib
        elif run.process is not None:
            for container, resources in zip(run.process.containers, run.allocated, strict=True):
                request, limit = container.requested(resources)
                run.process.host.resize(container, request_millicores=request, limit_millicores=limit)
        elif run.key >= 0:
            self._timeline.resize_pod(run.node, run.key, weight=weight_of(size), limit_cores=cores)
        run.actual = run.allocated
        # The condition of a newer resize that is pending stays; only that of the one that is done is removed.
        if run.resize is not None and run.resize.kind == "PodResizeInProgress":
            self._set_resize(run, None)
        else:
            self._report(run.spec.uid)

    def _set_resize(self, run: PodRun, kind: str | None, reason: str = "", message: str = "") -> None:
        now_s = self._timeline.unix_s(self._timeline.now_s())
        run.was_resized = True
        run.resize = (
            None
            if kind is None
            else ResizeState(kind=kind, reason=reason, message=message, generation=run.generation, since_s=now_s)
        )
        self._report(run.spec.uid)

    def retry_deferred(self, node: int) -> None:
        """Try the node's deferred resizes again, oldest first; called when a pod has released resources."""
        for uid in list(self._deferred[node]):
            run = self._runs.get(uid)
            if run is None or run.over:
                self._deferred[node].remove(uid)
            elif self._decide(run, allocated_size(run.spec, run.wanted))[0] is ResizeDecision.FITS:
                self._allocate(run)


def limit_cores(node: Node, size: PodSize) -> float:
    """The most CPU that a pod may use, in cores: its limit, or the whole node."""
    return (size.cpu_limit_millicores or node.cpu_millicores) / 1000


def weight_of(size: PodSize) -> float:
    """The weight of a BE pod in CPU sharing: its CPU request in millicores, since cgroup weights are proportional to it."""
    return float(max(LEAST_WEIGHT, size.cpu_request_millicores))
