"""Fleet and service documents (`apiVersion: tango/v1`) to domain values and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.services import Service, ServiceClass
from tango.errors import ConfigError
from tango.fleets.yaml_document import YamlMapping, YamlValue

API_VERSION = "tango/v1"

# Upper bounds refuse slips of a unit (bytes for MiB, cores for millicores), not large machines.
MAX_MILLICORES = 4_000_000
MAX_MEMORY_MIB = 64 << 20
MAX_WORK_S = 1e6
MAX_KM = 40_000.0

_Readers = dict[str, Callable[[YamlValue], object]]

_SERVICE_READERS: _Readers = {
    "image": YamlValue.text,
    "port": lambda v: v.integer(1, 65535),
    "cpu_work_s": lambda v: v.number(1e-6, MAX_WORK_S),
    "cpu_work_cv": lambda v: v.number(0.0, 100.0),
    "memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
    "target_ms": lambda v: v.number(0.001, 1e9),
    "instances_per_node": lambda v: v.integer(1, 1000),
    "cpu_request_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "cpu_limit_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "instance_memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
    "payload_kib": lambda v: v.number(0.0, 1e9),
}
_NETWORK_READERS: _Readers = {
    "base_rtt_ms": lambda v: v.number(0.0, 1e5),
    "local_rtt_ms": lambda v: v.number(0.0, 1e5),
    "rtt_ms_per_km": lambda v: v.number(0.0, 10.0),
    "bandwidth_mbit_per_s": lambda v: v.number(1e-3, 1e8),
}
_MODEL_READERS: _Readers = {
    "beta": lambda v: v.number(0.0, 100.0),
    "actuation_delay_s": lambda v: v.number(0.0, 3600.0),
    "staleness_s": lambda v: v.number(0.0, 3600.0),
}


def fleet_of(document: YamlValue) -> Fleet:
    """The fleet that a `kind: Fleet` document declares, with its hash.

    Raises: ConfigError naming file, line, key, found and expected.
    """
    name, spec = _head(document, "Fleet")
    clusters = tuple(_cluster(item.mapping()) for item in spec.required("clusters", lambda v: list(v.items())))
    services = tuple(_service_item(item.mapping()) for item in spec.required("services", lambda v: list(v.items())))
    network: dict[str, Any] = spec.optional("network", lambda v: _fields(v.mapping(), _NETWORK_READERS), {})
    model: dict[str, Any] = spec.given(_MODEL_READERS)
    spec.close()
    try:
        fleet = Fleet(name=name, clusters=clusters, services=services, network=NetworkModel(**network), **model)
    except ConfigError as error:
        raise ConfigError(f"{document.where}: {error}") from error
    return dataclasses.replace(fleet, source_hash=hash_of(fleet))


def service_of(document: YamlValue) -> Service:
    """The service that a `kind: Service` document declares. Raises: ConfigError as `fleet_of` does."""
    name, spec = _head(document, "Service")
    return _service(name, spec)


def hash_of(fleet: Fleet) -> str:
    """SHA-256 over the effective declaration (defaults included, comments and layout not), so equal fleets have equal hashes."""
    values = dataclasses.asdict(dataclasses.replace(fleet, source_hash=""))
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def dump_fleet(fleet: Fleet) -> str:
    """A `kind: Fleet` document that reads back as the same fleet, hash included."""
    spec = {
        "network": dataclasses.asdict(fleet.network),
        "beta": fleet.beta,
        "actuation_delay_s": fleet.actuation_delay_s,
        "staleness_s": fleet.staleness_s,
        "clusters": [{**dataclasses.asdict(c), "nodes": [dataclasses.asdict(n) for n in c.nodes]} for c in fleet.clusters],
        "services": [{"name": s.name, **_service_spec(s)} for s in fleet.services],
    }
    return _dump([{"apiVersion": API_VERSION, "kind": "Fleet", "metadata": {"name": fleet.name}, "spec": spec}])


def dump_services(services: Sequence[Service]) -> str:
    """One `kind: Service` document a service."""
    return _dump(
        [{"apiVersion": API_VERSION, "kind": "Service", "metadata": {"name": s.name}, "spec": _service_spec(s)} for s in services]
    )


def _head(document: YamlValue, kind: str) -> tuple[str, YamlMapping]:
    top = document.mapping()
    top.required("apiVersion", lambda v: v.one_of(API_VERSION))
    top.required("kind", lambda v: v.one_of(kind))
    metadata = top.required("metadata", YamlValue.mapping)
    name = metadata.required("name", YamlValue.label)
    metadata.close()
    spec = top.required("spec", YamlValue.mapping)
    top.close()
    return name, spec


def _cluster(keys: YamlMapping) -> Cluster:
    name = keys.required("name", YamlValue.label)
    x_km = keys.optional("x_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    y_km = keys.optional("y_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    nodes = tuple(_node(item.mapping()) for item in keys.required("nodes", lambda v: list(v.items())))
    keys.close()
    return Cluster(name=name, nodes=nodes, x_km=x_km, y_km=y_km)


def _node(keys: YamlMapping) -> Node:
    name = keys.required("name", YamlValue.subdomain)
    cpu = keys.required("cpu_millicores", lambda v: v.integer(1, MAX_MILLICORES))
    memory = keys.required("memory_mib", lambda v: v.integer(1, MAX_MEMORY_MIB))
    keys.close()
    return Node(name=name, cpu_millicores=cpu, memory_mib=memory)


def _service_item(keys: YamlMapping) -> Service:
    return _service(keys.required("name", YamlValue.label), keys)


def _service(name: str, keys: YamlMapping) -> Service:
    service_class = ServiceClass[keys.required("class", lambda v: v.one_of("lc", "be")).upper()]
    for field in ("cpu_work_s", "memory_mib"):
        keys.required(field, _SERVICE_READERS[field])
    if service_class is ServiceClass.LC:
        for field in ("target_ms", "instance_memory_mib"):
            keys.required(field, _SERVICE_READERS[field])
    fields: dict[str, Any] = _fields(keys, _SERVICE_READERS)
    try:
        return Service(name=name, service_class=service_class, **fields)
    except ConfigError as error:
        raise ConfigError(f"{keys.owner.where}: {error}") from error


def _fields(keys: YamlMapping, readers: _Readers) -> dict[str, object]:
    values = keys.given(readers)
    keys.close()
    return values


def _service_spec(service: Service) -> dict[str, object]:
    values = {name: getattr(service, name) for name in _SERVICE_READERS}
    if service.service_class is ServiceClass.BE:
        values = {
            name: value for name, value in values.items() if value is not None and (name, value) != ("instance_memory_mib", 0)
        }
    return {"class": service.service_class.label, **values}


def _dump(values: list[dict[str, object]]) -> str:
    return yaml.safe_dump_all(values, sort_keys=False, explicit_start=len(values) > 1)
