"""The routes of the console, and what holds for all of them: who may ask, from where, and what a browser may do with the answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web

import tango
from tango.console.documents import cluster_document, fleet_document, lately_document
from tango.console.live import Subject, Told, encoded
from tango.console.pages import PAGES, Page, login_html, page_html
from tango.console.reads import Does, Reads
from tango.console.session import COOKIE, LASTS_S, ConsoleDoor, Visitor
from tango.domain.identity import RequestKey
from tango.errors import StoreUnavailable, TangoError, UsageError

log = structlog.get_logger(__name__)

STATIC = Path(__file__).parent / "static"
COLOURS = Path(tango.__file__).parent / "report" / "templates" / "colours.css"
"""The colours of reports, so that both look alike."""
LOOK_S = 1.0
"""Seconds between two looks at whatever changes: what people see is this old at the most."""
LATELY_S = 5.0
"""Seconds between two looks at the last minutes, which cost ten times a look at now."""
MOST_STREAMS = 64
"""Pages that may be open at once; each costs a connection and its share of what is written."""
MOST_EVENTS_KEPT = 256
"""Parts of subjects whose last event is kept for others who look at the same."""
THREADS = 4
BODY_BYTES = 16_384
"""Largest body of a login or an action."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing but what this console serves; no script and no style inside of a page."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers then say of our own forms that they come from `null`.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
OPEN_PATHS = ("/login", "/static/", "/healthz")
"""What is answered without a login: the way in, and files that say nothing of the stack."""

_NUMBER = re.compile(r"\d{1,9}", re.ASCII)

VISITOR: web.RequestKey[Visitor | None] = web.RequestKey("visitor", Visitor)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Watching:
    """One subject, as one page sees it."""

    subject: Subject
    shown: Callable[[Any], Any] = _as_it_is
    """What the page gets of the subject's value."""
    part: str = ""
    """Which part of it, where pages get different ones."""


class Console:
    """The application. Its streams end when it is closed."""

    def __init__(self, reads: Reads, does: Does, door: ConsoleDoor, *, hosts: Iterable[str]) -> None:
        """`hosts` are the names by which browsers may call it: a page of elsewhere cannot reach it under a name of its own."""
        self._reads, self._does, self._door, self._hosts = reads, does, door, frozenset(hosts)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="console")
        self._closing = asyncio.Event()
        self._streams = 0
        self._events: dict[tuple[str, str], tuple[int, bytes]] = {}
        view = reads.view
        self._subjects = {
            "now": self._subject(view.now, LOOK_S),
            "lately": self._subject(view.lately, LATELY_S),
            "processes": self._subject(lambda: list(reads.processes()), LOOK_S),
            "runs": self._subject(lambda: list(reads.runs()), 2 * LOOK_S),
            "jobs": self._subject(lambda: list(reads.jobs()), 2 * LOOK_S),
            "checkpoints": self._subject(reads.checkpoints, LATELY_S),
            "actions": self._subject(lambda: list(reads.actions()), 2 * LOOK_S),
        }

    def application(self) -> web.Application:
        """All routes, with what guards them."""
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/login", self._login_page)
        app.router.add_post("/login", self._login)
        app.router.add_post("/logout", self._logout)
        app.router.add_get("/stream", self._stream)
        app.router.add_get("/api/whoami", self._whoami)
        app.router.add_get("/api/runs/{run}", self._run)
        app.router.add_get("/api/compare/{runs}", self._compared)
        app.router.add_get("/api/requests/{key}", self._request)
        app.router.add_get("/api/jobs/{key}", self._job)
        app.router.add_post("/api/runs/{run}/cancel", self._cancel_run)
        app.router.add_post("/api/jobs/{key}/cancel", self._cancel_job)
        app.router.add_post("/api/checkpoints/{digest}/promote", self._promote)
        app.router.add_get("/static/colours.css", self._colours)
        app.router.add_static("/static/", STATIC)
        for page in PAGES:
            app.router.add_get(page.path, self._page(page))
        app.on_response_prepare.append(_with_headers)
        app.on_shutdown.append(self._close)
        return app

    async def _close(self, _app: web.Application) -> None:
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _subject(self, read: Callable[[], Any], every_s: float) -> Subject:
        return Subject(read, every_s=every_s, within=self._threads)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse other names, other origins and whoever has not logged in; errors of ours get an answer."""
        if urlsplit(f"//{request.host}").hostname not in self._hosts:
            raise web.HTTPMisdirectedRequest(text=f"this console does not go by the name {request.host!r}\n")
        if request.method not in ("GET", "HEAD") and not _is_of_here(request):
            raise web.HTTPForbidden(text="this comes from a page of another site\n")
        visitor = self._visitor(request)
        if visitor is None and not request.path.startswith(OPEN_PATHS):
            if request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
                raise web.HTTPSeeOther("/login")
            raise web.HTTPUnauthorized(text="log in at /login, or send the header Authorization: Bearer TOKEN\n")
        request[VISITOR] = visitor
        try:
            return await handler(request)
        except _Unreadable as error:
            return _json({"error": str(error)}, status=400)
        except UsageError as error:
            return _json({"error": str(error)}, status=404)
        except StoreUnavailable as error:
            return _json({"error": str(error)}, status=503)
        except TangoError as error:
            return _json({"error": str(error)}, status=409)
        except web.HTTPException:
            raise
        except Exception as error:
            if not request.path.startswith("/api/"):
                raise
            # A page can tell what is JSON, and waits for ever for what is not.
            log.exception("not_answered", path=request.path)
            return _json({"error": f"a defect in Tango: {error}"}, status=500)

    def _visitor(self, request: web.Request) -> Visitor | None:
        kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
        return self._door.visitor(cookie=request.cookies.get(COOKIE, ""), bearer=bearer if kind.lower() == "bearer" else "")

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="OK\n")

    async def _whoami(self, request: web.Request) -> web.Response:
        return _json({"name": _name(request)})

    async def _colours(self, _request: web.Request) -> web.FileResponse:
        return web.FileResponse(COLOURS)

    async def _login_page(self, request: web.Request) -> web.Response:
        if request[VISITOR] is not None:
            raise web.HTTPSeeOther("/")
        return web.Response(text=login_html(), content_type="text/html")

    async def _login(self, request: web.Request) -> web.Response:
        form = await request.post()
        if not self._door.is_token(str(form.get("token", ""))):
            return web.Response(text=login_html(wrong=True), content_type="text/html", status=401)
        answer = web.Response(status=303, headers={"Location": "/"})
        answer.set_cookie(
            COOKIE,
            self._door.cookie(str(form.get("name", ""))),
            httponly=True,
            samesite="Strict",
            secure=request.secure,
            max_age=int(LASTS_S),
        )
        return answer

    async def _logout(self, _request: web.Request) -> web.Response:
        answer = web.Response(status=303, headers={"Location": "/login"})
        answer.del_cookie(COOKIE)
        return answer

    def _page(self, page: Page) -> Handler:
        async def show(request: web.Request) -> web.Response:
            html = page_html(page, request.match_info, visitor=_name(request))
            return web.Response(text=html, content_type="text/html")

        return show

    async def _run(self, request: web.Request) -> web.Response:
        return _json(await self._blocking(self._reads.run, _number(request.match_info["run"])))

    async def _compared(self, request: web.Request) -> web.Response:
        run_ids = [_number(part) for part in request.match_info["runs"].split(",")]
        return _json(await self._blocking(self._reads.compared, run_ids))

    async def _request(self, request: web.Request) -> web.Response:
        return _json(await self._blocking(self._reads.request, _key(request.match_info["key"])))

    async def _job(self, request: web.Request) -> web.Response:
        return _json(await self._blocking(self._reads.job, _key(request.match_info["key"])))

    async def _cancel_run(self, request: web.Request) -> web.Response:
        run_id = _number(request.match_info["run"])
        return await self._done(request, "cancel run", str(run_id), lambda _: self._does.cancel_run(run_id))

    async def _cancel_job(self, request: web.Request) -> web.Response:
        key = _key(request.match_info["key"])
        return await self._done(request, "cancel job", str(key), lambda _: self._does.cancel_job(key))

    async def _promote(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise _Unreadable(f"found {digest!r}, expected the digest of a checkpoint: 64 digits from 0 to f")
        return await self._done(request, "promote checkpoint", digest, lambda actor: self._does.promote(digest, actor))

    async def _done(self, request: web.Request, action: str, subject: str, do: Callable[[str], str]) -> web.Response:
        """Do it and keep who did it, also where it was refused."""
        actor = _name(request)

        def act() -> str:
            try:
                outcome = do(actor)
            except TangoError as error:
                self._does.record(actor, action, subject, f"refused: {error}")
                raise
            self._does.record(actor, action, subject, outcome)
            return outcome

        return _json({"outcome": await self._blocking(act)})

    async def _blocking(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: one for each subject that the page asks for, whenever it has changed."""
        asked = self._watched(request.query)
        if self._streams >= MOST_STREAMS:
            raise web.HTTPServiceUnavailable(text=f"{MOST_STREAMS} pages are open already; close some\n")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        self._streams += 1
        try:
            await response.prepare(request)
            await self._tell(response, asked, request)
        except ConnectionResetError:
            pass
        finally:
            self._streams -= 1
        return response

    async def _tell(self, response: web.StreamResponse, asked: Mapping[str, Watching], request: web.Request) -> None:
        told: dict[str, int] = {}
        while not self._closing.is_set() and self._visitor(request) is not None:
            latest = await asyncio.gather(*(watching.subject.latest() for watching in asked.values()))
            for (name, watching), found in zip(asked.items(), latest, strict=True):
                if found.version != told.get(name, 0):
                    told[name] = found.version
                    await response.write(self._event(name, watching, found))
            await response.write(b": on\n\n")  # by which both sides notice a connection that is gone
            try:
                await asyncio.wait_for(self._closing.wait(), LOOK_S)
            except TimeoutError:
                continue

    def _event(self, name: str, watching: Watching, told: Told) -> bytes:
        """Made once for all pages that get the same."""
        key = (name, watching.part)
        version, event = self._events.get(key, (0, b""))
        if version != told.version:
            body = {"trouble": told.trouble, "value": None if told.value is None else watching.shown(told.value)}
            event = b"event: " + name.encode() + b"\ndata: " + encoded(body) + b"\n\n"
            if len(self._events) >= MOST_EVENTS_KEPT:
                self._events.clear()
            self._events[key] = (told.version, event)
        return event

    def _watched(self, query: Mapping[str, str]) -> dict[str, Watching]:
        """By the name of the event. Raises: _Unreadable for a subject that there is not."""
        found = {}
        for name in filter(None, query.get("of", "").split(",")):
            if name == "fleet":
                found[name] = Watching(subject=self._subjects["now"], shown=fleet_document)
            elif name == "cluster":
                cluster = query.get("cluster", "")
                shown = partial(cluster_document, cluster=cluster)
                found[name] = Watching(subject=self._subjects["now"], shown=shown, part=cluster)
            elif name == "lately":
                found[name] = Watching(subject=self._subjects["lately"], shown=lately_document)
            elif name in self._subjects and name != "now":
                found[name] = Watching(subject=self._subjects[name])
            else:
                raise _Unreadable(
                    f"there is no subject {name!r}; there are {', '.join(sorted({'fleet', 'cluster', *self._subjects} - {'now'}))}"
                )
        return found


def _is_of_here(request: web.Request) -> bool:
    """Whether a browser says that the page which sends this is one of ours; what is no browser says nothing, and has a token."""
    origin = request.headers.get("Origin")
    if origin is not None:
        return urlsplit(origin).netloc == request.host
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def _name(request: web.Request) -> str:
    """Of whoever has logged in; where that is asked, the guard has let nobody else through."""
    visitor = request[VISITOR]
    assert visitor is not None
    return visitor.name


class _Unreadable(UsageError):
    """A path that no answer could be for, whatever there is."""


def _number(text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise _Unreadable(f"found {text!r}, expected the number of a run: one to nine digits, as `tango run list` has it")
    return int(text)


def _key(text: str) -> RequestKey:
    try:
        return RequestKey.parsed(text)
    except UsageError as error:
        raise _Unreadable(str(error)) from error


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=encoded(value), content_type="application/json", status=status)


async def _with_headers(request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith("/static/"):
        response.headers["Cache-Control"] = "no-cache"  # asked for again each time, and not sent again where it is the same
