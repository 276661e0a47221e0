"""The documentation can be built as a site: every page has its place, every link and every name that it takes from the code is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does, but for the pages' HTML, which costs most and cannot warn."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "dummy", "docs", str(tmp_path)]
    built = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=110)

    assert (built.returncode, built.stderr.strip()) == (0, "")
