"""`tango bench chaos` on a real stack: what must hold does, with a fault of each kind."""

from __future__ import annotations

import pytest

from tango.bench.chaos.trials import measure

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def test_faults_of_each_kind_lose_and_double_nothing() -> None:
    """It raises for whatever did not hold; LC is in time again while there is still load."""
    said: list[str] = []
    names = ["20 kills", "agent stands still", "API server answers 500", "brokers flushed", "database killed", "line cut"]

    figures = {figure.name: figure.value for figure in measure(names=names, kills=20, told=said.append)}

    assert len(said) == 1 + len(names)
    assert all("all held" in line for line in said)
    assert {
        name: figures[f"{name}: LC in time again after"] for name in names if figures[f"{name}: LC in time again after"] > 25
    } == {}
