"""`NodeModel`: the node model for callers that are not compiled themselves, with checked arguments and arrays that grow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.node_model import kernel
from tango.node_model.interference import NeighbourTraits
from tango.node_model.kernel import LC, POD
from tango.node_model.state import FINISHED, FREE, FREE_LIST, NONE, NodeStates, grown, new_states

Finished = tuple[int, int, int, float, float, float]
"""kind (LC or POD), node, key, started_s, finished_s, nominal work_s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUsage:
    """What a node has done up to `at_s`, and holds then."""

    at_s: float
    lc_busy_s: float
    """CPU-seconds LC has used, inflation by interference included."""
    lc_work_s: float
    """Nominal CPU-seconds of LC work done."""
    be_busy_s: float
    """CPU-seconds BE has used, likewise."""
    be_work_s: float
    """Nominal CPU-seconds of BE work done."""
    lc_memory_mib: float
    """Memory of the LC requests in service."""
    be_memory_mib: float
    """Memory of the BE pods."""
    lc_in_service: int
    lc_queued: int
    be_pods: int


class NodeModel:
    """n nodes that share CPU between LC instances and BE pods; time moves only forward, by the caller's `at_s`.

    Every method first runs its node to `at_s`; what ends on the way is kept for the next `finished`. Keys are the caller's own.
    Raises: ValueError for a size that is not a positive number, a time before the node's clock, or a row that does not exist.
    """

    def __init__(self, cpu_cores: NDArray[np.float64] | list[float], *, beta: float, traits: NeighbourTraits | None = None) -> None:
        """`traits`: what is declared of services as neighbours, by the rows that instances and pods name; None: nothing."""
        cores = np.asarray(cpu_cores, np.float64)
        if not (np.all(cores > 0) and np.all(np.isfinite(cores)) and 0 <= beta < math.inf):
            raise ValueError(f"nodes need CPU above 0 and beta of at least 0, found {cores.tolist()} cores and beta {beta}")
        self._states = new_states(cores, beta, traits=traits)
        self._out = np.zeros(256, FINISHED)
        self._kept: list[Finished] = []

    @property
    def states(self) -> NodeStates:
        """The arrays themselves, for compiled callers and tests; they are replaced when they grow."""
        return self._states

    def next_event_s(self) -> float:
        """When the next request or pod ends if nothing else happens; infinity if nothing runs."""
        if self._kept:
            return -math.inf
        return float(self._states.nodes["next_s"].min())

    def finished(self, to_s: float) -> list[Finished]:
        """Run every node to `to_s` and give what has ended since the last call, each node's in order of time."""
        while (used := kernel.drain(self._states, to_s, self._out)) == len(self._out):
            self._kept += self._rows(used)
        ended = self._kept + self._rows(used) if used else self._kept
        self._kept = []
        return ended

    def add_instance(
        self, node: int, *, limit_cores: float, memory_mib: float, concurrency: int, at_s: float, service: int = NONE
    ) -> int:
        """Start an LC instance of a row of the traits (-1: none) and give its row on the node."""
        _positive(limit_cores=limit_cores, memory_mib=memory_mib, concurrency=concurrency)
        self._run_to(node, at_s)
        free = np.flatnonzero(self._states.instances["used"][node] == 0)
        row = int(free[0]) if len(free) else self._states.instances.shape[1]
        if not len(free):
            self._states = grown(self._states, instances=2 * row)
        fresh = np.zeros((), self._states.instances.dtype)
        fresh["used"], fresh["limit_cores"], fresh["memory_mib"], fresh["concurrency"] = 1, limit_cores, memory_mib, concurrency
        fresh["service"] = self._known(service)
        fresh["heap"] = fresh["queue_first"] = fresh["queue_last"] = NONE
        self._states.instances[node, row] = fresh
        return row

    def resize_instance(self, node: int, row: int, *, limit_cores: float, memory_mib: float, at_s: float) -> None:
        """Change an instance's limits; requests in service keep the memory they hold."""
        _positive(limit_cores=limit_cores, memory_mib=memory_mib)
        self._instance(node, row)
        self._run_to(node, at_s)
        kernel.resize_instance(self._states, node, row, limit_cores, memory_mib, at_s)

    def remove_instance(self, node: int, row: int, *, at_s: float) -> list[int]:
        """Stop an instance and give the keys of the requests that die with it, in order of arrival."""
        self._instance(node, row)
        self._run_to(node, at_s)
        requests = self._states.requests
        mine = np.flatnonzero((requests["stage"] != FREE) & (requests["node"] == node) & (requests["instance"] == row))
        mine = mine[np.argsort(requests["sequence"][mine])]
        keys = [int(key) for key in requests["key"][mine]]
        # Last come first: taking an earlier one out would start a later one for nothing.
        for slot in mine[::-1]:
            kernel.cancel(self._states, int(slot), at_s)
        self._states.instances["used"][node, row] = 0
        return keys

    def instance_load(self, node: int, row: int) -> tuple[int, int, float]:
        """Requests in service, requests waiting, and memory held in MiB, as of the node's clock."""
        instance = self._instance(node, row)
        return int(instance["in_service"]), int(instance["queued"]), float(instance["memory_held_mib"])

    def instance_busy_s(self, node: int, row: int) -> float:
        """CPU-seconds an instance has used up to the node's clock, inflation by interference included."""
        return float(self._instance(node, row)["busy_s"])

    def clock_s(self, node: int) -> float:
        """How far the node has run."""
        return float(self._states.nodes[node]["clock_s"])

    def submit(self, node: int, row: int, key: int, work_s: float, memory_mib: float, at_s: float) -> int:
        """Put a request into an instance at `at_s`; give a handle for `cancel`, good until the request has ended.

        Raises: ValueError also for more memory than the instance has, since such a request would block those behind it for ever.
        """
        instance = self._instance(node, row)
        if not (0 <= work_s < math.inf and 0 <= memory_mib <= instance["memory_mib"]):
            raise ValueError(
                f"a request needs work of at least 0 and memory of 0 to {instance['memory_mib']} MiB, "
                f"found {work_s} CPU-seconds and {memory_mib} MiB"
            )
        self._run_to(node, at_s)
        if self._states.pool[FREE_LIST] == NONE:
            self._states = grown(self._states, requests=2 * len(self._states.requests))
        return kernel.submit(self._states, node, row, key, work_s, memory_mib, at_s)

    def cancel(self, handle: int, *, at_s: float) -> bool:
        """Take a request out; False when it ended by `at_s`, in which case `finished` gives it."""
        request = self._states.requests[handle]
        sequence = request["sequence"]
        if request["stage"] == FREE:
            return False
        self._run_to(int(request["node"]), at_s)
        request = self._states.requests[handle]
        if request["stage"] == FREE or request["sequence"] != sequence:
            return False
        kernel.cancel(self._states, handle, at_s)
        return True

    def add_pod(
        self,
        node: int,
        key: int,
        *,
        weight: float,
        limit_cores: float,
        work_s: float,
        memory_mib: float,
        at_s: float,
        service: int = NONE,
    ) -> None:
        """Start a BE pod of a row of the traits (-1: none). Raises: ValueError also for a key that runs on this node."""
        _positive(weight=weight, limit_cores=limit_cores)
        if not (0 <= work_s < math.inf and 0 <= memory_mib < math.inf):
            raise ValueError(f"a pod needs work and memory of at least 0, found {work_s} CPU-seconds and {memory_mib} MiB")
        self._run_to(node, at_s)
        if kernel.pod_row(self._states, node, key) != NONE:
            raise ValueError(f"pod {key} runs on node {node} already")
        width = self._states.pods.shape[1]
        if self._states.nodes["pods"][node] == width:
            self._states = grown(self._states, pods=2 * width)
        kernel.add_pod(self._states, node, key, self._known(service), weight, limit_cores, work_s, memory_mib, at_s)

    def resize_pod(self, node: int, key: int, *, weight: float, limit_cores: float, at_s: float) -> bool:
        """Change weight and limit of a BE pod; False when it has ended."""
        _positive(weight=weight, limit_cores=limit_cores)
        self._run_to(node, at_s)
        if (row := kernel.pod_row(self._states, node, key)) == NONE:
            return False
        kernel.resize_pod(self._states, node, row, weight, limit_cores, at_s)
        return True

    def remove_pod(self, node: int, key: int, *, at_s: float) -> float | None:
        """Stop a BE pod and give the nominal CPU-seconds it had done; None when it ended by `at_s`."""
        self._run_to(node, at_s)
        if (row := kernel.pod_row(self._states, node, key)) == NONE:
            return None
        return float(kernel.remove_pod(self._states, node, row, at_s))

    def pod_work_done_s(self, node: int, key: int) -> float | None:
        """Nominal CPU-seconds a running BE pod has done as of the node's clock; None when it is not there."""
        if (row := kernel.pod_row(self._states, node, key)) == NONE:
            return None
        pod = self._states.pods[node, row]
        return float(pod["work_s"] - pod["remaining_s"])

    def usage(self, node: int, *, at_s: float) -> NodeUsage:
        """What the node has done up to `at_s`."""
        self._run_to(node, at_s)
        state, instances = self._states.nodes[node], self._states.instances[node]
        pods = self._states.pods[node, : state["pods"]]
        return NodeUsage(
            at_s=at_s,
            lc_busy_s=float(state["lc_busy_s"]),
            lc_work_s=float(state["lc_work_s"]),
            be_busy_s=float(state["be_busy_s"]),
            be_work_s=float(state["be_work_s"]),
            lc_memory_mib=float(instances["memory_held_mib"].sum()),
            be_memory_mib=float(pods["memory_mib"].sum()),
            lc_in_service=int(instances["in_service"].sum()),
            lc_queued=int(instances["queued"].sum()),
            be_pods=int(state["pods"]),
        )

    def _known(self, service: int) -> int:
        """The row of the traits; none where nothing is declared. Raises: ValueError for a row that is not there."""
        known = len(self._states.traits.is_sensitive)
        if not NONE <= service < known and known:
            raise ValueError(f"there is no service {service} among the {known} that are declared")
        return service if known else NONE

    def _rows(self, used: int) -> list[Finished]:
        return self._out[:used].tolist()  # type: ignore[no-any-return]

    def _instance(self, node: int, row: int) -> np.void:
        instances = self._states.instances
        if not (0 <= node < len(instances) and 0 <= row < instances.shape[1]) or not instances[node, row]["used"]:
            raise ValueError(f"there is no instance {row} on node {node}")
        return instances[node, row]  # type: ignore[no-any-return]

    def _run_to(self, node: int, at_s: float) -> None:
        state = self._states.nodes[node]
        if not state["clock_s"] <= at_s < math.inf:
            raise ValueError(f"node {node} stands at {state['clock_s']} s and cannot go to {at_s} s")
        while state["next_s"] <= at_s:
            used = kernel.advance_node(self._states, node, at_s, self._out, 0)
            self._kept += self._rows(used)
        kernel.integrate(self._states, node, at_s)


def _positive(**sizes: float) -> None:
    for name, size in sizes.items():
        if not 0 < size < math.inf:
            raise ValueError(f"{name} is {size}, expected a number above 0")


__all__ = ["LC", "POD", "Finished", "NodeModel", "NodeUsage"]
