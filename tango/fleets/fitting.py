"""A check that every service's pod fits on some node of the fleet; requests of one that does not would wait for ever."""

from __future__ import annotations

from tango.domain.fleet import Fleet
from tango.domain.services import Service, ServiceClass
from tango.errors import ConfigError
from tango.fleets.yaml_document import YamlMapping


def refuse_unfit(service: Service, declared: YamlMapping, fleet: Fleet) -> None:
    """Raises: ConfigError if no node has the CPU request and the memory of one pod of the service, with the line of that figure.

    An empty node is assumed: whether several services fit together is for dispatch and placement to see.
    """
    is_lc = service.service_class is ServiceClass.LC
    memory_key = "instance_memory_mib" if is_lc else "memory_mib"
    memory_mib = service.instance_memory_mib if is_lc else service.memory_mib
    most_cpu = max(node.cpu_millicores for node in fleet.nodes)
    most_memory = max(node.memory_mib for node in fleet.nodes)
    if service.cpu_request_millicores > most_cpu:
        _refuse(service, declared, "cpu_request_millicores", f"at most {most_cpu}, the CPU of the largest node")
    if memory_mib > most_memory:
        _refuse(service, declared, memory_key, f"at most {most_memory}, the memory of the largest node")
    if not any(service.cpu_request_millicores <= n.cpu_millicores and memory_mib <= n.memory_mib for n in fleet.nodes):
        wanted = f"{service.cpu_request_millicores} millicores and {memory_mib} MiB"
        _refuse(service, declared, memory_key, f"less of one of the two: no node has {wanted} together")


def _refuse(service: Service, declared: YamlMapping, key: str, expected: str) -> None:
    place = declared.values.get(key, declared.owner)
    value = getattr(service, key)
    raise ConfigError(f"{place.where}: {declared.owner.key}.{key} of {service.name} is {value}, expected {expected}")
