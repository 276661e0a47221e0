"""Resizes in place, by KEP-1287: allocate or say why not, actuate after a delay, tell every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tango.domain.fleet import Node
from tango.emulation.virtual_kubelet.admission import Ledger, Verdict
from tango.emulation.virtual_kubelet.engine import Engine
from tango.emulation.virtual_kubelet.pod_run import PodRun
from tango.emulation.virtual_kubelet.pod_spec import PodSize, container_resources, pod_size
from tango.emulation.virtual_kubelet.statuses import ResizeState

Json = dict[str, Any]

AGAIN_S = 1.0
"""After an actuation that failed."""
LEAST_WEIGHT = 2
"""As the least cgroup CPU shares."""


class Resizer:
    """The resizes of all nodes of a cluster; `runs` is the pool's own table of pods by uid."""

    def __init__(
        self, ledgers: list[Ledger], runs: dict[str, PodRun], *, engine: Engine, delay_s: float, report: Callable[[str], None]
    ) -> None:
        self._ledgers = ledgers
        self._runs = runs
        self._engine = engine
        self._actuation_delay_s = delay_s
        self._report = report
        self._deferred: list[list[str]] = [[] for _ in ledgers]

    def follow(self, pod: Json) -> None:
        """Bring a pod towards the resources of its spec. Called for every change of the pod; most change nothing here."""
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
        """Decide on `wanted`: allocate it, or say why not."""
        uid, deferred = run.spec.uid, self._deferred[run.node]
        if uid in deferred:
            deferred.remove(uid)
        if run.wanted == run.allocated:
            # Asked back to what is allocated: what was pending is off, what is being actuated goes on.
            if run.resize is not None and run.resize.kind == "PodResizePending":
                self._set_resize(run, None if run.allocated == run.actual else "PodResizeInProgress")
            return
        try:
            size = pod_size(run.wanted)
        except ValueError as error:
            self._set_resize(run, "PodResizePending", Verdict.INFEASIBLE.value, str(error))
            return
        verdict, message = self._ledgers[run.node].judge(uid, size)
        if verdict is not Verdict.FITS:
            if verdict is Verdict.DEFERRED:
                deferred.append(uid)
            self._set_resize(run, "PodResizePending", verdict.value, message)
            return
        self._ledgers[run.node].put(uid, size)
        run.allocated = run.wanted
        self._set_resize(run, "PodResizeInProgress")
        self._actuate_later(run, self._actuation_delay_s)
        self.retry_deferred(run.node)

    def _actuate_later(self, run: PodRun, delay_s: float) -> None:
        run.actuation += 1
        number = run.actuation
        self._engine.at(self._engine.now_s() + delay_s, lambda _: self._actuate(run, number))

    def _actuate(self, run: PodRun, number: int) -> None:
        if run.over or number != run.actuation:
            return
        size = pod_size(run.allocated)
        cores = limit_cores(self._ledgers[run.node].node, size)
        if run.instance is not None:
            memory_mib = float(size.memory_limit_mib or self._ledgers[run.node].node.memory_mib)
            _, queued, held_mib = self._engine.model.instance_load(run.node, run.key)
            # A waiting request may need more than the new limit, and would then block those behind it for ever.
            if held_mib > memory_mib or (queued and memory_mib < run.instance.largest_memory_mib):
                words = f"memory limit {memory_mib:.0f} MiB is below the current usage of {held_mib:.0f} MiB"
                self._set_resize(run, "PodResizeInProgress", "Error", words)
                self._actuate_later(run, AGAIN_S)
                return
            self._engine.resize_instance(run.node, run.key, limit_cores=cores, memory_mib=memory_mib)
            run.instance.largest_memory_mib = memory_mib
        elif run.key >= 0:
            self._engine.resize_pod(run.node, run.key, weight=weight_of(size), limit_cores=cores)
        run.actual = run.allocated
        # A newer wish that is pending stays told; only the resize that is done is taken away.
        if run.resize is not None and run.resize.kind == "PodResizeInProgress":
            self._set_resize(run, None)
        else:
            self._report(run.spec.uid)

    def _set_resize(self, run: PodRun, kind: str | None, reason: str = "", message: str = "") -> None:
        now_s = self._engine.unix_s(self._engine.now_s())
        run.was_resized = True
        run.resize = (
            None
            if kind is None
            else ResizeState(kind=kind, reason=reason, message=message, generation=run.generation, since_s=now_s)
        )
        self._report(run.spec.uid)

    def retry_deferred(self, node: int) -> None:
        """Room may have appeared: try what was deferred, in order of asking."""
        for uid in list(self._deferred[node]):
            run = self._runs.get(uid)
            if run is None or run.over:
                self._deferred[node].remove(uid)
            elif self._ledgers[node].judge(uid, pod_size(run.wanted))[0] is Verdict.FITS:
                self._allocate(run)


def limit_cores(node: Node, size: PodSize) -> float:
    """What a pod may use at most: its limit, or the node."""
    return (size.cpu_limit_millicores or node.cpu_millicores) / 1000


def weight_of(size: PodSize) -> float:
    """What a BE pod counts when CPU is shared: its request, as cgroup shares do."""
    return float(max(LEAST_WEIGHT, size.cpu_request_millicores))
