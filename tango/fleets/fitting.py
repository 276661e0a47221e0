"""A check that every service's pod fits on some node of the fleet; requests of one that does not would wait for ever."""

from __future__ import annotations

from tango.domain.fleet import Fleet
from tango.domain.resource_axis import EVERYWHERE, ResourceAxis, lacks, quantity
from tango.domain.services import Service, ServiceClass
from tango.errors import FileRefused
from tango.fleets.yaml_document import YamlMapping


def refuse_unfit(service: Service, declared: YamlMapping, fleet: Fleet) -> None:
    """Raises: FileRefused if no node holds one pod of the service, with the line of the figure that is too large.

    An empty node is assumed: whether several services fit together is for dispatch and placement to see. An LC service has instances on
    every node, so every node must have the extended resources that all of them ask for.
    """
    is_lc = service.service_class is ServiceClass.LC
    memory_key = "instance_memory_mib" if is_lc else "memory_mib"
    resources = ResourceAxis.of((service,))
    allocatable = resources.columns([resources.of_node(node) for node in fleet.nodes])
    asked = resources.pod_requests((service,))[:, 0]
    for name, wanted, most in zip(resources.names, asked, allocatable.max(axis=1), strict=True):
        if lacks(wanted, most):
            key, what = {"cpu": ("cpu_request_millicores", "CPU"), "memory": (memory_key, "memory")}.get(name, ("extended", name))
            _refuse(service, declared, key, f"at most {_plain(name, most)}, the {what} of the largest node")
    if lacks(asked[:, None], allocatable).any(axis=0).all():
        wanted = " and ".join(
            f"{_plain(name, amount)} {_UNITS.get(name, name)}"
            for name, amount in zip(resources.names, asked, strict=True)
            if name != "pods"
        )
        _refuse(service, declared, memory_key, f"less of one of them: no node has {wanted} together")
    if is_lc and service.extended:
        standing = asked[len(EVERYWHERE) :] * service.instances_per_node
        for node, there in zip(fleet.node_keys, allocatable[len(EVERYWHERE) :].T, strict=True):
            if lacks(standing, there).any():
                _refuse(
                    service, declared, "extended", f"what every node has, since LC instances stand on all of them: {node} has less"
                )


_UNITS = {"cpu": "millicores", "memory": "MiB"}


def _plain(name: str, amount: float) -> str:
    """CPU and memory as the keys of the file have them, all else as Kubernetes writes it."""
    return f"{amount:g}" if name in _UNITS else quantity(name, amount)


def _refuse(service: Service, declared: YamlMapping, key: str, expected: str) -> None:
    place = declared.values.get(key, declared.owner)
    value = getattr(service, key) if key != "extended" else ", ".join(f"{quantity(*of)} of {of[0]}" for of in service.extended)
    raise FileRefused(f"{place.where}: {declared.owner.key}.{key} of {service.name} is {value}, expected {expected}")
