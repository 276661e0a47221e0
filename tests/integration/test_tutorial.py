"""Tutorials as a new user types them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.live_stack import ROOT
from tests.integration.typed import blocks, typed

pytestmark = [pytest.mark.timeout(400)]


@pytest.mark.long
def test_every_command_of_the_tutorial_does_what_it_says(tmp_path: Path) -> None:
    """From an empty folder to a simulated run beside the recorded one."""
    commands = "".join(blocks((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")))

    done = typed(commands, tmp_path, timeout_s=300.0)

    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    for greeted in ("World", "You", "Ada", "Grace", "Barbara"):
        assert f"Hello, {greeted}!" in said
    assert "2262 primes" in said
    assert said.count("succeeded") >= 5
    assert "run 1 under k8s-native" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_first_session_goes_as_it_is_written(tmp_path: Path) -> None:
    """Two runs of a trace, looked at and compared; then the history alone."""
    session, *_ = blocks((ROOT / "docs" / "first-session.md").read_text(encoding="utf-8"))
    assert session.count("tango top ") == 1
    session = session.replace("tango top ", "tango top --once ")  # there is no terminal here

    done = typed(session + "tango run list -o json\n", tmp_path, timeout_s=800.0)

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("3,000") >= 2
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!")
    assert '"load-greedy"' in done.stdout.split("lc.c1")[-1]
