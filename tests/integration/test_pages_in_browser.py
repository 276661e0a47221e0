"""Pages in a real browser: nothing is cut off, nothing reaches beyond its chart, at the width of a desk and of a phone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from tango.analysis.comparison import compare
from tests.fakes.run_records import seeded_run
from tests.unit.report.test_comparison_page import SYSTEMS, page_of, some_cells
from tests.unit.report.test_report_page import page_of as report_of

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
PROBE = """
<script>
addEventListener("load", () => {
  const beyond = [];
  for (const svg of document.querySelectorAll("svg")) {
    const box = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll("text")) {
      const own = text.getBoundingClientRect();
      if (own.width && (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1))
        beyond.push(text.firstChild.textContent.trim());
    }
  }
  const root = document.documentElement;
  const told = document.createElement("output");
  told.id = "probe";
  told.textContent = JSON.stringify(
    {charts: document.querySelectorAll("svg").length, seen: root.clientWidth, needed: root.scrollWidth, beyond});
  document.body.append(told);
});
</script>
"""
"""Measures the page after its layout. It stands in a copy of the page, whose policy against scripts is taken out."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium; Debian's package is `chromium`"),
]


def measured(html: str, folder: Path, width: int) -> dict[str, object]:
    """What the probe found at this width, in CSS pixels."""
    page = folder / "page.html"
    page.write_text(re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", PROBE, html, count=1))
    assert BROWSER is not None
    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        "--virtual-time-budget=2000",
    )
    done = subprocess.run(
        [BROWSER, *options, f"--window-size={width},1200", "--dump-dom", page.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = re.search(r'<output id="probe">(.*?)</output>', done.stdout, re.DOTALL)
    assert told is not None, done.stdout[-2000:]
    found: dict[str, object] = json.loads(unescape(told[1]))
    return found


@pytest.mark.parametrize("width", [1280, 500])
@pytest.mark.parametrize("kind", ["run", "comparison"])
def test_a_page_fits_the_window_and_its_charts_hold_their_words(kind: str, width: int, tmp_path: Path) -> None:
    """No scrolling sideways, and every label lies inside the drawing that it belongs to."""
    html = (
        report_of(seeded_run()) if kind == "run" else page_of(compare(some_cells(SYSTEMS, range(1, 4), ("p3@0.9",)), "k8s-native"))
    )

    found = measured(html, tmp_path, width)

    assert int(str(found["charts"])) >= 5
    assert int(str(found["needed"])) <= int(str(found["seen"]))
    assert found["beyond"] == []
