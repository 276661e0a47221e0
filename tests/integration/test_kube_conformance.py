"""The embedded API server gives the answers that a real one gave, or that its documentation tells, case by case, through its port."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import start_program
from tests.waiting import until

ROOT = Path(__file__).parent.parent.parent
RECORDED = ROOT / "tests" / "kube_conformance"
CASES = [case["case"] for file in sorted(RECORDED.glob("*.json")) for case in json.loads(file.read_text())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a running embedded API server that knows one administrator."""
    folder = tmp_path_factory.mktemp("apiserver")
    (folder / "tokens.csv").write_text('root-token,root,1,"system:masters"\n')
    command = ["workers.api_server", "--cluster", "c1", "--token-file", str(folder / "tokens.csv")]
    command += ["--data-dir", str(folder / "data"), "--port-file", str(folder / "port")]
    process = start_program(*command)
    try:
        until(lambda: (folder / "port").exists() or process.poll() is not None)
        assert process.poll() is None
        yield f"http://127.0.0.1:{(folder / 'port').read_text().strip()}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_all_recorded_cases_are_there() -> None:
    """Nobody drops a case: 39 that were recorded, 6 by the documentation."""
    assert len(CASES) == 45


@pytest.mark.parametrize("case", CASES)
def test_an_answer_agrees_with_the_recorded_one(server: str, case: str) -> None:
    """Status and every listed field of every step are those of the recorded server."""
    command = [sys.executable, str(RECORDED / "check.py"), server, "--token", "root-token", "--only", case]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
