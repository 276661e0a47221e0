"""What is known of one pod that is here: the record that `node_pool` and `resizing` work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tango.emulation.virtual_kubelet.lc_instance import LcInstance
from tango.emulation.virtual_kubelet.pod_spec import PodSpec
from tango.emulation.virtual_kubelet.statuses import ResizeState

Json = dict[str, Any]


class Listener(Protocol):
    """What listens at a pod's address."""

    def close(self) -> None:
        """Take no more connections."""
        ...


@dataclass(slots=True)
class PodRun:
    """One pod that is here, or was until its end is known to the server. Times are Unix seconds."""

    spec: PodSpec
    node: int
    generation: int
    wanted: tuple[Json, ...]
    """Resources by container: by the pod's spec."""
    allocated: tuple[Json, ...]
    """Admitted."""
    actual: tuple[Json, ...]
    """In effect."""
    restarts: int = 0
    started_s: float = 0.0
    changed_s: float = 0.0
    key: int = -1
    """The model's key of a BE pod, or row of an LC instance."""
    ip: str = ""
    instance: LcInstance | None = None
    listener: Listener | None = None
    resize: ResizeState | None = None
    was_resized: bool = False
    actuation: int = 0
    """Counts resizes, so that one that was overtaken has no effect."""
    over: bool = False
    running: bool = False
    quiet: bool = False
    """Runs, but is too short to tell yet."""
    final: Json | None = None
    """Status of a pod that is over."""
    waits: tuple[str, str] | None = None
    """Reason and message of a container that cannot be started now."""
