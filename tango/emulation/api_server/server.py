"""The HTTP server: maps a call to a verb on a resource, as kube-apiserver does, and turns refusals into responses.

One handler routes by path segments; `objects` and `pod_calls` implement the verbs. An object is serialised once for each version, and
responses are joined from these bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from tango.emulation.api_server import node_lifecycle
from tango.emulation.api_server.account_tokens import LEAST_S, USUAL_S
from tango.emulation.api_server.authorization import Authorizer, User, service_account
from tango.emulation.api_server.bodies import change_of, delete_options, object_of
from tango.emulation.api_server.discovery import discovered
from tango.emulation.api_server.failures import Causes, Refused
from tango.emulation.api_server.faults import FaultRule, Faults, refusal
from tango.emulation.api_server.forms import whole_number
from tango.emulation.api_server.http1 import ApiAnswer, ApiCall, Cut, HttpServer, Response, Stream
from tango.emulation.api_server.objects import Objects, require_name
from tango.emulation.api_server.pod_calls import bind, evict
from tango.emulation.api_server.pod_log import log_of
from tango.emulation.api_server.replies import Reply
from tango.emulation.api_server.resources import BY_PLACE, Resource
from tango.emulation.api_server.role_bindings import RoleBindings
from tango.emulation.api_server.selectors import matcher
from tango.emulation.api_server.storage import Collection, Storage
from tango.emulation.api_server.watches import BOOKMARK_EVERY_S, Watch, require_watch_options
from tango.emulation.references import KINDS

Json = dict[str, Any]
log = structlog.get_logger()
MAX_BODY = 4 * 2**20
"""Longest request body, bytes; kube-apiserver's own limit is 3 MiB."""
CLOSED_WITHIN_S = 0.3
"""Seconds that calls under way have to end once the server is told to."""


class ApiServer:
    """The API of one cluster."""

    def __init__(self, storage: Storage, authorizer: Authorizer, *, pods: Path | None = None, rbac_after_s: float = 0.0) -> None:
        """`pods`: the folder in which the virtual kubelet keeps logs of containers; None: it keeps none. `rbac_after_s`: for so long all
        but `system:masters` are forbidden everything, as by a real server that has started and has not read its roles yet.
        """
        self._storage = storage
        self._pods = pods
        self._objects = Objects(storage)
        self._authorizer = authorizer
        authorizer.grants = RoleBindings(storage)
        self._faults = Faults()
        if rbac_after_s:
            self._faults.add(FaultRule("rbac", seconds=rbac_after_s))
        self._watches: set[Watch] = set()

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """Serve meanwhile; gives the port, which is any free one for 0. Raises: OSError where it cannot be listened on."""
        http = HttpServer(self._answered, max_body=MAX_BODY)
        lifecycle = node_lifecycle.started(self._objects)
        try:
            yield await http.listen(host, port)
        finally:
            self._stop_watches()
            await http.close(within_s=CLOSED_WITHIN_S)
            lifecycle.close()

    def _stop_watches(self) -> None:
        for watch in self._watches:
            watch.stop()

    def _answered(self, call: ApiCall) -> Response | Awaitable[Response]:
        try:
            return self._route(call, self._authorizer.user(call.headers.get("authorization")))
        except (Refused, OSError) as error:
            return _refusal(call, error)

    async def _answered_late(
        self, seconds: float, call: ApiCall, verb: str, resource: Resource, namespace: str | None, name: str, subresource: str
    ) -> Response:
        await asyncio.sleep(seconds)
        try:
            return self._serve(call, verb, resource, namespace, name, subresource)
        except (Refused, OSError) as error:
            return _refusal(call, error)

    def _route(self, call: ApiCall, user: User) -> Response | Awaitable[Response]:
        parts = [p for p in call.path.split("/") if p]
        if parts == ["__faults"]:
            return self._set_faults(call, user)
        if len(parts) < 2 or parts[0] not in ("api", "apis") or (parts[0] == "apis" and len(parts) < 4):
            return self._discovery(call.path.rstrip("/") or "/", user)
        if parts[0] == "api":
            group, version, rest = "", parts[1], parts[2:]
        else:
            group, version, rest = parts[1], parts[2], parts[3:]
        if not rest:
            return self._discovery(call.path.rstrip("/"), user)
        namespace: str | None = None
        # /namespaces/NAME/pods is a collection within a namespace, /namespaces/NAME/status a part of the namespace itself.
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        resource = BY_PLACE.get((group, version, rest[0]))
        if resource is None or len(rest) > 3 or (namespace is not None and not resource.namespaced):
            raise _no_such_path()
        name = rest[1] if len(rest) > 1 else ""
        subresource = rest[2] if len(rest) > 2 else ""
        if subresource and subresource not in resource.subresources:
            raise _no_such_path()
        verb = _verb(call, name)
        whole = f"{resource.name}/{subresource}" if subresource else resource.name
        asked = {"resource": whole, "group": group, "name": name, "namespace": namespace or "", "user": user.name}
        early = (
            self._faults.struck(verb, call.path, user.name, early=True, is_master=user.is_master) if self._faults.rules else None
        )
        if early is not None:
            raise refusal(early, verb=verb, **asked)
        self._authorizer.require(user, verb, group, whole, name=name, namespace=namespace or "")
        if resource.name in KINDS and verb == "get":
            pods = (s.item for k, s in self._storage.of(BY_PLACE["", "v1", "pods"]).objects.items() if k[0] == namespace)
            self._authorizer.require_relation(user, resource.name, (namespace or "", name), pods)
        # After the check of permissions: a fault must not hide that a caller may not do what it tries.
        rule = self._faults.struck(verb, call.path, user.name) if self._faults.rules else None
        if rule is not None:
            if rule.fault == "latency":
                return self._answered_late(rule.seconds, call, verb, resource, namespace, name, subresource)
            if rule.fault == "drop":
                raise Cut
            raise refusal(rule, verb=verb, **asked)
        return self._serve(call, verb, resource, namespace, name, subresource)

    def _serve(self, call: ApiCall, verb: str, resource: Resource, namespace: str | None, name: str, subresource: str) -> Response:
        collection = self._storage.of(resource)
        if verb == "watch":
            return self._watch(call, collection, namespace, name)
        if subresource == "log":
            if verb != "get":
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return log_of(call.query, self._pods, self._objects, collection, (namespace or "", name))
        reply = self._replied(call, verb, collection, namespace, name, subresource)
        # As RFC 7234, section 5.5, writes them.
        warnings = tuple(("Warning", f'299 - "{text.replace(chr(34), chr(92) + chr(34))}"') for text in reply.warnings)
        return ApiAnswer(reply.body, reply.status, headers=warnings)

    def _replied(
        self, call: ApiCall, verb: str, collection: Collection, namespace: str | None, name: str, subresource: str
    ) -> Reply:
        objects, resource, key = self._objects, collection.resource, (namespace or "", name)
        query, raw, dry = call.query, call.body, "dryRun" in call.query
        if verb == "list":
            return objects.list(collection, namespace, query)
        if verb == "get":
            return objects.get(collection, key)
        if verb == "create":
            body = object_of(raw, call.content_type, resource if not subresource else None)
            if subresource == "binding":
                return bind(objects, collection, key, body, dry)
            if subresource == "eviction":
                return evict(objects, collection, key, body, dry)
            if subresource == "token":
                return self._token(collection, key, body)
            if subresource or name:
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return objects.create(collection, namespace, body, dry)
        if verb == "update":
            body = object_of(raw, call.content_type, resource)
            require_name(body["metadata"], key)
            return objects.update(collection, key, subresource, lambda old: body, dry, name)
        if verb == "patch":
            return objects.update(collection, key, subresource, change_of(raw, call.content_type), dry, name)
        options = delete_options(raw, query)
        if verb == "deletecollection":
            return objects.delete_all(collection, namespace, query, options, dry)
        return objects.delete(collection, key, options, dry)

    def _token(self, collection: Collection, key: tuple[str, str], body: Json) -> Reply:
        """A token of a service account. Raises: Refused 404 for one that is not there, 422 for a time that is too short."""
        self._objects.get(collection, key)
        tokens = self._authorizer.account_tokens
        if tokens is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        seconds = (body.get("spec") or {}).get("expirationSeconds") or USUAL_S
        if seconds < LEAST_S:
            causes = Causes("TokenRequest", "", "authentication.k8s.io")
            causes.invalid("spec.expirationSeconds", str(seconds), "may not specify a duration less than 10 minutes")
            causes.raise_if_any()
        token, ends_at = tokens.make(service_account(*key), seconds=seconds)
        found = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": key[1], "namespace": key[0]},
            "spec": {"expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": ends_at},
        }
        return Reply(orjson.dumps(found), 201)

    def _watch(self, call: ApiCall, collection: Collection, namespace: str | None, name: str) -> Stream:
        query = call.query
        fields = query.get("fieldSelector", "")
        if name:  # a watch of one object is a watch of its collection that selects it, as in Kubernetes
            fields = f"metadata.name={name}" + (f",{fields}" if fields else "")
        require_watch_options(query)
        match = matcher(collection.resource, query.get("labelSelector", ""), fields)
        rule = self._faults.standing("bookmarks")
        every_s = rule.seconds if rule is not None and rule.seconds else BOOKMARK_EVERY_S
        watch = Watch(self._storage, collection, namespace, match, bookmark_every_s=every_s)
        return Stream(self._watched(watch, query))

    async def _watched(self, watch: Watch, query: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        self._watches.add(watch)
        # The least that kube-apiserver waits before it ends a watch by itself (--min-request-timeout).
        timeout_s = float(whole_number(query, "timeoutSeconds", 1800))
        events = watch.events(
            version=query.get("resourceVersion", ""),
            timeout_s=timeout_s,
            bookmarks=query.get("allowWatchBookmarks", "") in ("1", "true"),
            initial=query.get("sendInitialEvents", "") == "true",
        )
        try:
            async with contextlib.aclosing(events):
                async for chunk in events:
                    yield chunk
        finally:
            self._watches.discard(watch)
        # In the middle, as a broken connection looks to a client; the proper end of a stream would be an ordinary timeout.
        if watch.cut:
            raise Cut

    def _set_faults(self, call: ApiCall, user: User) -> ApiAnswer:
        if not user.is_master:
            raise Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot set faults')
        if call.method == "PUT":
            self._faults.replace(call.body)
            if any(rule.fault == "cut-watches" for rule in self._faults.rules):
                self._stop_watches()
            if any(rule.fault == "compact" for rule in self._faults.rules):
                self._storage.forget_history()
                for watch in self._watches:
                    watch.expire()
        elif call.method == "DELETE":
            self._faults.clear()
        self._objects.admits_any_resize = self._faults.standing("older-resize") is not None
        return ApiAnswer(orjson.dumps([r.fault for r in self._faults.rules]))

    def _discovery(self, path: str, user: User) -> ApiAnswer:
        self._authorizer.require_path(user, path)
        if path in ("/healthz", "/readyz", "/livez"):
            return ApiAnswer(b"ok", content_type="text/plain; charset=utf-8")
        found = discovered(path)
        if found is None:
            raise _no_such_path()
        return ApiAnswer(orjson.dumps(found))


def _refusal(call: ApiCall, error: Refused | OSError) -> ApiAnswer:
    if isinstance(error, Refused):
        kind = "text/plain; charset=utf-8" if error.is_plain else "application/json"
        return ApiAnswer(error.payload(), error.code, kind, tuple(error.headers.items()))
    # The journal could not take the write, so nothing was changed.
    log.error("write_refused", path=call.path, error=str(error))
    failed = Refused(500, "InternalError", f"Internal error occurred: the write cannot be kept: {error.strerror}")
    return ApiAnswer(failed.payload(), 500)


def _verb(call: ApiCall, name: str) -> str:
    method = call.method
    if method in ("GET", "HEAD"):
        watching = call.query.get("watch", "") in ("1", "true")
        return "watch" if watching else "get" if name else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete" if name else "deletecollection"}
    if method not in verbs or (method in ("PUT", "PATCH") and not name):
        raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    return verbs[method]


def _no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", details={})
