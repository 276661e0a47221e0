"""How far a declared LC service is: how many of its instances are ready, of how many, and what keeps the others. A pure function.

What keeps them is known from what their agents were refused, or see of pods that do not start (`tango.control.lc_instances`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tango.domain.observations import InstanceState
from tango.domain.refusals import RefusalState
from tango.domain.resource_axis import MAY_RUN
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRollout:
    """One service at one instant."""

    service: str
    ready: int
    """Instances of the present declaration that are ready."""
    wanted: int
    """Instances that there are to be."""
    outdated: int
    """Instances of a declaration before, which go."""
    why: tuple[str, ...] = ()
    """What keeps those that are not ready, in the words of clusters and kubelets."""

    @property
    def is_done(self) -> bool:
        """Whether all instances are ready, and none is of a declaration before."""
        return 0 < self.wanted <= self.ready and not self.outdated

    def __str__(self) -> str:
        old = f", {self.outdated} of the declaration before" if self.outdated else ""
        return f"{self.service}: {self.ready} of {self.wanted} instances ready{old}{''.join(f'; {words}' for words in self.why)}"


def rollout(
    service: Service, snapshot: FleetSnapshot, instances: Iterable[tuple[str, InstanceState]], refusals: Iterable[RefusalState]
) -> ServiceRollout:
    """Of an LC service; of one that adopts pods at least one is wanted, since how many there are is their owner's to say.

    `snapshot` is the fleet as last observed, `instances` those of all services with their clusters.
    """
    mine = [instance for _, instance in instances if instance.service == service.name]
    current = [i for i in mine if service.adopt is not None or i.revision == service.revision]
    why = []
    for state in refusals:
        if state.service in ("", service.name):
            where = f"{state.cluster}/{state.node}" if state.node else state.cluster
            why.append(f"{where} refuses it, {state}")
    if service.adopt is not None:
        wanted = max(1, len(current))
        if not current:
            why.append(f"no pod in namespace {service.adopt.namespace} that its selector selects has been seen to run")
    else:
        nodes = _nodes(service, snapshot)
        wanted = nodes * service.instances_per_node
        if not nodes:
            why.append("no node is ready and may run it")
    return ServiceRollout(
        service=service.name,
        ready=sum(i.ready for i in current),
        wanted=wanted,
        outdated=len(mine) - len(current),
        why=tuple(why),
    )


def has_instances(service: Service) -> bool:
    """Whether there is anything to wait for: pods of a BE service come with its jobs."""
    return service.service_class is ServiceClass.LC


def _nodes(service: Service, snapshot: FleetSnapshot) -> int:
    """Nodes that are ready and may run the service."""
    open_nodes = snapshot.node_ready.copy()
    name = MAY_RUN + service.name
    if name in snapshot.resources.names:
        open_nodes &= snapshot.allocatable[snapshot.resources.names.index(name)] > 0
    rows = [k for k, known in enumerate(snapshot.services) if known.name == service.name]
    if snapshot.barred is not None and rows:
        open_nodes &= ~snapshot.barred[rows[0]]
    return int(np.count_nonzero(open_nodes))
