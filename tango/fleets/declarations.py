"""Fleet and service documents (`apiVersion: tango/v1`) to domain values and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import yaml

from tango.domain.fleet import Cluster, Fleet, Link, NetworkModel, Node
from tango.domain.services import Service, ServiceClass
from tango.errors import ConfigError
from tango.fleets.fitting import refuse_unfit
from tango.fleets.recipes import FleetRecipe, MachineType, expand
from tango.fleets.yaml_document import YamlMapping, YamlValue

API_VERSION = "tango/v1"

# Upper bounds refuse slips of a unit (bytes for MiB, cores for millicores), not large machines.
MAX_MILLICORES = 4_000_000
MAX_MEMORY_MIB = 64 << 20
MAX_WORK_S = 1e6
MAX_KM = 40_000.0
MAX_CLUSTERS = 10_000
MAX_NODES_PER_CLUSTER = 5_000
"""What Kubernetes is designed for (its page "Considerations for large clusters")."""
MAX_NODES = 100_000

_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""libyaml's where PyYAML has it: 1.3 s less for 10,000 nodes."""

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
_LINK_READERS: _Readers = {
    "rtt_ms": _NETWORK_READERS["base_rtt_ms"],
    "bandwidth_mbit_per_s": _NETWORK_READERS["bandwidth_mbit_per_s"],
}
_RECIPE_READERS: _Readers = {
    "clusters": lambda v: v.integer(1, MAX_CLUSTERS),
    "nodes_min": lambda v: v.integer(1, MAX_NODES_PER_CLUSTER),
    "nodes_max": lambda v: v.integer(1, MAX_NODES_PER_CLUSTER),
    "nodes": lambda v: v.integer(1, MAX_NODES),
    "area_km": lambda v: v.number(0.0, MAX_KM),
    "seed": lambda v: v.integer(0, 2**64 - 1),
    "machines": lambda v: tuple(_machine(item.mapping()) for item in v.items()),
}
_MACHINE_READERS: _Readers = {
    "share": lambda v: v.number(1e-6, 1e6),
    "cpu_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
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
    clusters = _clusters(spec)
    services = _services(spec)
    network: dict[str, Any] = spec.optional("network", lambda v: _fields(v.mapping(), _NETWORK_READERS), {})
    no_links: tuple[Link, ...] = ()
    links = spec.optional("links", lambda v: _links(v, [c.name for c in clusters]), no_links)
    model: dict[str, Any] = spec.given(_MODEL_READERS)
    spec.close()
    try:
        fleet = Fleet(name=name, clusters=clusters, services=tuple(services), network=NetworkModel(**network), links=links, **model)
    except ConfigError as error:
        raise ConfigError(f"{document.where}: {error}") from error
    for service, place in services.items():
        refuse_unfit(service, place, fleet)
    return dataclasses.replace(fleet, source_hash=hash_of(fleet))


def service_of(document: YamlValue) -> Service:
    """The service that a `kind: Service` document declares. Raises: ConfigError as `fleet_of` does."""
    name, spec = _head(document, "Service")
    return _service(name, spec)


def hash_of(fleet: Fleet) -> str:
    """SHA-256 over the effective declaration (defaults included, comments and layout not), so equal fleets have equal hashes."""
    values = dataclasses.asdict(dataclasses.replace(fleet, source_hash=""))
    if not fleet.links:
        del values["links"]  # as before there were links, so that the hashes in earlier results stay true
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def declaration_of(fleet: Fleet) -> dict[str, object]:
    """The effective declaration as plain values, every node and default written out."""
    spec = {
        **_model_of(fleet),
        "clusters": [{**dataclasses.asdict(c), "nodes": [dataclasses.asdict(n) for n in c.nodes]} for c in fleet.clusters],
        **_links_and_services_of(fleet),
    }
    return _document("Fleet", fleet.name, spec)


def dump_fleet(fleet: Fleet) -> str:
    """A `kind: Fleet` document that reads back as the same fleet, hash included."""
    return _dump([declaration_of(fleet)])


def dump_recipe(name: str, recipe: FleetRecipe, like: Fleet) -> str:
    """A short `kind: Fleet` document: clusters by recipe; network, model and services as another fleet has them."""
    generate = {key: value for key, value in dataclasses.asdict(recipe).items() if value is not None}
    generate["machines"] = [dataclasses.asdict(machine) for machine in recipe.machines]
    without_links = dataclasses.replace(like, links=())
    return _dump([_document("Fleet", name, {**_model_of(like), "generate": generate, **_links_and_services_of(without_links)})])


def dump_services(services: Sequence[Service]) -> str:
    """One `kind: Service` document a service."""
    return _dump([_document("Service", s.name, _service_spec(s)) for s in services])


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


@dataclasses.dataclass(frozen=True, slots=True)
class _Names:
    """Names of one kind and the lines that have them, to refuse the second where it stands."""

    kind: str
    lines: dict[str, int] = dataclasses.field(default_factory=dict)

    def once(self, value: YamlValue, read: Callable[[YamlValue], str]) -> str:
        name = read(value)
        if name in self.lines:
            value.refuse(f"a {self.kind} name of its own", found=f"{name!r}, the name in line {self.lines[name]}")
        self.lines[name] = value.line
        return name


def _clusters(spec: YamlMapping) -> tuple[Cluster, ...]:
    recipe = spec.optional("generate", _recipe, None)
    if recipe is None and "clusters" not in spec.values:
        spec.owner.refuse("a list `clusters`, or a recipe `generate`", found="without clusters")
    if recipe is not None and "clusters" in spec.values:
        spec.values["generate"].refuse("one of the two", found="given beside spec.clusters")
    if recipe is not None:
        spec.asked.append("clusters")
        return expand(recipe)
    clusters, nodes = _Names("cluster"), _Names("node")
    return spec.required("clusters", lambda v: tuple(_cluster(item.mapping(), clusters, nodes) for item in v.items()))


def _cluster(keys: YamlMapping, clusters: _Names, nodes: _Names) -> Cluster:
    name = keys.required("name", lambda v: clusters.once(v, YamlValue.label))
    x_km = keys.optional("x_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    y_km = keys.optional("y_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    found = keys.required("nodes", lambda v: tuple(_node(item.mapping(), nodes) for item in v.items()))
    keys.close()
    return Cluster(name=name, nodes=found, x_km=x_km, y_km=y_km)


def _node(keys: YamlMapping, names: _Names) -> Node:
    name = keys.required("name", lambda v: names.once(v, YamlValue.subdomain))
    cpu = keys.required("cpu_millicores", lambda v: v.integer(1, MAX_MILLICORES))
    memory = keys.required("memory_mib", lambda v: v.integer(1, MAX_MEMORY_MIB))
    keys.close()
    return Node(name=name, cpu_millicores=cpu, memory_mib=memory)


def _recipe(value: YamlValue) -> FleetRecipe:
    keys = value.mapping()
    for key in _RECIPE_READERS:
        if key != "nodes":
            keys.required(key, lambda _: None)
    fields: dict[str, Any] = _fields(keys, _RECIPE_READERS)
    if fields["clusters"] * fields["nodes_max"] > MAX_NODES and fields.get("nodes") is None:
        value.refuse(f"clusters x nodes_max up to {MAX_NODES}, or a total `nodes`", found="of more nodes than a fleet may have")
    try:
        return FleetRecipe(**fields)
    except ConfigError as error:
        key = str(error).split(" ", 1)[0]
        raise ConfigError(f"{keys.values[key].where}: {value.key}.{error}") from error


def _machine(keys: YamlMapping) -> MachineType:
    for key in _MACHINE_READERS:
        keys.required(key, lambda _: None)
    fields: dict[str, Any] = _fields(keys, _MACHINE_READERS)
    return MachineType(**fields)


def _links(value: YamlValue, clusters: Sequence[str]) -> tuple[Link, ...]:
    links: dict[frozenset[str], tuple[Link, int]] = {}
    for item in value.items():
        link = _link(item.mapping(), clusters)
        if link.pair in links:
            line = links[link.pair][1]
            item.refuse("one link a pair, which holds in both directions", found=f"between the clusters that line {line} links")
        links[link.pair] = (link, item.line)
    return tuple(link for link, _ in links.values())


def _link(keys: YamlMapping, clusters: Sequence[str]) -> Link:
    def end(value: YamlValue) -> str:
        name = value.label()
        if name not in known:
            listed = ", ".join(clusters[:10]) + (f" and {len(clusters) - 10} more" if len(clusters) > 10 else "")
            value.refuse(f"one of: {listed}", found=f"{name!r}, which is no cluster of this fleet")
        return name

    known = frozenset(clusters)
    ends = (keys.required("from", end), keys.required("to", end))
    fields: dict[str, Any] = _fields(keys, _LINK_READERS)
    try:
        return Link(from_cluster=ends[0], to_cluster=ends[1], **fields)
    except ConfigError as error:
        raise ConfigError(f"{keys.owner.where}: {keys.owner.key}: {error}") from error


def _services(spec: YamlMapping) -> dict[Service, YamlMapping]:
    """The services, each with where it stands."""
    names = _Names("service")
    items = spec.required("services", lambda v: [item.mapping() for item in v.items()])
    return {_service(item.required("name", lambda v: names.once(v, YamlValue.label)), item): item for item in items}


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


def _document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _model_of(fleet: Fleet) -> dict[str, object]:
    return {"network": dataclasses.asdict(fleet.network), **{key: getattr(fleet, key) for key in _MODEL_READERS}}


def _links_and_services_of(fleet: Fleet) -> dict[str, object]:
    links = [
        {
            "from": link.from_cluster,
            "to": link.to_cluster,
            **{key: getattr(link, key) for key in _LINK_READERS if getattr(link, key) is not None},
        }
        for link in fleet.links
    ]
    services = [{"name": s.name, **_service_spec(s)} for s in fleet.services]
    return {"links": links, "services": services} if links else {"services": services}


def _service_spec(service: Service) -> dict[str, object]:
    values = {name: getattr(service, name) for name in _SERVICE_READERS}
    if service.service_class is ServiceClass.BE:
        values = {
            name: value for name, value in values.items() if value is not None and (name, value) != ("instance_memory_mib", 0)
        }
    return {"class": service.service_class.label, **values}


def _dump(values: list[dict[str, object]]) -> str:
    text: str = yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, explicit_start=len(values) > 1)
    return text
