"""The plug-ins in order, for creates and updates of objects."""

from __future__ import annotations

from typing import Any

from tango.emulation.api_server.admission import limit_ranges, pod_security, priorities
from tango.emulation.api_server.admission.quotas import Quotas
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.pods import canonical_quantities
from tango.emulation.api_server.resources import BY_PLACE, Resource
from tango.emulation.api_server.storage import Storage

Json = dict[str, Any]


class AdmissionChain:
    """The admission of one cluster's API server; it reads what rules there are from the storage at each call."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._quotas = Quotas(storage)

    def fill_in(self, resource: Resource, body: Json) -> None:
        """Give a new object what rules say of what it leaves open, in place. Raises: Refused 403 for a PriorityClass that is not to
        be, or a namespace that is being deleted."""
        if resource.namespaced:
            self._require_living_namespace(resource, body)
        if resource.kind == "Pod":
            limit_ranges.fill_in(body, self._limit_ranges(body))
            priorities.resolve(body, self._of("scheduling.k8s.io", "priorityclasses", None))
        elif resource.kind == "PriorityClass":
            body.setdefault("preemptionPolicy", priorities.PREEMPT)
        self.fill_in_any(resource, body)

    def fill_in_any(self, resource: Resource, body: Json) -> None:
        """Give the rules themselves, new or changed, their canonical form; the caller must own the outermost mapping.

        Raises: Refused 400 for a malformed quantity, which would otherwise fail the next pod.
        """
        if resource.kind == "LimitRange":
            limit_ranges.set_defaults(body)
        elif resource.kind == "ResourceQuota":
            spec = body.get("spec") or {}
            body["spec"] = {**spec, "hard": canonical_quantities(spec.get("hard") or {})}

    def require_new(self, resource: Resource, body: Json) -> tuple[str, ...]:
        """Look whether a new, valid object may be; gives warnings for whoever made it. Raises: Refused 403."""
        warnings: tuple[str, ...] = ()
        if resource.kind == "Pod":
            limit_ranges.require(body, self._limit_ranges(body))
            warnings = pod_security.require(body, self._namespace(body))
        elif resource.kind == "PriorityClass":
            priorities.require_one_default(body, self._of(resource.group, resource.name, None))
        self._quotas.require(resource, None, body)
        return warnings

    def require_resized(self, resource: Resource, old: Json, new: Json) -> None:
        """Look whether a pod may have its new resources. Raises: Refused 403."""
        limit_ranges.require(new, self._limit_ranges(new))
        self._quotas.require(resource, old, new)

    def _of(self, group: str, name: str, namespace: str | None) -> list[Json]:
        collection = self._storage.of(BY_PLACE[group, "v1", name])
        return [stored.item for stored in collection.in_order(namespace)] if collection.objects else []

    def _require_living_namespace(self, resource: Resource, body: Json) -> None:
        """Nothing new comes into a namespace that goes. Source: kubernetes, plugin namespace/lifecycle."""
        namespace, name = self._namespace(body)["metadata"], body["metadata"].get("name", "")
        if namespace.get("deletionTimestamp"):
            words = f"unable to create new content in namespace {namespace['name']} because it is being terminated"
            shown = f"{resource.name}.{resource.group}" if resource.group else resource.name
            cause = {"reason": "NamespaceTerminating", "message": f"namespace {namespace['name']} is being terminated"}
            details = {"name": name, "kind": resource.name, "causes": [{**cause, "field": "metadata.namespace"}]}
            raise Refused(403, "Forbidden", f'{shown} "{name}" is forbidden: {words}', details=details)

    def _limit_ranges(self, pod: Json) -> list[Json]:
        return self._of("", "limitranges", pod["metadata"].get("namespace", ""))

    def _namespace(self, item: Json) -> Json:
        found = self._storage.of(BY_PLACE["", "v1", "namespaces"]).objects.get(("", item["metadata"].get("namespace", "")))
        return found.item if found is not None else {"metadata": {}}
