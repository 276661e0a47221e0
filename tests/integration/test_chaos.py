"""A short batch of the deterministic chaos world (docs/decisions/0025-deterministic-chaos.md); `make test-long` runs more of it.

In processes of their own: a world puts stand-ins into the modules of `tango`, and its hashes of words must be those of the command line.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.long import LONG

SEEDS = 1000 if LONG else 4
"""Seeds of one batch."""


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.chaos` with these arguments."""
    command = [sys.executable, "-m", "tests.chaos", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})


@pytest.mark.timeout(3000 if LONG else 300)
def test_no_request_is_lost_or_doubled_whatever_goes_wrong() -> None:
    """Conservation, one success, one writer, epochs, leases, allocation and pods hold in every seed, and work goes on once all is well."""
    done = chaos("--seeds", f"0..{SEEDS}")

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds, 0 failed" in done.stdout


def test_a_seed_is_replayed_exactly() -> None:
    """Two runs of one seed take the same steps in the same order."""
    digests = [re.findall(r"digest of seed 3: (\w+)", chaos("--seeds", "3", "--digests").stdout) for _ in range(2)]

    assert len(digests[0]) == 1
    assert digests[0] == digests[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", ["bound-elsewhere", "first-state-told"])
def test_a_planted_bug_is_found(bug: str) -> None:
    """A world that can find nothing proves nothing; `python -m tests.chaos.mutations` plants all of them."""
    done = chaos("--seeds", "0..10", "--stop", "--plant", bug)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout
