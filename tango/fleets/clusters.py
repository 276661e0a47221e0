"""The keys of a fleet file that say what there is: clusters with their nodes, one by one or by recipe, and links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tango.domain.fleet import Cluster, Link, Node
from tango.errors import ConfigError
from tango.fleets.recipes import FleetRecipe, MachineType, expand
from tango.fleets.yaml_document import Names, Readers, YamlMapping, YamlValue

# Upper bounds refuse slips of a unit (bytes for MiB, cores for millicores), not large machines.
MAX_MILLICORES = 4_000_000
MAX_MEMORY_MIB = 64 << 20
MAX_KM = 40_000.0
MAX_CLUSTERS = 10_000
MAX_NODES_PER_CLUSTER = 5_000
"""What Kubernetes is designed for (its page "Considerations for large clusters")."""
MAX_NODES = 100_000

NETWORK_READERS: Readers = {
    "base_rtt_ms": lambda v: v.number(0.0, 1e5),
    "local_rtt_ms": lambda v: v.number(0.0, 1e5),
    "rtt_ms_per_km": lambda v: v.number(0.0, 10.0),
    "bandwidth_mbit_per_s": lambda v: v.number(1e-3, 1e8),
}
LINK_READERS: Readers = {
    "rtt_ms": NETWORK_READERS["base_rtt_ms"],
    "bandwidth_mbit_per_s": NETWORK_READERS["bandwidth_mbit_per_s"],
}
_RECIPE_READERS: Readers = {
    "clusters": lambda v: v.integer(1, MAX_CLUSTERS),
    "nodes_min": lambda v: v.integer(1, MAX_NODES_PER_CLUSTER),
    "nodes_max": lambda v: v.integer(1, MAX_NODES_PER_CLUSTER),
    "nodes": lambda v: v.integer(1, MAX_NODES),
    "area_km": lambda v: v.number(0.0, MAX_KM),
    "seed": lambda v: v.integer(0, 2**64 - 1),
    "machines": lambda v: tuple(_machine(item.mapping()) for item in v.items()),
}
_MACHINE_READERS: Readers = {
    "share": lambda v: v.number(1e-6, 1e6),
    "cpu_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
}


def clusters_of(spec: YamlMapping) -> tuple[Cluster, ...]:
    """The clusters of a fleet, declared one by one or by recipe. Raises: ConfigError with the line of what is wrong."""
    recipe = spec.optional("generate", _recipe, None)
    if recipe is None and "clusters" not in spec.values:
        raise ConfigError(
            f"{spec.owner.where}: spec.clusters is missing, expected a list of clusters, or a recipe in spec.generate"
        )
    if recipe is not None and "clusters" in spec.values:
        spec.values["generate"].refuse("one of the two", found="given beside spec.clusters")
    if recipe is not None:
        spec.asked.append("clusters")
        return expand(recipe)
    clusters, nodes = Names("cluster"), Names("node")
    return spec.required("clusters", lambda v: tuple(_cluster(item.mapping(), clusters, nodes) for item in v.items()))


def _cluster(keys: YamlMapping, clusters: Names, nodes: Names) -> Cluster:
    name = keys.required("name", lambda v: clusters.once(v, YamlValue.label))
    x_km = keys.optional("x_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    y_km = keys.optional("y_km", lambda v: v.number(-MAX_KM, MAX_KM), 0.0)
    found = keys.required("nodes", lambda v: tuple(_node(item.mapping(), nodes) for item in v.items()))
    keys.close()
    return Cluster(name=name, nodes=found, x_km=x_km, y_km=y_km)


def _node(keys: YamlMapping, names: Names) -> Node:
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
    fields: dict[str, Any] = keys.fields(_RECIPE_READERS)
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
    fields: dict[str, Any] = keys.fields(_MACHINE_READERS)
    return MachineType(**fields)


def links_of(value: YamlValue, clusters: Sequence[str]) -> tuple[Link, ...]:
    """The links between declared clusters. Raises: ConfigError for one that leads nowhere, says nothing or stands twice."""
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
    fields: dict[str, Any] = keys.fields(LINK_READERS)
    try:
        return Link(from_cluster=ends[0], to_cluster=ends[1], **fields)
    except ConfigError as error:
        raise ConfigError(f"{keys.owner.where}: {keys.owner.key} {str(error).removeprefix('link ')}") from error
