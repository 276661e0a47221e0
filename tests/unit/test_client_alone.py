"""The client is a distribution of its own, of the same files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import urllib3

import tango

CLIENT = Path(tango.__file__).parent / "client"


def test_it_is_installed_and_works_without_the_rest(tmp_path: Path) -> None:
    """With urllib3 and the standard library; `tango` is then a namespace with nothing but the client in it."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    source = tmp_path / "source"
    subprocess.run(["cp", "-r", str(CLIENT), str(source)], check=True)  # what a build leaves stays out of the tree
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(source)], check=True, timeout=100)
    (tmp_path / "site" / "urllib3").symlink_to(Path(urllib3.__file__).parent)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import tango, tango.client; "
        "print(tango.__file__, sorted(m.partition('.')[0] for m in sys.modules if m in ('torch', 'numba', 'celery', 'aiohttp')), "
        "tango.client.Tango('http://localhost:1', token='t').url)"
    )

    done = subprocess.run([sys.executable, "-S", "-I", "-c", program], capture_output=True, text=True, timeout=60)

    assert done.stdout == "None [] http://localhost:1\n", done.stderr
    found = sorted(p.name for p in (tmp_path / "site" / "tango").iterdir() if p.name != "__pycache__")
    assert found == ["client"]


def test_its_version_is_that_of_the_application() -> None:
    """Both are released together."""
    assert f'version = "{tango.__version__}"' in (CLIENT / "pyproject.toml").read_text()
