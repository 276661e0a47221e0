"""The HTTP server: maps a call to a verb on a resource, as kube-apiserver does, and turns refusals into responses.

One handler routes by path segments; `objects` and `pod_calls` implement the verbs. An object is serialised once for each version, and
responses are joined from these bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web

from tango.emulation.api_server import node_lifecycle
from tango.emulation.api_server.authorization import Authorizer, User
from tango.emulation.api_server.bodies import change_of, delete_options, object_of
from tango.emulation.api_server.discovery import discovered
from tango.emulation.api_server.failures import Refused
from tango.emulation.api_server.faults import Faults, Rule, refusal
from tango.emulation.api_server.forms import whole_number
from tango.emulation.api_server.objects import Objects, require_name
from tango.emulation.api_server.pod_calls import bind, evict
from tango.emulation.api_server.pod_log import send_log
from tango.emulation.api_server.replies import Reply
from tango.emulation.api_server.resources import BY_PLACE, Resource
from tango.emulation.api_server.selectors import matcher
from tango.emulation.api_server.storage import Collection, Storage
from tango.emulation.api_server.watches import BOOKMARK_EVERY_S, Watch, require_watch_options
from tango.emulation.references import KINDS

Json = dict[str, Any]
log = structlog.get_logger()
MAX_BODY = 4 * 2**20
"""Longest request body, bytes; kube-apiserver's own limit is 3 MiB."""


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
        self._faults = Faults()
        if rbac_after_s:
            self._faults.add(Rule("rbac", seconds=rbac_after_s))
        self._watches: set[Watch] = set()

    def application(self) -> web.Application:
        """The aiohttp application to run."""
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.cleanup_ctx.append(self._controllers)
        app.on_shutdown.append(self._stop_watches)
        return app

    async def _controllers(self, _: web.Application) -> AsyncIterator[None]:
        lifecycle = node_lifecycle.started(self._objects)
        yield
        lifecycle.close()

    async def _stop_watches(self, _: web.Application) -> None:
        for watch in self._watches:
            watch.stop()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            user = self._authorizer.user(request.headers.get("Authorization"))
            return await self._route(request, user)
        except Refused as refused:
            return web.Response(
                status=refused.code,
                body=refused.payload(),
                content_type="text/plain" if refused.is_plain else "application/json",
                headers=refused.headers,
            )
        except OSError as error:  # the journal could not take the write, so nothing was changed
            log.error("write_refused", path=request.path, error=str(error))
            failed = Refused(500, "InternalError", f"Internal error occurred: the write cannot be kept: {error.strerror}")
            return web.Response(status=500, body=failed.payload(), content_type="application/json")

    async def _route(self, request: web.Request, user: User) -> web.StreamResponse:
        parts = [p for p in request.path.split("/") if p]
        if parts == ["__faults"]:
            return await self._set_faults(request, user)
        if len(parts) < 2 or parts[0] not in ("api", "apis") or (parts[0] == "apis" and len(parts) < 4):
            return self._discovery(request.path.rstrip("/") or "/", user)
        if parts[0] == "api":
            group, version, rest = "", parts[1], parts[2:]
        else:
            group, version, rest = parts[1], parts[2], parts[3:]
        if not rest:
            return self._discovery(request.path.rstrip("/"), user)
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
        verb = _verb(request, name)
        whole = f"{resource.name}/{subresource}" if subresource else resource.name
        asked = {"resource": whole, "group": group, "name": name, "namespace": namespace or "", "user": user.name}
        early = (
            self._faults.struck(verb, request.path, user.name, early=True, is_master=user.is_master) if self._faults.rules else None
        )
        if early is not None:
            raise refusal(early, verb=verb, **asked)
        self._authorizer.require(user, verb, group, whole, name=name, namespace=namespace or "")
        if resource.name in KINDS and verb == "get":
            pods = (s.item for k, s in self._storage.of(BY_PLACE["", "v1", "pods"]).objects.items() if k[0] == namespace)
            self._authorizer.require_relation(user, resource.name, (namespace or "", name), pods)
        # After the check of permissions: a fault must not hide that a caller may not do what it tries.
        rule = self._faults.struck(verb, request.path, user.name) if self._faults.rules else None
        if rule is not None:
            if rule.fault == "latency":
                await asyncio.sleep(rule.seconds)
            elif rule.fault == "drop":
                if request.transport is not None:
                    request.transport.abort()
                raise asyncio.CancelledError  # ends the handler without a response, which nobody could receive
            else:
                raise refusal(rule, verb=verb, **asked)
        return await self._serve(request, verb, resource, namespace, name, subresource)

    async def _serve(
        self, request: web.Request, verb: str, resource: Resource, namespace: str | None, name: str, subresource: str
    ) -> web.StreamResponse:
        collection = self._storage.of(resource)
        if verb == "watch":
            return await self._watch(request, collection, namespace, name)
        if subresource == "log":
            if verb != "get":
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return await send_log(request, self._pods, self._objects, collection, (namespace or "", name))
        raw = await request.read() if request.body_exists else b""
        reply = self._replied(request, raw, verb, collection, namespace, name, subresource)
        response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
        for text in reply.warnings:  # as RFC 7234, section 5.5, writes them
            response.headers.add("Warning", f'299 - "{text.replace(chr(34), chr(92) + chr(34))}"')
        return response

    def _replied(
        self,
        request: web.Request,
        raw: bytes,
        verb: str,
        collection: Collection,
        namespace: str | None,
        name: str,
        subresource: str,
    ) -> Reply:
        objects, resource, key = self._objects, collection.resource, (namespace or "", name)
        query, dry = request.query, "dryRun" in request.query
        if verb == "list":
            return objects.list(collection, namespace, query)
        if verb == "get":
            return objects.get(collection, key)
        if verb == "create":
            body = object_of(raw, request.content_type, resource if not subresource else None)
            if subresource == "binding":
                return bind(objects, collection, key, body, dry)
            if subresource == "eviction":
                return evict(objects, collection, key, body, dry)
            if subresource or name:
                raise Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
            return objects.create(collection, namespace, body, dry)
        if verb == "update":
            body = object_of(raw, request.content_type, resource)
            require_name(body["metadata"], key)
            return objects.update(collection, key, subresource, lambda old: body, dry, name)
        if verb == "patch":
            return objects.update(collection, key, subresource, change_of(raw, request.content_type), dry, name)
        options = delete_options(raw, query)
        if verb == "deletecollection":
            return objects.delete_all(collection, namespace, query, options, dry)
        return objects.delete(collection, key, options, dry)

    async def _watch(self, request: web.Request, collection: Collection, namespace: str | None, name: str) -> web.StreamResponse:
        query = request.query
        fields = query.get("fieldSelector", "")
        if name:  # a watch of one object is a watch of its collection that selects it, as in Kubernetes
            fields = f"metadata.name={name}" + (f",{fields}" if fields else "")
        require_watch_options(query)
        match = matcher(collection.resource, query.get("labelSelector", ""), fields)
        rule = self._faults.standing("bookmarks")
        every_s = rule.seconds if rule is not None and rule.seconds else BOOKMARK_EVERY_S
        watch = Watch(self._storage, collection, namespace, match, bookmark_every_s=every_s)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._watches.add(watch)
        # The least that kube-apiserver waits before it ends a watch by itself (--min-request-timeout).
        timeout_s = float(whole_number(query, "timeoutSeconds", 1800))
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
        # In the middle, as a broken connection looks to a client; the proper end of a stream would be an ordinary timeout.
        if watch.cut and request.transport is not None and not request.transport.is_closing():
            request.transport.abort()
            return response
        await response.write_eof()
        return response

    async def _set_faults(self, request: web.Request, user: User) -> web.Response:
        if not user.is_master:
            raise Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot set faults')
        if request.method == "PUT":
            self._faults.replace(await request.read())
            if any(rule.fault == "cut-watches" for rule in self._faults.rules):
                await self._stop_watches(request.app)
            if any(rule.fault == "compact" for rule in self._faults.rules):
                self._storage.forget_history()
                for watch in self._watches:
                    watch.expire()
        elif request.method == "DELETE":
            self._faults.clear()
        self._objects.admits_any_resize = self._faults.standing("older-resize") is not None
        return web.Response(body=orjson.dumps([r.fault for r in self._faults.rules]), content_type="application/json")

    def _discovery(self, path: str, user: User) -> web.Response:
        self._authorizer.require_path(user, path)
        if path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        found = discovered(path)
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


def _no_such_path() -> Refused:
    return Refused(404, "NotFound", "the server could not find the requested resource", details={})
