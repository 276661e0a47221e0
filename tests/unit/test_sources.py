"""The files that a module is made of are found by reading them."""

from __future__ import annotations

import gc
import traceback
from pathlib import Path

import pytest

import tango
from tango.sources import digest_of, import_closure, parsed

FILES = {
    "__init__.py": "",
    "sim/__init__.py": "from pkg.sim import extra\n",
    "sim/engine.py": "from __future__ import annotations\nimport os\nfrom pkg.sim import heap\nimport pkg.plain\n",
    "sim/heap.py": "import numpy as np\nfrom pkg.sim.codes import (\n    FIRST,\n    SECOND,\n)\n",
    "sim/codes.py": "FIRST, SECOND = 0, 1\ntry:\n    from pkg import tried\nexcept ImportError:\n    from pkg import instead\n",
    "sim/extra.py": "",
    "sim/views.py": "from pkg.sim.engine import run\n",
    "plain.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import typed\nelse:\n    from pkg import other\n",
    "tried.py": "def ask():\n    from pkg import asked\n    return asked\n",
    "instead.py": "from pkg.sim import engine\n",
    "typed.py": "",
    "other.py": "",
    "asked.py": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small package whose modules import each other in all ways."""
    for name, text in FILES.items():
        (tmp_path / "pkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pkg" / name).write_text(text)
    return tmp_path / "pkg"


def test_a_closure_holds_what_is_imported_with_a_module(root: Path) -> None:
    """Through packages, several lines, `import a.b`, `try` and circles; not for type checkers alone, nor inside functions."""
    found = {path.relative_to(root).as_posix() for path in import_closure(["pkg.sim.engine"], root=root)}

    assert found == {
        *("__init__.py", "sim/__init__.py", "sim/engine.py", "sim/heap.py", "sim/codes.py", "sim/extra.py"),
        *("plain.py", "tried.py", "instead.py", "other.py"),
    }


def test_packages_around_a_module_count_where_they_are_asked_for(root: Path) -> None:
    """Importing `pkg.sim.codes` runs `pkg/sim/__init__.py`, though no line names it."""
    alone = import_closure(["pkg.sim.extra"], root=root)
    around = import_closure(["pkg.sim.extra"], root=root, with_packages=True)

    assert alone == (root / "sim/extra.py",)
    assert around == (root / "__init__.py", root / "sim/__init__.py", root / "sim/extra.py")


def test_a_digest_changes_with_contents_and_names_and_with_nothing_else(root: Path) -> None:
    """A file that is written again with the same content is the same; two that change places are not."""
    files = (root / "typed.py", root / "other.py")
    before = digest_of(files, root=root)

    (root / "other.py").write_text("")
    same = digest_of(files, root=root)
    (root / "other.py").write_text("x = 1\n")
    changed = digest_of(files, root=root)
    (root / "other.py").write_text("")
    (root / "typed.py").write_text("x = 1\n")
    swapped = digest_of(files, root=root)

    assert before == same
    assert len({before, changed, swapped}) == 3


class _Noisy:
    """Garbage that formats a traceback when it is collected, as a task does whose error nobody looked at."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        try:
            str({"there": 1}["missing"] + [1][2])
        except LookupError:
            traceback.format_exc()


def test_a_source_is_parsed_whatever_is_collected_meanwhile() -> None:
    """A tree within a tree is more than CPython 3.11 bears."""
    source = Path(tango.__file__).with_name("sources.py").read_text()
    thresholds = gc.get_threshold()
    gc.set_threshold(50)
    try:
        for _ in range(20):
            for _ in range(40):
                _Noisy()
            assert parsed(source).body
    finally:
        gc.set_threshold(*thresholds)
    assert gc.isenabled()
