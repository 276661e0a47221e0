"""Observations of the cluster agent: states of nodes, LC instances and ended BE pods, reduced to what Tango needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tango.domain.fleet import MOST_PODS
from tango.domain.memory_by_load import NO_SAMPLES, MemoryByLoad

NODE_PRESSURES = ("lc_cpu_pressure", "lc_throttled", "memory_pressure")
"""What the agents of nodes tell of `NodeState`, in all its forms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtendedState:
    """One extended resource of a node, such as its GPUs, in thousandths of one."""

    allocatable: int
    lc_held: int = 0
    be_held: int = 0
    other_held: int = 0
    """By pods that are not Tango's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """The current state of one node. Held means reserved by the pods on it, by request (BE) or limit (LC), whether used or not."""

    name: str
    ready: bool
    """Whether the node is Ready: what runs there can answer."""
    cpu_allocatable_millicores: int
    memory_allocatable_mib: int
    cpu_used_millicores: float | None = None
    """Measured by metrics.k8s.io; None without a measurement."""
    memory_used_mib: float | None = None
    lc_cpu_request_millicores: int = 0
    lc_cpu_limit_millicores: int = 0
    lc_memory_held_mib: int = 0
    lc_pods: int = 0
    be_cpu_request_millicores: int = 0
    be_cpu_limit_millicores: int = 0
    be_memory_held_mib: int = 0
    be_pods: int = 0
    pods_allocatable: int = MOST_PODS
    schedulable: bool = True
    """Whether it may get new pods: it is neither cordoned nor under pressure. What runs there stays."""
    other_cpu_request_millicores: int = 0
    """What pods hold that are neither Tango's nor adopted: DaemonSets, Deployments, static pods."""
    other_memory_held_mib: int = 0
    other_pods: int = 0
    extended: Mapping[str, ExtendedState] = field(default_factory=dict)
    """By the name of an extended resource, those that the node has."""
    zone: str = ""
    """Of its label `topology.kubernetes.io/zone`; empty: it has none."""
    region: str = ""
    """Of its label `topology.kubernetes.io/region`."""
    lc_awaited: Mapping[str, int] = field(default_factory=dict)
    """By service, LC instances that are to be made here and are not there yet: the node would have room for them if BE gave way."""
    lc_cpu_pressure: float | None = None
    """Of the node's agent, as the next two: the most of an LC pod there of the share of time, from 0 to 1, in which none of its tasks had a
    CPU that others had. None: no agent runs there, it has told nothing of late, or its kernel does not say."""
    lc_throttled: float | None = None
    """The most of an LC pod of the share of its quota's periods in which it was used up."""
    memory_pressure: float | None = None
    """Share of time in which all tasks of the node waited for memory, or some of an LC pod, whichever is more."""

    def presses_be(self, *, cpu: float, memory: float) -> bool:
        """Whether LC there lacks more CPU, or the node more memory, than these shares of time: it gets no more BE then."""
        return (self.lc_cpu_pressure or 0.0) > cpu or (self.memory_pressure or 0.0) > memory


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """The current state of one LC instance (pod)."""

    pod: str
    uid: str
    service: str
    node: str
    pod_ip: str
    port: int
    ready: bool
    cpu_request_millicores: int
    cpu_limit_millicores: int
    """The limit in effect (from the container's status), not the desired one."""
    memory_limit_mib: int
    restarts: int = 0
    leaving: bool = False
    """Whether it is being taken away: deleted, evicted, preempted, or its node is lost. What fails there is no fault of the request."""
    revision: str = ""
    """Of which declaration of its service it was made (`Service.revision`); empty for an adopted pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What the agent of a cluster sees there now."""

    cluster: str
    nodes: Sequence[NodeState]
    instances: Sequence[InstanceState]
    sample: bool
    """Whether the nodes belong into the time series too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitedInstances:
    """LC instances of one service that a node is to get, as its cluster's agent last told (`NodeState.lc_awaited`)."""

    cluster: str
    node: str
    service: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What is known of one cluster, and how old that is."""

    cluster: str
    nodes: int
    ready: int
    """Nodes that are Ready; none while the picture is too old."""
    closed: int
    """Nodes that get no new pods."""
    age_s: float | None
    """Seconds since its nodes and pods were as they are known; None: never seen."""
    agent_age_s: float | None
    """Seconds since its agent was heard of; less than `age_s` where its API server is away."""
    is_away: bool
    """Whether that is too long ago for anything to be placed there."""
    zones: tuple[str, ...] = ()
    """Zones of its nodes, in order; those of regions that have names as `region/zone`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUsage:
    """What the pods of a service in one cluster have used since that was told last."""

    service: str
    cpu_s: float = 0.0
    """CPU-seconds: of LC instances over time, of BE pods that did their work."""
    memory_mib: float = 0.0
    """The most that a pod was seen to hold."""
    answered: int = 0
    """BE: pods that did their work. LC requests are counted by the centre, which has their ends."""
    by_load: MemoryByLoad = NO_SAMPLES
    """LC: memory of its instances beside their requests in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredService:
    """What is known of a service's use, in all clusters, since it was declared."""

    service: str
    cpu_s: float
    requests: int
    """Answered, or done, meanwhile."""
    memory_mib: float
    """The most that a pod was seen to hold."""
    by_load: MemoryByLoad = NO_SAMPLES
    """LC: memory of its instances beside their requests in flight."""

    @property
    def cpu_work_s(self) -> float | None:
        """CPU-seconds of one request; None before any was answered."""
        return self.cpu_s / self.requests if self.requests and self.cpu_s > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEnd:
    """A BE pod that has ended or vanished; its labels name the request and the epoch."""

    run_id: int
    request_id: int
    epoch: int
    pod: str
    uid: str
    phase: str
    """`Succeeded`, `Failed`, or `Deleted` when it vanished before it ended."""
    reason: str
    """Kubernetes' reason such as `OutOfcpu`, `Evicted` or `NodeLost`; empty if it gives none."""
    started_at_s: float | None
    """Unix time, from the container status."""
    finished_at_s: float | None
    cpu_work_done_s: float | None
    """CPU-seconds done, from the pod's termination message; None if it has none."""
    message: str = ""
    """Kubernetes' words beside the reason."""
    node: str = ""
    """Where it was bound to; empty: nowhere."""
    service: str = ""
    disrupted: bool = False
    """Whether something outside ended it, as Kubernetes has it (condition DisruptionTarget), or somebody deleted it."""
