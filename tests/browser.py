"""Chromium without a window, told what to do by its DevTools protocol: pages are opened, looked into, and taken as pictures."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--remote-debugging-port=0",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
)
WITHIN_S = 300.0
"""Seconds that a browser may take for one thing: on a machine that has much else to do it took forty for a page."""
Parameters = Mapping[str, Any]


class Page:
    """One page of the browser."""

    def __init__(self, call: Callable[..., Any], session: str, listening: asyncio.Task[None]) -> None:
        self._call, self._session = call, session
        self._listening = listening  # a task that nobody refers to may be collected while it runs
        self.complaints: list[str] = []
        """What the page's console was told of errors: refused by a policy, thrown, not found."""

    async def tell(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A call of the protocol; gives its result. Raises: AssertionError for one that is refused."""
        found: dict[str, Any] = await self._call(method, parameters, self._session)
        return found

    async def open(
        self, url: str, *, headers: Parameters | None = None, width: int = 1280, height: int = 900, dark: bool = False
    ) -> None:
        """Go to an address; what comes later is waited for by `until`."""
        await self.tell("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.tell("Emulation.setEmulatedMedia", features=[scheme])
        await self.tell("Network.setExtraHTTPHeaders", headers=dict(headers or {}))
        await self.tell("Page.navigate", url=url)

    async def value(self, script: str) -> Any:
        """What an expression gives, promises awaited. Raises: AssertionError where it throws."""
        found = await self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, script: str, *, within_s: float = WITHIN_S) -> Any:
        """What an expression gives once it gives something true."""
        deadline = asyncio.get_running_loop().time() + within_s
        while True:
            with contextlib.suppress(AssertionError):  # between two pages there is nothing to ask
                if found := await self.value(script):
                    return found
            assert asyncio.get_running_loop().time() < deadline, f"not within {within_s:g} s: {script}; {self.complaints}"
            await asyncio.sleep(0.1)

    async def picture(self, path: Path, *, whole: bool = True) -> None:
        """A PNG of the page, all of it or what the window shows."""
        found = await self.tell("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Page]:
    """A page of a browser of its own, whose profile is in the folder; both end with the block."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *OPTIONS,
        f"--user-data-dir={folder / 'profile'}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with aiohttp.ClientSession() as session:
            assert process.stderr is not None
            address = ""
            while not address:
                line = (await asyncio.wait_for(process.stderr.readline(), WITHIN_S)).decode(errors="replace")
                assert line, "the browser ended"
                address = found[1] if (found := re.search(r"listening on (ws://\S+)", line)) else ""
            drained = asyncio.create_task(process.stderr.read())
            async with session.ws_connect(address, max_msg_size=0) as socket:
                yield await _page(socket)
            drained.cancel()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _page(socket: aiohttp.ClientWebSocketResponse) -> Page:
    numbers, answers = itertools.count(1), dict[int, asyncio.Future[dict[str, Any]]]()

    async def call(method: str, parameters: Parameters, session: str | None = None) -> dict[str, Any]:
        number = next(numbers)
        answers[number] = asyncio.get_running_loop().create_future()
        await socket.send_json(
            {"id": number, "method": method, "params": dict(parameters)} | ({"sessionId": session} if session else {})
        )
        answer = await asyncio.wait_for(answers[number], WITHIN_S)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    pages: list[Page] = []

    async def listen() -> None:
        async for message in socket:
            said = json.loads(message.data)
            if (waiting := answers.pop(said.get("id", 0), None)) is not None:
                waiting.set_result(said)
            elif pages and said.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                entry = said["params"].get("entry", said["params"])
                if entry.get("level", "error") == "error":
                    pages[0].complaints.append(json.dumps(entry)[:500])

    page_listens = asyncio.create_task(listen())
    target = await call("Target.createTarget", {"url": "about:blank"})
    attached = await call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
    page = Page(call, attached["sessionId"], page_listens)
    pages.append(page)
    for domain in ("Page", "Runtime", "Network", "Log"):
        await page.tell(f"{domain}.enable")
    return page
