"""The table of decision times: between its entries, beyond them, and for policies that it does not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tango.errors import ConfigError
from tango.sim.decision_costs import DecisionCost, DecisionCosts, dump_costs, recorded_costs
from tango.systems import SYSTEMS

GRID = [
    DecisionCost(kind="lc", policy="p", nodes=nodes, requests=requests, ms=ms)
    for nodes, requests, ms in ((10, 1, 1.0), (10, 100, 10.0), (1000, 1, 4.0), (1000, 100, 40.0))
]


def seconds(nodes: int, requests: int) -> float:
    """By the small table."""
    return float(DecisionCosts(GRID).seconds("lc", "p", nodes=nodes, requests=requests)[0])


def test_entries_hold_where_they_were_measured() -> None:
    """In seconds."""
    assert [seconds(c.nodes, c.requests) for c in GRID] == pytest.approx([c.ms / 1e3 for c in GRID])


def test_between_entries_time_follows_the_logarithm() -> None:
    """Half way on both logarithmic axes lies the geometric mean."""
    assert seconds(100, 10) == pytest.approx((1.0 * 10.0 * 4.0 * 40.0) ** 0.25 / 1e3)


def test_beyond_the_table_its_edge_holds() -> None:
    """No extrapolation."""
    assert seconds(5, 1) == pytest.approx(0.001)
    assert seconds(10**6, 10**6) == pytest.approx(0.040)


def test_nothing_to_decide_takes_no_time() -> None:
    """An empty batch is no decision."""
    assert seconds(10, 0) == 0.0


def test_a_policy_that_was_not_measured_is_not_charged() -> None:
    """And is known not to be, so that the result can say so."""
    costs = DecisionCosts(GRID)
    assert not costs.knows("lc", "mine")
    np.testing.assert_array_equal(costs.seconds("lc", "mine", nodes=10, requests=np.arange(5)), np.zeros(5))


def test_the_table_that_is_shipped_has_every_system(tmp_path: Path) -> None:
    """Also after a round through a file."""
    path = tmp_path / "costs.json"
    path.write_text(dump_costs(recorded_costs().rows, machine="test"))
    costs = recorded_costs(path)
    assert costs.rows == recorded_costs().rows
    for known in SYSTEMS.values():
        assert costs.knows("lc", known.lc)
        assert costs.knows("be", known.be)


@pytest.mark.parametrize("text", ["", "{}", '{"costs": [{"kind": "lc"}]}', '{"costs": 3}'])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    """With how to make one."""
    path = tmp_path / "costs.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="tango bench scheduler --record"):
        recorded_costs(path)


def test_a_grid_with_a_hole_is_refused() -> None:
    """Interpolation would read what was never measured."""
    with pytest.raises(ConfigError, match="do not fill their grid"):
        DecisionCosts(GRID[:3])
