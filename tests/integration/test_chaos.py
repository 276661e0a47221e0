"""A short batch of the deterministic chaos world (docs/decisions/0025-deterministic-chaos.md); `make test-long` runs more of it.

In processes of their own: a world puts stand-ins into the modules of `tango`, and its hashes of words must be those of the command line.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys

import pytest

from tests.long import LONG

SEEDS = 1000 if LONG else 2
"""Seeds of one batch; one takes some ten seconds of CPU."""
PLANTED = ("bound-elsewhere", "first-state-told") if LONG else ("bound-elsewhere",)


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m tests.chaos` with these arguments."""
    command = [sys.executable, "-m", "tests.chaos", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONHASHSEED": "0"})


@functools.cache
def batch() -> subprocess.CompletedProcess[str]:
    """All seeds of this run, with the digest of each."""
    return chaos("--seeds", f"0..{SEEDS}", "--digests")


def digests(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """By seed: what stands for every step that was taken, in its order."""
    return dict(re.findall(r"digest of seed (\d+): (\w+)", done.stdout))


@pytest.mark.timeout(20_000 if LONG else 600)
def test_no_request_is_lost_or_doubled_whatever_goes_wrong() -> None:
    """Conservation, one success, one writer, epochs, leases, allocation and pods hold in every seed, and work goes on once all is well."""
    done = batch()

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds, 0 failed" in done.stdout


@pytest.mark.timeout(20_000 if LONG else 600)
def test_a_seed_is_replayed_exactly() -> None:
    """By another process, alone: the same steps in the same order."""
    assert digests(chaos("--seeds", "1", "--digests"))["1"] == digests(batch())["1"]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str) -> None:
    """A world that can find nothing proves nothing; `python -m tests.chaos.mutations` plants all of them."""
    done = chaos("--seeds", "0..10", "--stop", "--plant", bug)

    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED" in done.stdout
