"""`python -m tests.console_pictures [FOLDER]`: take pictures of the console over a fleet that is made up; by default those of the docs."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from tango.bootstrap.console import ConsolePlace, serving
from tango.console.session import ConsoleDoor
from tests.browser import Page, opened
from tests.fakes.console_world import made_up

IMAGES = Path(__file__).parent.parent / "docs" / "images"
TOKEN = "a-token-of-24-characters"
DESK = 1280
HEIGHT = 480
"""Of the window; a page that is longer is taken whole."""


class Shot(NamedTuple):
    """One picture."""

    name: str
    path: str


SHOTS = (Shot("console-fleet", "/"), Shot("console-services", "/services"))
"""Those of the docs."""


async def shoot(page: Page, url: str, shot: Shot, folder: Path) -> None:
    """Open the page, wait until it is made, and write the picture."""
    await page.open(url + shot.path, headers={"Authorization": f"Bearer {TOKEN}"}, width=DESK, height=HEIGHT)
    await page.until("document.body && !document.getElementById('main').hasAttribute('aria-busy')")
    await page.until("document.querySelector('h2') !== null")
    await page.picture(folder / f"{shot.name}.png")


async def main(folder: Path) -> None:
    """All pictures."""
    reads, does = made_up()
    with tempfile.TemporaryDirectory() as profile:
        async with serving(ConsolePlace(), ConsoleDoor(TOKEN), reads, does) as port, opened(Path(profile)) as page:
            for shot in SHOTS:
                await shoot(page, f"http://127.0.0.1:{port}", shot, folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES))
