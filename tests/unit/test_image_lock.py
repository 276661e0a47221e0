"""What goes into the images is what the lock has, and no more."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.test_dependencies import TOOLS, declared

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / "deploy" / "image"
LOCK = """\
# by make lock
app==1.0 \\
    --hash=sha256:aa
    # via tango-edge (setup.cfg)
deep==2.0 ; python_full_version < '3.11.3' \\
    --hash=sha256:bb
    # via
    #   app
    #   torch
old==3.0 ; sys_platform == 'win32' \\
    --hash=sha256:cc
    # via app
pytest==9.0 \\
    --hash=sha256:dd
    # via tango-edge (setup.cfg)
"""


@pytest.fixture(scope="module")
def locked() -> ModuleType:
    """The script, which is no module of ours: it runs before anything is installed."""
    spec = importlib.util.spec_from_file_location("locked", IMAGE / "locked.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_package_comes_with_what_it_leads_to(locked: ModuleType) -> None:
    """By who asked for what; under another release of Python, or on another system, less is needed."""
    assert locked.needed(LOCK, ["app"], "3.11.2") == [
        "app==1.0 \\\n    --hash=sha256:aa\n",
        "deep==2.0 \\\n    --hash=sha256:bb\n",
    ]
    assert [block[:5] for block in locked.needed(LOCK, ["app"], "3.11.7")] == ["app=="]


def test_a_package_that_is_not_locked_is_refused(locked: ModuleType) -> None:
    """Nothing goes into an image without a hash."""
    with pytest.raises(KeyError, match=r"gone is not in requirements\.txt; run `make lock`"):
        locked.needed(LOCK, ["gone"], "3.11.2")


def test_the_image_has_what_tango_needs_to_run_and_none_of_its_tools(locked: ModuleType) -> None:
    """By the real lock: every package that setup.cfg declares, each with its hashes, and no test tool."""
    blocks = locked.needed(
        (ROOT / "requirements.txt").read_text(), locked.runtime_roots((ROOT / "setup.cfg").read_text()), "3.11.2"
    )
    names = {re.split("==", block)[0] for block in blocks}

    assert set(declared()) - {"torch"} <= names
    assert not names & (TOOLS | {"pytest", "hypothesis", "ortools", "pandas"})
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in blocks)
    assert not any(";" in block for block in blocks)


def test_the_workload_needs_one_package(locked: ModuleType) -> None:
    """Beside Python, which is why its image is small."""
    blocks = locked.needed((ROOT / "requirements.txt").read_text(), ["httptools"], "3.11.2")

    assert [block.partition("==")[0] for block in blocks] == ["httptools"]


def test_the_image_has_the_torch_that_the_tests_have() -> None:
    """One release; the hash beside it is that of the build for the CPU."""
    pinned = re.search(r"^torch==\S+", (ROOT / "requirements-torch.txt").read_text(), re.MULTILINE)
    assert pinned is not None

    assert re.search(
        rf"^{re.escape(pinned[0])} \\\n +--hash=sha256:[0-9a-f]{{64}}$", (IMAGE / "torch-cpu.txt").read_text(), re.MULTILINE
    )


def test_no_image_has_a_tag_that_moves() -> None:
    """In what is deployed, `latest` is nowhere."""
    files = [path for folder in ("deploy", "examples") for path in (ROOT / folder).rglob("*") if path.is_file()]
    moving = re.compile(r"^\s*(?:image:|FROM)\s.*:latest\b", re.MULTILINE)

    assert len(files) > 10
    assert [str(path) for path in files if moving.search(path.read_text(encoding="utf-8", errors="replace"))] == []
