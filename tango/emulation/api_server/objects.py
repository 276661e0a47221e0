"""The verbs on objects: get, list, create, update (also by patch and by subresource), delete. They return a `Reply`; HTTP is elsewhere."""

from __future__ import annotations

import base64
import datetime
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from tango.emulation.api_server import config_objects, pods
from tango.emulation.api_server.admission import AdmissionChain, pod_security, priorities
from tango.emulation.api_server.failures import (
    Causes,
    Refused,
    already_exists,
    bad_request,
    conflict,
    not_found,
    page_expired,
    stale,
    success,
)
from tango.emulation.api_server.forms import whole_number
from tango.emulation.api_server.replies import Reply, listed, whole
from tango.emulation.api_server.resources import BY_PLACE, Resource
from tango.emulation.api_server.selectors import matcher
from tango.emulation.api_server.storage import Collection, Key, Storage, Stored

Json = dict[str, Any]
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
"""Namespaces that every Kubernetes cluster begins with."""
# Characters of generated names, those of k8s.io/apimachinery/pkg/util/rand: no vowels and no digits that look like letters.
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Objects:
    """The objects of one cluster and the verbs on them. Not thread-safe: all calls come from the server's asyncio loop."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._admission = AdmissionChain(storage)
        self.admits_any_resize = False
        """As servers before 1.36, which leave it to the kubelet to find a resize infeasible."""
        namespaces = storage.of(BY_PLACE["", "v1", "namespaces"])
        for name in NAMESPACES:
            if ("", name) not in namespaces.objects:
                storage.put(namespaces, ("", name), _new_namespace({"metadata": {"name": name}}))
        classes = storage.of(BY_PLACE["scheduling.k8s.io", "v1", "priorityclasses"])
        for name, value in priorities.SYSTEM.items():
            if ("", name) not in classes.objects:
                metadata = {"name": name, "uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
                storage.put(classes, ("", name), {"metadata": metadata, "value": value, "preemptionPolicy": priorities.PREEMPT})

    # ---- reading -------------------------------------------------------------------------------------------------------

    def find(self, collection: Collection, key: Key) -> Stored:
        """The stored object of a key. Raises: Refused 404."""
        stored = collection.objects.get(key)
        if stored is None:
            raise not_found(collection.resource.name, key[1], collection.resource.group)
        return stored

    def get(self, collection: Collection, key: Key) -> Reply:
        """One object. Raises: Refused 404."""
        return whole(collection.resource, self.find(collection, key))

    def list(self, collection: Collection, namespace: str | None, query: Mapping[str, str]) -> Reply:
        """One page of a collection, by the query's `labelSelector`, `fieldSelector`, `limit` and `continue`.

        A later page lists the current objects, not those of the first page's version: it may miss changes in between, which a watch
        from the version in the reply then delivers. Raises: Refused 410 if that version is out of the history.
        """
        match = matcher(collection.resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        # Sorted, so that a page can continue from the (namespace, name) in its token.
        found = [s for s in collection.in_order(namespace) if match is None or match(s.item)]
        version = self.storage.version
        metadata: Json = {}
        if query.get("continue"):
            version, start = _from_token(query["continue"])
            if 0 < version < collection.oldest - 1 and version < self.storage.version:
                # Version 0 in a token: of what there is when it is used, however old it is.
                raise page_expired(_to_token(0, start))
            version = version or self.storage.version
            found = [s for s in found if [s.item["metadata"].get("namespace", ""), s.item["metadata"]["name"]] >= start]
        limit = whole_number(query, "limit", 0)
        if limit and len(found) > limit:
            following = found[limit].item["metadata"]
            metadata["continue"] = _to_token(version, [following.get("namespace", ""), following["name"]])
            if match is None:  # as a real server does: with selectors it does not count what it has not read
                metadata["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        return listed(collection.resource, {"resourceVersion": str(version), **metadata}, found)

    # ---- writing -------------------------------------------------------------------------------------------------------

    def create(self, collection: Collection, namespace: str | None, body: Json, dry: bool) -> Reply:
        """Create an object, with the server's defaults; with `dry` (dryRun=All) validate it and store nothing.

        Raises: Refused 404 for an unknown namespace, 409 for a name that is taken, 422 for an invalid object.
        """
        resource, metadata = collection.resource, body["metadata"]
        if resource.namespaced:
            self._require_namespace(namespace, metadata)
            metadata["namespace"] = namespace
        generated = metadata.get("generateName")
        if not metadata.get("name") and generated:
            metadata["name"] = generated + "".join(secrets.choice(_ALPHABET) for _ in range(5))
        name = metadata.get("name", "")
        if not name:
            raise Refused(
                422,
                "Invalid",
                f'{resource.kind} "" is invalid: metadata.name: Required value: name or generateName is required',
                details={
                    "kind": resource.kind,
                    "causes": [
                        {
                            "reason": "FieldValueRequired",
                            "message": "Required value: name or generateName is required",
                            "field": "metadata.name",
                        }
                    ],
                },
            )
        if resource.kind == "Pod":
            body["spec"] = body.get("spec") or {}
            pods.canonical_resources(body)
            pods.set_defaults(body["spec"])
        # In the order of a real server: what fills in, then the object's own form, then what refuses.
        self._admission.fill_in(resource, body)
        config_objects.fill_in(resource.kind, body)
        if resource.kind == "Pod":
            pods.set_first_status(body)
            pods.validate_new(body)
            metadata["generation"] = 1
        else:
            _validate_new(resource, body)
        if resource.kind == "Node":
            _new_node(body)
        if resource.kind == "Namespace":
            body = _new_namespace(body)
            metadata = body["metadata"]
        if resource.kind == "PodDisruptionBudget":
            body.setdefault("status", {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
            metadata["generation"] = 1
        if resource.kind == "ResourceQuota":
            body["status"] = {}
        warnings = self._admission.require_new(resource, body)
        # Validation comes before the check for an existing name, so an invalid object is refused with 422 in any case.
        key = (metadata.get("namespace", ""), name)
        if key in collection.objects:
            if not resource.durable:  # metrics are written over, as by their producer each round
                return whole(resource, self.storage.put(collection, key, body), 201)
            raise already_exists(resource.name, name, resource.group)
        metadata.pop("resourceVersion", None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = now()
        stored = Stored(body, 0, orjson.dumps(body)) if dry else self.storage.put(collection, key, body)
        return replace(whole(resource, stored, 201), warnings=warnings)

    def update(
        self, collection: Collection, key: Key, subresource: str, change: Callable[[Json], Json], dry: bool, name: str
    ) -> Reply:
        """Replace an object by `change(old)`, through itself or one of its subresources; with `dry` store nothing.

        An update that changes nothing keeps the resource version. The update that removes the last finalizer of an object under deletion
        deletes it. Raises: Refused 404, 409 for a stale version or another uid, 422.
        """
        resource = collection.resource
        if not resource.durable and key not in collection.objects:
            fresh = change({})
            fresh.setdefault("metadata", {})["name"] = key[1]
            return whole(resource, self.storage.put(collection, key, fresh))
        stored = self.find(collection, key)
        old = stored.item
        new = change(old)
        metadata = {**(new.get("metadata") or {})}
        require_name(metadata, key)
        asked = metadata.get("resourceVersion")
        if asked and asked != old["metadata"]["resourceVersion"]:
            raise stale(resource.name, key[1], resource.group)
        if metadata.get("uid") and metadata["uid"] != old["metadata"].get("uid"):
            raise conflict(
                resource.name,
                key[1],
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {old['metadata'].get('uid')}",
                resource.group,
            )
        result = self._merged(resource, old, new, metadata, subresource)
        # An update without a change is not written: a new version would wake every watcher for nothing.
        if result is old:
            return whole(resource, stored)
        if dry:
            return whole(resource, Stored(result, stored.version, orjson.dumps(result)))
        gone = result["metadata"].get("deletionTimestamp") and not result["metadata"].get("finalizers")
        if gone and old["metadata"].get("finalizers"):
            return whole(resource, self.storage.remove(collection, key))
        return whole(resource, self.storage.put(collection, key, result))

    def _merged(self, resource: Resource, old: Json, new: Json, metadata: Json, subresource: str) -> Json:
        """The object after an update; `old` itself if nothing changed.

        `status` takes only the status of `new`, `resize` only the resources of its containers, a plain update everything but the status.
        """
        kept = old["metadata"]
        if subresource == "status":
            status = new.get("status") or {}
            return old if status == old.get("status") else {**old, "metadata": dict(kept), "status": status}
        if subresource == "resize":
            pods.canonical_resources(new := _own_containers(new))
            spec = pods.resized(old, new, None if self.admits_any_resize else self._allocatable(old))
            if spec == old["spec"]:
                return old
            self._admission.require_resized(resource, old, {**old, "spec": spec})
            return {**old, "metadata": {**kept, "generation": kept.get("generation", 1) + 1}, "spec": spec}
        # Fields that belong to the server keep their values, whatever the caller sends.
        for field in (
            "uid",
            "creationTimestamp",
            "generation",
            "namespace",
            "name",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
        ):
            metadata.pop(field, None)
            if field in kept:
                metadata[field] = kept[field]
        metadata["resourceVersion"] = kept["resourceVersion"]
        result = {**new, "metadata": metadata}
        result.pop("kind", None)
        result.pop("apiVersion", None)
        # A plain update never touches the status, so that it cannot undo what a kubelet has just reported.
        if "status" in old:
            result["status"] = old["status"]
        elif resource.subresources and "status" in resource.subresources:
            result.pop("status", None)
        if resource.kind == "Pod":
            pods.canonical_resources(result := {**result, "spec": _own_containers(result)["spec"]})
            # A PUT carries what a client knows of the object: what it leaves away is filled in as in a new one.
            pods.set_defaults(result["spec"])
            priorities.keep(old["spec"], result["spec"])
            pods.validate_update(old, result)
        else:
            config_objects.fill_in(resource.kind, result)
            self._admission.fill_in_any(resource, result)
            _validate_update(resource, old, result)
        if result == old:
            return old
        if "generation" in kept and result.get("spec") != old.get("spec"):
            metadata["generation"] = kept["generation"] + 1
        return result

    def delete(self, collection: Collection, key: Key, options: Json, dry: bool) -> Reply:
        """Delete an object, a pod gracefully; one with finalizers is only marked. With `dry` nothing is deleted.

        Raises: Refused 404, or 409 if a precondition of the options does not hold.
        """
        resource, stored = collection.resource, self.find(collection, key)
        metadata = stored.item["metadata"]
        preconditions = options.get("preconditions") or {}
        for field, shown in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            asked = preconditions.get(field)
            if asked and asked != metadata.get(field):
                raise conflict(
                    resource.name,
                    key[1],
                    f"Precondition failed: {shown} in precondition: {asked}, {shown} in object meta: {metadata.get(field)}",
                    resource.group,
                )
        if resource.kind == "Pod":
            return whole(resource, stored if dry else self._delete_pod(collection, key, stored, options))
        if not dry:
            if metadata.get("finalizers"):
                marked = {**stored.item, "metadata": {**metadata, "deletionTimestamp": metadata.get("deletionTimestamp") or now()}}
                return whole(resource, self.storage.put(collection, key, marked))
            self.storage.remove(collection, key)
            if resource.kind == "Namespace":
                self._empty_namespace(key[1])
        details = {"name": key[1], "kind": resource.name, "uid": metadata.get("uid", "")}
        if resource.group:
            details["group"] = resource.group
        return Reply(success(details=details))

    def _delete_pod(self, collection: Collection, key: Key, stored: Stored, options: Json) -> Stored:
        """Graceful deletion: a bound, unfinished pod stays, marked with its grace, until its kubelet deletes it with grace 0.

        A further delete may shorten the grace, not lengthen it. Source: Kubernetes documentation, Pod Lifecycle, "Termination of Pods".
        """
        pod, metadata = stored.item, stored.item["metadata"]
        grace_s = options.get("gracePeriodSeconds")
        if grace_s is None:
            grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        # Nobody has to stop a pod that is not bound or has ended, so it is deleted at once.
        if not pod["spec"].get("nodeName") or pod["status"].get("phase") in ("Succeeded", "Failed"):
            grace_s = 0
        earlier = metadata.get("deletionGracePeriodSeconds")
        if earlier is not None and grace_s >= earlier and grace_s > 0:
            return stored
        if earlier is None or grace_s > 0:
            marked = {**metadata, "deletionTimestamp": now(grace_s), "deletionGracePeriodSeconds": grace_s}
            marked["generation"] = metadata.get("generation", 1) + 1
            stored = self.storage.put(collection, key, {**pod, "metadata": marked})
        if grace_s > 0 or metadata.get("finalizers"):
            return stored
        self.storage.remove(collection, key)
        return stored

    def delete_all(
        self, collection: Collection, namespace: str | None, query: Mapping[str, str], options: Json, dry: bool
    ) -> Reply:
        """Delete the objects that the query's selectors match (deletecollection); returns them as a list."""
        match = matcher(collection.resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = [s for s in collection.in_order(namespace) if match is None or match(s.item)]
        for stored in found:
            metadata = stored.item["metadata"]
            self.delete(collection, (metadata.get("namespace", ""), metadata["name"]), options, dry)
        return listed(collection.resource, {"resourceVersion": str(self.storage.version)}, found)

    def _require_namespace(self, namespace: str | None, metadata: Json) -> None:
        if not namespace:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if ("", namespace) not in self.storage.of(BY_PLACE["", "v1", "namespaces"]).objects:
            raise not_found("namespaces", namespace)

    def _empty_namespace(self, namespace: str) -> None:
        for collection in self.storage.collections.values():
            if collection.resource.namespaced:
                for key in [k for k in collection.objects if k[0] == namespace]:
                    self.storage.remove(collection, key)

    def _allocatable(self, pod: Json) -> Json | None:
        node = self.storage.of(BY_PLACE["", "v1", "nodes"]).objects.get(("", pod["spec"].get("nodeName") or ""))
        return None if node is None else (node.item.get("status") or {}).get("allocatable")


def require_name(metadata: Json, key: Key) -> None:
    """Look that a body and its URL name one object. Raises: Refused 400."""
    if metadata.get("name", key[1]) != key[1]:
        raise bad_request(f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({key[1]})")


def _validate_new(resource: Resource, body: Json) -> None:
    """Look at the form of a new object that is no pod. Raises: Refused 422."""
    causes = Causes(resource.kind, body["metadata"]["name"], resource.group)
    pods.check_name(causes, body["metadata"]["name"])
    if resource.kind == "Node":
        check_taints(causes, body)
    elif resource.kind == "Namespace":
        pod_security.check_labels(causes, body)
    elif resource.kind == "PriorityClass":
        priorities.check(causes, body)
    elif resource.kind in config_objects.KINDS:
        config_objects.check(causes, resource.kind, body)
    causes.raise_if_any()


def _validate_update(resource: Resource, old: Json, new: Json) -> None:
    """Look at what a plain update makes of an object that is no pod. Raises: Refused 422."""
    causes = Causes(resource.kind, old["metadata"]["name"], resource.group)
    if resource.kind == "Node":
        check_taints(causes, new)
    elif resource.kind == "Namespace":
        pod_security.check_labels(causes, new)
    elif resource.kind == "PriorityClass":
        priorities.check_update(causes, old, new)
    elif resource.kind in config_objects.KINDS:
        config_objects.check(causes, resource.kind, new)
        config_objects.check_update(causes, resource.kind, old, new)
    causes.raise_if_any()


def check_taints(causes: Causes, node: Json) -> None:
    """Add a cause for each taint of a node that is none. Source: kubernetes, pkg/apis/core/validation, validateNodeTaints."""
    seen = set()
    for k, taint in enumerate((node.get("spec") or {}).get("taints") or []):
        at, effect = f"metadata.taints[{k}]", taint.get("effect") or ""
        if not taint.get("key"):
            causes.required(f"{at}.key")
        if not effect:
            causes.required(f"{at}.effect")
        elif effect not in TAINT_EFFECTS:
            supported = ", ".join(f'"{e}"' for e in TAINT_EFFECTS)
            causes.add("FieldValueNotSupported", f'Unsupported value: "{effect}": supported values: {supported}', f"{at}.effect")
        elif (taint.get("key"), effect) in seen:
            causes.add("FieldValueDuplicate", f'Duplicate value: "{taint.get("key")}:{effect}"', at)
        seen.add((taint.get("key"), effect))


def _new_node(node: Json) -> None:
    spec = node.setdefault("spec", {})
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    if not any(t.get("key") == taint["key"] for t in spec.get("taints") or []):
        spec["taints"] = [*(spec.get("taints") or []), taint]
    for part in ("capacity", "allocatable"):
        held = node.setdefault("status", {}).get(part)
        if held:
            node["status"][part] = pods.canonical_quantities(held)


def _new_namespace(namespace: Json) -> Json:
    metadata = namespace["metadata"]
    metadata.setdefault("uid", str(uuid.uuid4()))
    metadata.setdefault("creationTimestamp", now())
    metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    return {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def _own_containers(item: Json) -> Json:
    """A copy of the item as deep as containers' resources, so that changing these does not change a stored version."""
    spec = item.get("spec") or {}
    copied = [
        {**c, "resources": {k: dict(v) if isinstance(v, dict) else v for k, v in (c.get("resources") or {}).items()}}
        for c in spec.get("containers") or []
    ]
    return {**item, "spec": {**spec, "containers": copied}}


def _to_token(version: int, start: list[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start})).decode().rstrip("=")


def _from_token(token: str) -> tuple[int, list[str]]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), list(found["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request("continue key is not valid") from error


def now(after_s: float = 0) -> str:
    """The time in `after_s` seconds, as RFC 3339 in whole seconds, the form of metav1.Time."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
