"""Simulated runs of every system come out as they were recorded, bit for bit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RECORD = ROOT / "docs" / "decisions" / "0014-one-thing-in-a-room.md"
SPANS = {"testbed": ("--duration", "120", "--seed", "3"), "paper": ("--duration", "60", "--seed", "5")}


def recorded() -> Iterator[tuple[str, str, str, str, str]]:
    """(fleet, pattern, load, system, first 16 digits) of each row of the record's table: what it was in the end."""
    row = re.compile(r"\| (\w+), (\w+), ([\d.]+) \| `([\w-]+)` \| `(\w{16})` \| (?:equal|`(\w{16})`) \|")
    for fleet, pattern, load, system, before, after in row.findall(RECORD.read_text()):
        yield fleet, pattern, load, system, after or before


@pytest.mark.long
@pytest.mark.parametrize(("fleet", "pattern", "load", "system", "digest"), list(recorded()))
def test_a_run_comes_out_as_recorded(fleet: str, pattern: str, load: str, system: str, digest: str) -> None:
    """A change that moves a digest says why in a record of its own and writes the new one into this table."""
    options = ("--fleet", fleet, "--system", system, "--load", load, *SPANS[fleet], "-o", "json")
    command = (sys.executable, "-c", "from tango.cli.main import run; run()", "simulate", pattern, *options)
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=600)
    assert json.loads(done.stdout)["digest"][:16] == digest


def test_the_record_is_read() -> None:
    """Seven systems on the small fleet twice, two on the large one: a table in another form would leave nothing to check."""
    assert len(list(recorded())) == 16
