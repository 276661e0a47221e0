"""What the cluster agent sees: nodes, pods and usage, reduced to what Tango needs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node now. CPU in millicores, memory in MiB."""

    name: str
    ready: bool
    cpu_allocatable_millicores: int
    memory_allocatable_mib: int
    cpu_used_millicores: float | None = None
    memory_used_mib: float | None = None
    lc_cpu_request_millicores: int = 0
    lc_cpu_limit_millicores: int = 0
    lc_memory_held_mib: int = 0
    be_cpu_request_millicores: int = 0
    be_cpu_limit_millicores: int = 0
    be_memory_held_mib: int = 0
    be_pods: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """One LC instance (pod) now."""

    pod: str
    uid: str
    service: str
    node: str
    pod_ip: str
    port: int
    ready: bool
    cpu_request_millicores: int
    cpu_limit_millicores: int
    """The limit in effect (container status), not the desired one."""
    memory_limit_mib: int
    restarts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnd:
    """A BE pod that ended or is gone, matched to its request and epoch by its labels."""

    run_id: int
    request_id: int
    epoch: int
    pod: str
    uid: str
    phase: str
    """`Succeeded`, `Failed`, or `Deleted` when it vanished before it ended."""
    reason: str
    """Kubernetes' reason (`OutOfcpu`, `Evicted`, `NodeLost`), empty where it gives none."""
    started_at_s: float | None
    """Unix time, from the container status."""
    finished_at_s: float | None
    cpu_work_done_s: float | None
    """CPU-seconds done, from the pod's termination message, where it has one."""
