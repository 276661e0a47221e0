"""The console in a real browser: pages are made, fit, tell their figures, need no mouse, and have no serious fault of access."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import axe_core_python
import pytest

from tango.bootstrap.console import ConsolePlace, serving
from tango.console.pages import PAGES
from tango.console.session import ConsoleDoor
from tests.browser import CHROMIUM, Page, opened
from tests.fakes.console_world import NODES, made_up, processes

TOKEN = "a-token-of-24-characters"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MADE = "document.body && !document.getElementById('main').hasAttribute('aria-busy') && document.querySelector('h2') !== null"
PATHS = tuple(
    page.path.format(cluster="c1", run="10", runs="10,9", key="11-250004") if "{" in page.path else page.path for page in PAGES
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; Debian's package is `chromium`"),
]
Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serves a made-up fleet; gives the address."""
    async with AsyncExitStack() as stack:

        async def start(*nodes: int, **changed: Any) -> str:
            reads, does = made_up(nodes or NODES)
            reads = replace(reads, **{name: value for name, value in changed.items() if name != "does"})
            does = replace(does, **changed.get("does", {}))
            port = await stack.enter_async_context(serving(ConsolePlace(), ConsoleDoor(TOKEN), reads, does))
            return f"http://127.0.0.1:{port}"

        yield start


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    """A page of a browser of its own."""
    async with opened(tmp_path) as shown:
        yield shown


@pytest.mark.parametrize("width", [1280, 390])
async def test_every_page_is_made_and_fits_its_window(width: int, serve: Serve, page: Page) -> None:
    """Without an error, without scrolling sideways, on a desk and on a phone."""
    url = await serve()
    for path in PATHS:
        await page.open(url + path, headers=BEARER, width=width)
        await page.until(MADE)
        needed, seen = await page.value("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
        assert needed <= seen, path
    assert page.complaints == []


async def test_figures_on_the_page_are_those_that_were_read(serve: Serve, page: Page) -> None:
    """Nodes of each cluster, and the share in time of each service."""
    url = await serve()
    reads, _ = made_up()
    await page.open(f"{url}/services", headers=BEARER)
    await page.until(MADE)
    shown = await page.value("[...document.querySelectorAll('tbody tr')].map(r => [r.querySelector('th').innerText, r.innerText])")
    rates = {s.service: s.rate for s in reads.view.lately().services if s.service_class == "lc"}
    for service, rate in rates.items():
        assert rate is not None
        percent = f"{int(rate * 1000) / 10:.1f} %" if 0.9 < rate < 1 else f"{rate * 100:.0f} %"
        assert any(name == service and percent in text for name, text in shown), (service, percent)

    await page.open(f"{url}/clusters/c1", headers=BEARER)
    await page.until(MADE)
    assert await page.value("document.querySelectorAll('tbody tr').length") == NODES[0]


async def test_a_process_that_ends_is_told_without_being_asked(serve: Serve, page: Page) -> None:
    """On the fleet's page, wherever one looks, with the next look, which comes once a second."""
    down: list[str] = []
    url = await serve(processes=lambda: processes(*down))
    await page.open(url, headers=BEARER)
    await page.until(MADE)
    assert await page.value("document.body.innerText.includes('not running')") is False

    down.append("replayer")

    await page.until("document.body.innerText.includes('1 process of 15 not running')")


async def test_a_thousand_nodes_are_sums_and_maps_first(serve: Serve, page: Page) -> None:
    """Few elements, whatever the fleet; a cluster's own page has its nodes."""
    url = await serve(*([100] * 10))
    await page.open(url, headers=BEARER)
    await page.until(MADE)

    cards = await page.value("document.querySelectorAll('.card').length")
    elements = await page.value("document.querySelectorAll('*').length")

    assert cards == 10
    assert elements < 1000


async def test_an_address_with_the_token_logs_in_and_forgets_it(serve: Serve, page: Page) -> None:
    """It does not stay in the address, which people copy; the cookie is none of the page's business."""
    url = await serve()
    await page.open(f"{url}/login#{urllib.parse.quote(TOKEN)}")
    await page.until(f"location.pathname === '/' && {MADE}")

    assert await page.value("location.hash + document.cookie") == ""


async def test_a_run_is_cancelled_only_when_asked_twice(serve: Serve, page: Page) -> None:
    """By a button and its dialog, both of which the keyboard reaches; what came of it is read out."""
    cancelled: list[int] = []

    def cancel(run_id: int) -> str:
        cancelled.append(run_id)
        return f"run {run_id} is stopped"

    url = await serve(does={"cancel_run": cancel})
    await page.open(f"{url}/login#{urllib.parse.quote(TOKEN)}")
    await page.until(f"location.pathname === '/' && {MADE}")
    await page.open(f"{url}/runs/12")
    await page.until("document.querySelector('button.danger') !== null")
    await page.value("document.querySelector('button.danger').click()")
    await page.until("document.querySelector('dialog[open]') !== null")
    assert await page.value("document.activeElement.textContent") == "Leave it"
    await page.value("document.activeElement.click()")
    assert cancelled == []
    await page.until("document.querySelector('dialog') === null")
    await page.value("document.querySelector('button.danger').click()")
    await page.value("document.querySelector('dialog button[value=yes]').click()")
    await page.until("document.getElementById('said').textContent.includes('run 12 is stopped')")

    assert cancelled == [12]


@pytest.mark.parametrize("dark", [False, True])
async def test_axe_finds_no_serious_fault(dark: bool, serve: Serve, page: Page) -> None:
    """On every page, light and dark: names, roles, contrast, order of headings."""
    script = (files(axe_core_python) / "axe.min.js").read_text(encoding="utf-8")
    url = await serve()
    found = {}
    for path in PATHS:
        await page.open(url + path, headers=BEARER, dark=dark)
        await page.until(MADE)
        await page.value(script + "; true")
        result = await page.value(
            "axe.run(document).then(r => JSON.stringify(r.violations.map(v => [v.id, v.impact, v.nodes[0].html])))"
        )
        if serious := [fault for fault in json.loads(result) if fault[1] in ("serious", "critical")]:
            found[path] = serious
    assert found == {}
