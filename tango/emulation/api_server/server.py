"""The HTTP face: routes a call to a verb on a resource, as kube-apiserver does.

One handler routes by path segments; verbs read or write `Storage`. Answers are built from bytes that are serialised once per version.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import secrets
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from aiohttp import web

from tango.emulation.api_server import pods
from tango.emulation.api_server.authorization import Authorizer, User
from tango.emulation.api_server.failures import (
    Causes,
    Refused,
    already_exists,
    bad_request,
    conflict,
    expired,
    not_found,
    stale,
    success,
)
from tango.emulation.api_server.faults import Faults, refusal
from tango.emulation.api_server.patches import json_patch, merge_patch, strategic_merge
from tango.emulation.api_server.resources import BY_PLACE, GROUPS, RESOURCES, Resource
from tango.emulation.api_server.selectors import labels_match, matcher
from tango.emulation.api_server.storage import Collection, Key, Storage, Stored
from tango.emulation.api_server.watches import Watch

Json = dict[str, Any]
log = structlog.get_logger()
VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.2+tango",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")
PATCHES = {
    "application/merge-patch+json": merge_patch,
    "application/strategic-merge-patch+json": strategic_merge,
    "application/json-patch+json": json_patch,
}
MAX_BODY = 4 * 2**20
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class ApiServer:
    """One cluster's API."""

    def __init__(self, storage: Storage, authorizer: Authorizer) -> None:
        self._storage = storage
        self._authorizer = authorizer
        self._faults = Faults()
        self._watches: set[Watch] = set()
        self._heads = {id(r): orjson.dumps({"kind": r.kind, "apiVersion": r.api_version})[:-1] + b"," for r in RESOURCES}
        namespaces = storage.of(BY_PLACE["", "v1", "namespaces"])
        for name in NAMESPACES:
            if ("", name) not in namespaces.objects:
                self._storage.put(namespaces, ("", name), self._new_namespace({"metadata": {"name": name}}))

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.on_shutdown.append(self._stop_watches)
        return app

    async def _stop_watches(self, _: web.Application) -> None:
        for watch in self._watches:
            watch.stop()

    # ---- routing -------------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            user = self._authorizer.user(request.headers.get("Authorization"))
            return await self._route(request, user)
        except Refused as refused:
            return web.Response(
                status=refused.code, body=refused.payload(), content_type="application/json", headers=refused.headers
            )
        except OSError as error:
            log.error("write_refused", path=request.path, error=str(error))
            failed = Refused(500, "InternalError", f"Internal error occurred: the write cannot be kept: {error.strerror}")
            return web.Response(status=500, body=failed.payload(), content_type="application/json")

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        parts = [p for p in request.path.split("/") if p]
        if parts == ["__faults"]:
            return await self._set_faults(request, user)
        if len(parts) < 2 or parts[0] not in ("api", "apis") or (parts[0] == "apis" and len(parts) < 4):
            return self._discovery(request.path.rstrip("/") or "/", user, parts)
        if parts[0] == "api":
            group, version, rest = "", parts[1], parts[2:]
        else:
            group, version, rest = parts[1], parts[2], parts[3:]
        if not rest:
            return self._discovery(request.path.rstrip("/"), user, parts)
        namespace: str | None = None
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = BY_PLACE.get((group, version, rest[0]))
        if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
            raise _no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if subresource and subresource not in resource.subresources:
            raise _no_such_path()
        verb = _verb(request, name)
        whole = f"{resource.name}/{subresource}" if subresource else resource.name
        self._authorizer.require(user, verb, group, whole, name=name, namespace=namespace or "")
        rule = self._faults.struck(verb, request.path) if self._faults.rules else None
        if rule is not None:
            if rule.fault == "latency":
                await asyncio.sleep(rule.seconds)
            elif rule.fault == "drop":
                if request.transport is not None:
                    request.transport.abort()
                raise asyncio.CancelledError
            else:
                raise refusal(rule)
        return await self._serve(request, verb, resource, namespace, name, subresource)

    async def _serve(
        self, request: web.Request, verb: str, resource: Resource, namespace: str | None, name: str, subresource: str
    ) -> web.StreamResponse:
        collection, key = self._storage.of(resource), (namespace or "", name)
        if verb == "list":
            return self._list(request, collection, namespace)
        if verb == "watch":
            return await self._watch(request, collection, namespace, name)
        if verb == "get":
            return self._answer(resource, self._find(collection, key))
        dry = "dryRun" in request.query
        if verb == "create":
            body = await self._body(request, resource if not subresource else None)
            if subresource == "binding":
                return self._bind(collection, key, body, dry)
            if subresource == "eviction":
                return self._evict(collection, key, body, dry)
            if subresource or name:
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return self._create(collection, namespace, body, dry)
        if verb == "update":
            body = await self._body(request, resource)
            return self._update(collection, key, subresource, lambda old: body, dry, name)
        if verb == "patch":
            change = await self._patch(request)
            return self._update(collection, key, subresource, change, dry, name)
        options = await self._delete_options(request)
        if verb == "deletecollection":
            return self._delete_all(request, collection, namespace, options, dry)
        return self._delete(collection, key, options, dry)

    # ---- reading -------------------------------------------------------------------------------------------------------

    def _find(self, collection: Collection, key: Key) -> Stored:
        stored = collection.objects.get(key)
        if stored is None:
            raise not_found(collection.resource.name, key[1], collection.resource.group)
        return stored

    def _list(self, request: web.Request, collection: Collection, namespace: str | None) -> web.Response:
        query = request.query
        match = matcher(collection.resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = [s for s in collection.in_order(namespace) if match is None or match(s.item)]
        version = self._storage.version
        metadata: Json = {}
        if query.get("continue"):
            version, start = _from_token(query["continue"])
            if version < collection.oldest - 1 and version < self._storage.version:
                raise expired(str(version), collection.oldest)
            found = [s for s in found if [s.item["metadata"].get("namespace", ""), s.item["metadata"]["name"]] >= start]
        limit = int(query["limit"]) if query.get("limit", "").isdigit() else 0
        if limit and len(found) > limit:
            following = found[limit].item["metadata"]
            metadata["continue"] = _to_token(version, [following.get("namespace", ""), following["name"]])
            if match is None:
                metadata["remainingItemCount"] = len(found) - limit
            found = found[:limit]
        head = {
            "kind": f"{collection.resource.kind}List",
            "apiVersion": collection.resource.api_version,
            "metadata": {"resourceVersion": str(version), **metadata},
        }
        body = orjson.dumps(head)[:-1] + b',"items":[' + b",".join(s.payload for s in found) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.Request, collection: Collection, namespace: str | None, name: str) -> web.StreamResponse:
        query = request.query
        fields = query.get("fieldSelector", "")
        if name:
            fields = f"metadata.name={name}" + (f",{fields}" if fields else "")
        watch = Watch(self._storage, collection, namespace, matcher(collection.resource, query.get("labelSelector", ""), fields))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watches.add(watch)
        timeout_s = float(query["timeoutSeconds"]) if query.get("timeoutSeconds", "").isdigit() else 1800.0
        try:
            async for chunk in watch.events(
                version=query.get("resourceVersion", ""),
                timeout_s=timeout_s,
                bookmarks=query.get("allowWatchBookmarks", "") in ("1", "true"),
                initial=query.get("sendInitialEvents", "") == "true",
            ):
                await response.write(chunk)
        except ConnectionError:
            return response
        finally:
            self._watches.discard(watch)
        if watch.cut and request.transport is not None and not request.transport.is_closing():
            request.transport.abort()
            return response
        await response.write_eof()
        return response

    # ---- writing -------------------------------------------------------------------------------------------------------

    def _create(self, collection: Collection, namespace: str | None, body: Json, dry: bool) -> web.Response:
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
            body.setdefault("spec", {})
            pods.canonical_resources(body)
            pods.set_defaults(body)
            pods.validate_new(body)
            metadata["generation"] = 1
        else:
            causes = Causes(resource.kind, name, resource.group)
            pods.check_name(causes, name)
            causes.raise_if_any()
        if resource.kind == "Node":
            self._new_node(body)
        if resource.kind == "Namespace":
            body = self._new_namespace(body)
            metadata = body["metadata"]
        if resource.kind == "PodDisruptionBudget":
            body.setdefault("status", {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0})
            metadata["generation"] = 1
        key = (metadata.get("namespace", ""), name)
        if key in collection.objects:
            if not resource.durable:
                return self._answer(resource, self._storage.put(collection, key, body), 201)
            raise already_exists(resource.name, name, resource.group)
        metadata.pop("resourceVersion", None)
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = _now()
        if dry:
            return self._answer(resource, Stored(body, 0, orjson.dumps(body)), 201)
        return self._answer(resource, self._storage.put(collection, key, body), 201)

    def _update(
        self, collection: Collection, key: Key, subresource: str, change: Callable[[Json], Json], dry: bool, name: str
    ) -> web.Response:
        resource = collection.resource
        if not resource.durable and key not in collection.objects:
            fresh = change({})
            fresh.setdefault("metadata", {})["name"] = key[1]
            return self._answer(resource, self._storage.put(collection, key, fresh))
        stored = self._find(collection, key)
        old = stored.item
        new = change(old)
        metadata = {**(new.get("metadata") or {})}
        if metadata.get("name", key[1]) != key[1]:
            raise bad_request(f"the name of the object ({metadata.get('name')}) does not match the name on the URL ({key[1]})")
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
        if result is old:
            return self._answer(resource, stored)
        if dry:
            return self._answer(resource, Stored(result, stored.version, orjson.dumps(result)))
        gone = result["metadata"].get("deletionTimestamp") and not result["metadata"].get("finalizers")
        if gone and old["metadata"].get("finalizers"):
            return self._answer(resource, self._storage.remove(collection, key))
        return self._answer(resource, self._storage.put(collection, key, result))

    def _merged(self, resource: Resource, old: Json, new: Json, metadata: Json, subresource: str) -> Json:
        """The object after an update through the object itself or one of its subresources; `old` itself when nothing changed."""
        kept = old["metadata"]
        if subresource == "status":
            status = new.get("status") or {}
            return old if status == old.get("status") else {**old, "metadata": dict(kept), "status": status}
        if subresource == "resize":
            pods.canonical_resources(new := _own_containers(new))
            spec = pods.resized(old, new, self._allocatable(old))
            if spec == old["spec"]:
                return old
            return {**old, "metadata": {**kept, "generation": kept.get("generation", 1) + 1}, "spec": spec}
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
        if "status" in old:
            result["status"] = old["status"]
        elif resource.subresources and "status" in resource.subresources:
            result.pop("status", None)
        if resource.kind == "Pod":
            pods.canonical_resources(result := {**result, "spec": _own_containers(result)["spec"]})
            pods.validate_update(old, result)
        if result == old:
            return old
        if "generation" in kept and result.get("spec") != old.get("spec"):
            metadata["generation"] = kept["generation"] + 1
        return result

    def _bind(self, collection: Collection, key: Key, body: Json, dry: bool) -> web.Response:
        asked = (body.get("metadata") or {}).get("name")
        if asked and asked != key[1]:
            raise bad_request(f"name in URL does not match name in Binding object: {key[1]} vs {asked}")
        target = body.get("target") or {}
        if not target.get("name"):
            # A real server answers 500 here, without a reason.
            raise Refused(500, "", 'Binding "" is invalid: target.name: Required value')
        stored = self._find(collection, key)
        pod, metadata = stored.item, stored.item["metadata"]
        uid = (body.get("metadata") or {}).get("uid")
        if uid and uid != metadata["uid"]:
            raise conflict(
                "pods/binding",
                key[1],
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {metadata['uid']}",
            )
        if metadata.get("deletionTimestamp"):
            raise conflict("pods/binding", key[1], f"pod {key[1]} is being deleted, cannot be assigned to a host")
        if pod["spec"].get("nodeName"):
            raise conflict("pods/binding", key[1], f'pod {key[1]} is already assigned to node "{pod["spec"]["nodeName"]}"')
        if pod["spec"].get("schedulingGates"):
            raise conflict("pods/binding", key[1], f"pod {key[1]} has non-empty .spec.schedulingGates")
        if not dry:
            condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": _now()}
            others = [c for c in pod["status"].get("conditions") or [] if c["type"] != "PodScheduled"]
            bound = {
                **pod,
                "metadata": dict(metadata),
                "spec": {**pod["spec"], "nodeName": target["name"]},
                "status": {**pod["status"], "conditions": [condition, *others]},
            }
            self._storage.put(collection, key, bound)
        return web.Response(status=201, body=success(code=201), content_type="application/json")

    def _evict(self, collection: Collection, key: Key, body: Json, dry: bool) -> web.Response:
        stored = self._find(collection, key)
        pod = stored.item
        asked = (body.get("metadata") or {}).get("name")
        if asked and asked != key[1]:
            raise bad_request(f"name in URL does not match name in Eviction object: {key[1]} vs {asked}")
        budgets = self._storage.of(BY_PLACE["policy", "v1", "poddisruptionbudgets"])
        done = pod["status"].get("phase") in ("Pending", "Succeeded", "Failed") or pod["metadata"].get("deletionTimestamp")
        if not done:
            labels = pod["metadata"].get("labels") or {}
            for found in list(budgets.in_order(key[0])):
                if not labels_match((found.item.get("spec") or {}).get("selector"), labels):
                    continue
                status = found.item.get("status") or {}
                name = found.item["metadata"]["name"]
                if status.get("disruptionsAllowed", 0) <= 0:
                    healthy, needed = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
                    raise Refused(
                        429,
                        "TooManyRequests",
                        "Cannot evict pod as it would violate the pod's disruption budget.",
                        details={
                            "causes": [
                                {
                                    "reason": "DisruptionBudget",
                                    "message": f"The disruption budget {name} needs {needed} healthy pods and has {healthy} currently",
                                }
                            ]
                        },
                    )
                if not dry:
                    spent = {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1}
                    spent["disruptedPods"] = {**(status.get("disruptedPods") or {}), key[1]: _now()}
                    self._storage.put(
                        budgets, (key[0], name), {**found.item, "metadata": dict(found.item["metadata"]), "status": spent}
                    )
            if not dry:
                condition = {
                    "type": "DisruptionTarget",
                    "status": "True",
                    "lastProbeTime": None,
                    "lastTransitionTime": _now(),
                    "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting",
                }
                conditions = [*(pod["status"].get("conditions") or []), condition]
                marked = {**pod, "metadata": dict(pod["metadata"]), "status": {**pod["status"], "conditions": conditions}}
                self._storage.put(collection, key, marked)
        self._delete(collection, key, body.get("deleteOptions") or {}, dry)
        return web.Response(status=201, body=success(code=201), content_type="application/json")

    def _delete(self, collection: Collection, key: Key, options: Json, dry: bool) -> web.Response:
        resource, stored = collection.resource, self._find(collection, key)
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
            return self._answer(resource, stored if dry else self._delete_pod(collection, key, stored, options))
        if not dry:
            if metadata.get("finalizers"):
                marked = {**stored.item, "metadata": {**metadata, "deletionTimestamp": metadata.get("deletionTimestamp") or _now()}}
                return self._answer(resource, self._storage.put(collection, key, marked))
            self._storage.remove(collection, key)
            if resource.kind == "Namespace":
                self._empty_namespace(key[1])
        details = {"name": key[1], "kind": resource.name, "uid": metadata.get("uid", "")}
        if resource.group:
            details["group"] = resource.group
        return web.Response(body=success(details=details), content_type="application/json")

    def _delete_pod(self, collection: Collection, key: Key, stored: Stored, options: Json) -> Stored:
        """Graceful deletion: a bound pod that runs stays, marked, until its kubelet lets go with grace 0."""
        pod, metadata = stored.item, stored.item["metadata"]
        grace_s = options.get("gracePeriodSeconds")
        if grace_s is None:
            grace_s = pod["spec"].get("terminationGracePeriodSeconds", 30)
        if not pod["spec"].get("nodeName") or pod["status"].get("phase") in ("Succeeded", "Failed"):
            grace_s = 0
        earlier = metadata.get("deletionGracePeriodSeconds")
        if earlier is not None and grace_s >= earlier and grace_s > 0:
            return stored
        if earlier is None or grace_s > 0:
            marked = {**metadata, "deletionTimestamp": _now(grace_s), "deletionGracePeriodSeconds": grace_s}
            marked["generation"] = metadata.get("generation", 1) + 1
            stored = self._storage.put(collection, key, {**pod, "metadata": marked})
        if grace_s > 0 or metadata.get("finalizers"):
            return stored
        self._storage.remove(collection, key)
        return stored

    def _delete_all(
        self, request: web.Request, collection: Collection, namespace: str | None, options: Json, dry: bool
    ) -> web.Response:
        query = request.query
        match = matcher(collection.resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        found = [s for s in collection.in_order(namespace) if match is None or match(s.item)]
        for stored in found:
            metadata = stored.item["metadata"]
            self._delete(collection, (metadata.get("namespace", ""), metadata["name"]), options, dry)
        head = {
            "kind": f"{collection.resource.kind}List",
            "apiVersion": collection.resource.api_version,
            "metadata": {"resourceVersion": str(self._storage.version)},
        }
        body = orjson.dumps(head)[:-1] + b',"items":[' + b",".join(s.payload for s in found) + b"]}"
        return web.Response(body=body, content_type="application/json")

    # ---- pieces --------------------------------------------------------------------------------------------------------

    def _answer(self, resource: Resource, stored: Stored, status: int = 200) -> web.Response:
        return web.Response(status=status, body=self._heads[id(resource)] + stored.payload[1:], content_type="application/json")

    def _require_namespace(self, namespace: str | None, metadata: Json) -> None:
        if not namespace:
            raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if ("", namespace) not in self._storage.of(BY_PLACE["", "v1", "namespaces"]).objects:
            raise not_found("namespaces", namespace)

    def _empty_namespace(self, namespace: str) -> None:
        for collection in self._storage.collections.values():
            if collection.resource.namespaced:
                for key in [k for k in collection.objects if k[0] == namespace]:
                    self._storage.remove(collection, key)

    def _allocatable(self, pod: Json) -> Json | None:
        node = self._storage.of(BY_PLACE["", "v1", "nodes"]).objects.get(("", pod["spec"].get("nodeName") or ""))
        return None if node is None else (node.item.get("status") or {}).get("allocatable")

    @staticmethod
    def _new_node(node: Json) -> None:
        spec = node.setdefault("spec", {})
        taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
        if not any(t.get("key") == taint["key"] for t in spec.get("taints") or []):
            spec["taints"] = [*(spec.get("taints") or []), taint]
        for part in ("capacity", "allocatable"):
            held = node.setdefault("status", {}).get(part)
            if held:
                node["status"][part] = pods.canonical_quantities(held)

    @staticmethod
    def _new_namespace(namespace: Json) -> Json:
        metadata = namespace["metadata"]
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", _now())
        metadata["labels"] = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
        return {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}

    @staticmethod
    async def _body(request: web.Request, resource: Resource | None) -> Json:
        kind = request.content_type
        if kind != "application/json":
            raise Refused(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: application/json, "
                "application/yaml, application/vnd.kubernetes.protobuf",
            )
        try:
            body = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        if not isinstance(body, dict):
            raise bad_request("couldn't get version/kind; json parse error: the body is no object")
        if resource is not None:
            if (body.get("kind") or resource.kind) != resource.kind or (
                body.get("apiVersion") or resource.api_version
            ) != resource.api_version:
                raise bad_request(
                    f'{body.get("kind")} in version "{resource.version}" cannot be handled as a {resource.kind}: the object provided is '
                    f"unrecognized (must be of type {resource.kind}): got {body.get('apiVersion')}, Kind={body.get('kind')}"
                )
            if not isinstance(body.setdefault("metadata", {}), dict):
                raise bad_request("metadata is no object")
            body.pop("kind", None)
            body.pop("apiVersion", None)
        return body

    @staticmethod
    async def _patch(request: web.Request) -> Callable[[Json], Json]:
        apply = PATCHES.get(request.content_type)
        if apply is None:
            raise Refused(
                415,
                "UnsupportedMediaType",
                "the body of the request was in an unknown format - accepted media types include: " + ", ".join(PATCHES),
            )
        try:
            patch = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise bad_request(f"error decoding patch: {error}") from error
        if isinstance(patch, list) != (apply is json_patch):
            raise bad_request("cannot unmarshal the patch: it has another form than its media type says")

        def change(old: Json) -> Json:
            new: Json = apply(old, patch)
            # The version in `old` is no demand of the caller's; one in the patch is.
            asked = (patch.get("metadata") or {}).get("resourceVersion") if isinstance(patch, dict) else None
            if not asked and "metadata" in new:
                new = {**new, "metadata": {k: v for k, v in new["metadata"].items() if k != "resourceVersion"}}
            return new

        return change

    async def _delete_options(self, request: web.Request) -> Json:
        raw = await request.read()
        options: Json = {}
        if raw.strip():
            try:
                options = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise bad_request(f"couldn't get version/kind; json parse error: {error}") from error
        if request.query.get("gracePeriodSeconds", "").isdigit():
            options["gracePeriodSeconds"] = int(request.query["gracePeriodSeconds"])
        return options

    async def _set_faults(self, request: web.Request, user: User) -> web.Response:
        if not user.is_master:
            raise Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot set faults')
        if request.method == "PUT":
            self._faults.replace(orjson.loads(await request.read()))
            if any(rule.fault == "cut-watches" for rule in self._faults.rules):
                await self._stop_watches(request.app)
        elif request.method == "DELETE":
            self._faults.replace([])
        return web.Response(body=orjson.dumps([r.fault for r in self._faults.rules]), content_type="application/json")

    def _discovery(self, path: str, user: User, parts: list[str]) -> web.Response:
        self._authorizer.require_path(user, path)
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        found: Json | None = None
        if path == "/version":
            found = VERSION
        elif path == "/api":
            found = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        elif path == "/apis":
            found = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in GROUPS]}
        elif len(parts) == 2 and parts[0] == "apis" and parts[1] in GROUPS:
            found = {"kind": "APIGroup", "apiVersion": "v1", **_group(parts[1])}
        elif parts[:1] == ["api"] and parts[1:] == ["v1"]:
            found = _resource_list("", "v1")
        elif len(parts) == 3 and parts[0] == "apis" and GROUPS.get(parts[1]) == parts[2]:
            found = _resource_list(parts[1], parts[2])
        if found is None:
            raise _no_such_path()
        return web.Response(body=orjson.dumps(found), content_type="application/json")


def _verb(request: web.Request, name: str) -> str:
    method = request.method
    if method in ("GET", "HEAD"):
        watching = request.query.get("watch", "") in ("1", "true")
        return "watch" if watching else "get" if name else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete" if name else "deletecollection"}
    if method not in verbs or (method in ("PUT", "PATCH") and not name):
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return verbs[method]


def _own_containers(item: Json) -> Json:
    """The item with containers and resources that may be changed without touching a stored version."""
    spec = item.get("spec") or {}
    copied = [
        {**c, "resources": {k: dict(v) if isinstance(v, dict) else v for k, v in (c.get("resources") or {}).items()}}
        for c in spec.get("containers") or []
    ]
    return {**item, "spec": {**spec, "containers": copied}}


def _no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", details={})


def _group(name: str) -> Json:
    version = {"groupVersion": f"{name}/{GROUPS[name]}", "version": GROUPS[name]}
    return {"name": name, "versions": [version], "preferredVersion": version}


def _resource_list(group: str, version: str) -> Json:
    listed = []
    for r in RESOURCES:
        if r.group != group:
            continue
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
        own = {"name": r.name, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": verbs}
        listed.append(own | ({"shortNames": list(r.short)} if r.short else {}))
        for sub in r.subresources:
            kind = {"binding": "Binding", "eviction": "Eviction"}.get(sub, r.kind)
            verbs = ["create"] if sub in ("binding", "eviction") else ["get", "patch", "update"]
            listed.append({"name": f"{r.name}/{sub}", "singularName": "", "namespaced": r.namespaced, "kind": kind, "verbs": verbs})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


def _to_token(version: int, start: list[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start})).decode().rstrip("=")


def _from_token(token: str) -> tuple[int, list[str]]:
    try:
        found = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["rv"]), list(found["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request("continue key is not valid") from error


def _now(after_s: float = 0) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=after_s)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
