"""Conversion of fleet and service documents (`apiVersion: tango/v1`) to domain values and back."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tango.domain.fleet import MOST_PODS, Fleet, Link, NetworkModel, Node, RunPods
from tango.domain.interference import ServiceInterference
from tango.domain.kubelet_ways import USUAL, KubeletWays, ways_of
from tango.domain.quantities import MAX_MEMORY_MIB
from tango.domain.services import Service, ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import ConfigError, FileRefused
from tango.fleets.adoption import NOT_BESIDE as ADOPTION_HAS
from tango.fleets.adoption import adoption_document, fields_with_adoption
from tango.fleets.clusters import LINK_READERS, MAX_MILLICORES, NETWORK_READERS, clusters_of, links_of
from tango.fleets.extended import declared_extended, extended_of
from tango.fleets.fitting import refuse_unfit
from tango.fleets.interference import declared_interference, interference_of
from tango.fleets.recipes import FleetRecipe, MachineType
from tango.fleets.templates import NOT_BESIDE, fields_with_template
from tango.fleets.yaml_document import Names, Readers, YamlMapping, YamlValue

API_VERSION = "tango/v1"
KUBERNETES_API_VERSION = "tango.dev/v1"
"""The same with a group as Kubernetes has them, for documents that lie beside other objects."""

MAX_MEAN_WORK_S = 1e6
"""Largest mean work of a service, CPU-seconds: eleven days on a core."""

# libyaml's dumper if PyYAML was built with it; it saves 0.4 s for a fleet of 10,000 nodes.
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_SERVICE_READERS: Readers = {
    "image": YamlValue.text,
    "port": lambda v: v.integer(1, 65535),
    "cpu_work_s": lambda v: v.number(1e-6, MAX_MEAN_WORK_S),
    "cpu_work_cv": lambda v: v.number(0.0, 100.0),
    "memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
    "target_ms": lambda v: v.number(0.001, 1e9),
    "instances_per_node": lambda v: v.integer(1, 1000),
    "cpu_request_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "cpu_limit_millicores": lambda v: v.integer(1, MAX_MILLICORES),
    "instance_memory_mib": lambda v: v.integer(1, MAX_MEMORY_MIB),
    "payload_kib": lambda v: v.number(0.0, 1e9),
    "shed_after_targets": lambda v: v.number(0.0, 1e6),
    "extended": extended_of,
    "namespace": YamlValue.label,
    "tls": YamlValue.boolean,
    "preserve_host": YamlValue.boolean,
    "tenant": YamlValue.label,
    "shared": YamlValue.boolean,
    "allowed_tenants": lambda v: tuple(item.label() for item in v.items()),
    "never_evict": YamlValue.boolean,
    "never_resize": YamlValue.boolean,
    "startup_cpu_limit_millicores": lambda v: v.integer(1, MAX_MILLICORES),
}
_MODEL_READERS: Readers = {
    "beta": lambda v: v.number(0.0, 100.0),
    "actuation_delay_s": lambda v: v.number(0.0, 3600.0),
    "staleness_s": lambda v: v.number(0.0, 3600.0),
}


def fleet_of(document: YamlValue, *, must_fit: bool = True) -> Fleet:
    """The fleet that a `kind: Fleet` document declares, with its `source_hash`; `must_fit` is explained at `catalog.parse_fleet`.

    Raises: FileRefused with file, line, key, what was found and what was expected.
    """
    name, spec = head_of(document, "Fleet")
    clusters = clusters_of(spec)
    services = _services(spec)
    network: dict[str, Any] = spec.optional("network", lambda v: v.mapping().fields(NETWORK_READERS), {})
    no_links: tuple[Link, ...] = ()
    links = spec.optional("links", lambda v: links_of(v, [c.name for c in clusters]), no_links)
    model: dict[str, Any] = spec.given(_MODEL_READERS)
    none: tuple[ServiceInterference, ...] = ()
    interference = spec.optional("interference", lambda v: interference_of(v, [s.name for s in services]), none)
    run = RunPods(spec.optional("run", lambda v: v.one_of(*RunPods), str(RunPods.MODEL)))
    folder = spec.optional("process_folder", YamlValue.text, "")
    if run is RunPods.PROCESSES:  # of a file that is moved the folder moves with it; written out it is absolute
        folder = str((Path(document.file).resolve().parent / folder).resolve())
    kubelets = spec.optional("kubelets", _ways, USUAL)
    spec.close()
    try:
        fleet = Fleet(
            name=name,
            clusters=clusters,
            services=tuple(services),
            network=NetworkModel(**network),
            links=links,
            run=run,
            process_folder=folder,
            kubelets=kubelets,
            interference=interference,
            **model,
        )
    except ConfigError as error:
        raise FileRefused(f"{document.where}: {error}") from error
    if must_fit:
        for service, place in services.items():
            if service.adopt is not None:
                continue  # its pods run already
            refuse_unfit(service, place, fleet)
    return dataclasses.replace(fleet, source_hash=hash_of(fleet))


def _ways(value: YamlValue) -> KubeletWays:
    try:
        return ways_of(value.plain())
    except ValueError as error:
        raise FileRefused(f"{value.where}: {value.key}: {error}") from error


def service_of(document: YamlValue) -> Service:
    """The service that a `kind: Service` document declares. Raises: FileRefused as `fleet_of` does."""
    name, spec = head_of(document, "Service")
    return _service(name, spec)


IMAGE_BEFORE = "ghcr.io/tango-edge/workload:latest"
"""What hashes have for a service without an image of its own, so that those in earlier results stay true; nothing is ever pulled by it."""


def hash_of(fleet: Fleet) -> str:
    """SHA-256 (hexadecimal) over the fleet's values, defaults included; comments, layout and order of keys do not change it."""
    values = dataclasses.asdict(dataclasses.replace(fleet, source_hash=""))
    for name in ("run", "process_folder", "kubelets"):  # of pods in embedded clusters, which no simulated result is about
        del values[name]
    for name in ("links", "interference"):
        if not values[name]:
            del values[name]  # as before there was such a thing, so that the hashes in earlier results stay true
    values["clusters"] = [{**cluster, "nodes": [_said(node) for node in cluster["nodes"]]} for cluster in values["clusters"]]
    # Likewise of pods and extended resources, and of the image that was every service's before settings named it.
    values["services"] = [{"image": IMAGE_BEFORE, **_said(service)} for service in values["services"]]
    return hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def declaration_of(fleet: Fleet) -> dict[str, object]:
    """The fleet as a `kind: Fleet` document of plain values, with every node and every default written out."""
    spec = {
        **_model_of(fleet),
        "clusters": [{**dataclasses.asdict(c), "nodes": [_size_of(n) for n in c.nodes]} for c in fleet.clusters],
        **_links_and_services_of(fleet),
    }
    return _document("Fleet", fleet.name, spec)


def dump_fleet(fleet: Fleet) -> str:
    """The fleet as YAML text; `catalog.parse_fleet` reads the same fleet from it, hash included."""
    return _dump([declaration_of(fleet)])


def dump_recipe(name: str, recipe: FleetRecipe, like: Fleet) -> str:
    """A `kind: Fleet` document with a recipe in place of its clusters; network, model and services are those of `like`."""
    generate = {key: value for key, value in dataclasses.asdict(recipe).items() if value is not None}
    generate["machines"] = [_size_of(machine) for machine in recipe.machines]
    without_links = dataclasses.replace(like, links=())
    return _dump([_document("Fleet", name, {**_model_of(like), "generate": generate, **_links_and_services_of(without_links)})])


def dump_services(services: Sequence[Service]) -> str:
    """YAML text with one `kind: Service` document for each service."""
    return _dump([_document("Service", s.name, declared_spec(s)) for s in services])


def head_of(document: YamlValue, kind: str) -> tuple[str, YamlMapping]:
    """Name and `spec` of a document of a kind. Raises: FileRefused for another kind or version, and for a key that is not known."""
    top = document.mapping()
    top.required("apiVersion", lambda v: v.one_of(API_VERSION, KUBERNETES_API_VERSION))
    top.required("kind", lambda v: v.one_of(kind))
    metadata = top.required("metadata", YamlValue.mapping)
    name = metadata.required("name", YamlValue.label)
    metadata.close()
    spec = top.required("spec", YamlValue.mapping)
    top.close()
    return name, spec


def _services(spec: YamlMapping) -> dict[Service, YamlMapping]:
    """The services of a fleet, each with the mapping that declares it, for messages; none where they are declared later, by themselves."""
    names = Names("service")
    none: list[YamlMapping] = []
    items = spec.optional("services", lambda v: [item.mapping() for item in v.items()], none)
    return {_service(item.required("name", lambda v: names.once(v, YamlValue.label)), item): item for item in items}


def _service(name: str, keys: YamlMapping) -> Service:
    service_class = ServiceClass[keys.required("class", lambda v: v.one_of("lc", "be")).upper()]
    is_lc, has_template, adopts = service_class is ServiceClass.LC, "template" in keys.values, "adopt" in keys.values
    required = ["target_ms"] if is_lc else []
    if not has_template and not adopts:
        required += ["cpu_work_s", "memory_mib", *(["instance_memory_mib"] if is_lc else [])]
    for field in required:
        keys.refuse_missing(field, _SERVICE_READERS[field])
    if not adopts:  # whoever is told which keys there are hears of these two as well
        keys.asked.extend(("adopt", "template"))
    fields: dict[str, Any]
    if adopts:
        fields = fields_with_adoption(keys, _SERVICE_READERS, lc=is_lc)
    elif has_template:
        fields = fields_with_template(keys, _SERVICE_READERS, lc=is_lc)
    else:
        fields = keys.fields(_SERVICE_READERS)
    fields.setdefault("shared", "tenant" not in fields and "allowed_tenants" not in fields)
    try:
        return Service(name=name, service_class=service_class, **fields)
    except ConfigError as error:
        raise FileRefused(f"{keys.owner.where}: {error}") from error


def _document(kind: str, name: str, spec: dict[str, object]) -> dict[str, object]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _model_of(fleet: Fleet) -> dict[str, object]:
    said = {k: v for k, v in dataclasses.asdict(fleet.kubelets).items() if v != getattr(USUAL, k)}
    kubelets = {"kubelets": {k: list(v) if isinstance(v, tuple) else v for k, v in said.items()}} if said else {}
    run = {"run": str(fleet.run), "process_folder": fleet.process_folder} if fleet.run is not RunPods.MODEL else {}
    return {"network": dataclasses.asdict(fleet.network), **{key: getattr(fleet, key) for key in _MODEL_READERS}, **run, **kubelets}


def _links_and_services_of(fleet: Fleet) -> dict[str, object]:
    links = [
        {
            "from": link.from_cluster,
            "to": link.to_cluster,
            **{key: getattr(link, key) for key in LINK_READERS if getattr(link, key) is not None},
        }
        for link in fleet.links
    ]
    services = [{"name": s.name, **declared_spec(s)} for s in fleet.services]
    interference = {"interference": declared_interference(fleet.interference)} if fleet.interference else {}
    return {**({"links": links} if links else {}), "services": services, **interference}


def declared_spec(service: Service) -> dict[str, object]:
    """The `spec` of the document that declares a service, without what is assumed."""
    values = _said({name: getattr(service, name) for name in _SERVICE_READERS if name not in service.assumed})
    if service.allowed_tenants:
        values["allowed_tenants"] = list(service.allowed_tenants)
    if service.shared and service.tenant != DEFAULT_TENANT:
        values["shared"] = True
    if service.extended:
        values["extended"] = declared_extended(service.extended)
    if service.adopt is not None:
        values = {name: value for name, value in values.items() if name not in ADOPTION_HAS}
        values["adopt"] = adoption_document(service.adopt, service.port)
    if service.template:
        values = {name: value for name, value in values.items() if name not in NOT_BESIDE}
        values |= {"container": service.container, "template": json.loads(service.template)}
        if service.allow_literal:
            values["allowLiteral"] = list(service.allow_literal)
    if service.service_class is ServiceClass.BE:
        values = {
            name: value for name, value in values.items() if value is not None and (name, value) != ("instance_memory_mib", 0)
        }
    return {"class": service.service_class.label, **values}


def _size_of(machine: Node | MachineType) -> dict[str, object]:
    values = _said(dataclasses.asdict(machine))
    return values | {"extended": declared_extended(machine.extended)} if machine.extended else values


def _said(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is as it was before there was such a thing, which files of before do not say."""
    defaults = (
        *(("pods", MOST_PODS), ("extended", ()), ("shed_after_targets", 0.0), ("tls", False), ("namespace", "")),
        *(("never_evict", False), ("never_resize", False), ("startup_cpu_limit_millicores", 0), ("preserve_host", False)),
        *(("tenant", DEFAULT_TENANT), ("shared", True), ("allowed_tenants", ())),
        *(("template", ""), ("image", ""), ("container", ""), ("allow_literal", ()), ("assumed", ()), ("adopt", None)),
    )
    return {name: value for name, value in values.items() if (name, value) not in defaults}


def _dump(values: list[dict[str, object]]) -> str:
    text: str = yaml.dump_all(values, Dumper=_Dumper, sort_keys=False, explicit_start=len(values) > 1)
    return text
