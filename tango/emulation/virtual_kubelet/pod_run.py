"""The state of one pod on a virtual node, which `node_pool` and `resizing` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tango.emulation.virtual_kubelet.lc_instance import LcInstance
from tango.emulation.virtual_kubelet.pod_spec import PodSpec
from tango.emulation.virtual_kubelet.process_pod import ProcessPod
from tango.emulation.virtual_kubelet.statuses import ResizeState

Json = dict[str, Any]


class PodListener(Protocol):
    """A listening socket at a pod's address."""

    def close(self) -> None:
        """Accept no more connections."""
        ...


@dataclass(slots=True)
class PodRun:
    """One pod on a virtual node, kept until it is deleted from the API. Times are Unix seconds."""

    spec: PodSpec
    node: int
    """Row of the node."""
    generation: int
    """`metadata.generation` of the latest spec seen."""
    wanted: tuple[Json, ...]
    """Resources of each container in the spec (KEP-1287: desired)."""
    allocated: tuple[Json, ...]
    """Resources of each container that the node has admitted."""
    actual: tuple[Json, ...]
    """Resources of each container that are in effect."""
    restarts: int = 0
    started_s: float = 0.0
    changed_s: float = 0.0
    """When readiness last changed."""
    key: int = -1
    """The model's key of a BE pod, or row of an LC instance; -1 before it has been added."""
    ip: str = ""
    instance: LcInstance | None = None
    listener: PodListener | None = None
    process: ProcessPod | None = None
    """Its local processes, where it is not modelled."""
    resize: ResizeState | None = None
    """A resize that is pending or in progress."""
    was_resized: bool = False
    """Whether resize conditions may stand on the server, which then have to be deleted."""
    actuation: int = 0
    """Number of the latest resize; an actuation with an older number has been superseded and does nothing."""
    over: bool = False
    """Whether the pod has stopped and holds nothing."""
    running: bool = False
    quiet: bool = False
    """Whether it runs but is not reported Running yet, because it may end at once (`node_pool.SHORT_POD_S`)."""
    final: Json | None = None
    """The final status of a pod that has stopped."""
    last: Json | None = None
    """How the last life of its container ended, as a status has it under `terminated`."""
    backoff_s: float = 0.0
    """The pause before its next restart; none before the first."""
    waits: tuple[str, str] | None = None
    """(reason, message) of a container that cannot be started now."""
