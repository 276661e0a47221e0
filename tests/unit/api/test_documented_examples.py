"""What a researcher copies runs as it stands: the code of docs/api.md, and the notebook of examples/, without Jupyter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(600)
"""The first simulation of a fresh checkout compiles the engine."""

ROOT = Path(__file__).parents[3]
PAGE = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.DOTALL)
NOTEBOOK = json.loads((ROOT / "examples" / "own-policy.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]

SMALLER = (("duration_s=60", "duration_s=3"), ('fleet="testbed"', 'fleet="single"'), ("seeds=5", "seeds=2"))
"""The page's own figures take a minute of CPU; what is shown here is that its code works."""


def executed(blocks: list[str]) -> dict[str, Any]:
    """The names that the blocks leave, one executed after the other as a person would."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"block {number}", "exec"), names)
    return names


def test_the_page_runs_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    """Shorter and on a smaller fleet; the policy in it takes ten lines, and the comparison four."""
    assert len([line for line in PAGE[0].splitlines() if line.strip()]) <= 15
    blocks = []
    for block in PAGE:
        for long, short in SMALLER:
            block = block.replace(long, short)
        blocks.append(block)

    names = executed(blocks)

    assert names["comparison"].means().column("system").to_pylist() == ["load-greedy", "mine"]
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["system", "seeds"]
    assert len(names["run"].outcomes()) == len(names["drawn"])
    assert len(names["wide"].clusters) == 20


def test_the_notebook_runs_and_shows_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Cell by cell; it is kept without what its cells have printed."""
    assert all(cell["outputs"] == [] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")

    names = executed(CELLS)

    told = capsys.readouterr().out
    assert names["run"].figures["succeeded"] == len(names["outcomes"]) > 50
    assert re.search(r"QoS rate 0\.\d+|QoS rate 1\.000", told)
    assert "be_cpu_seconds_per_s: " in told
