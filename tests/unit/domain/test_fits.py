"""What fits a node: one rule, whoever asks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.resource_axis import ROUNDING, lacks
from tango.node_model import capacity
from tests.long import example_count

ROOT = Path(__file__).parents[3]
AMOUNT = st.floats(-10, 10) | st.sampled_from([0.0, ROUNDING, -ROUNDING, 1.0, 1.0 - ROUNDING, 1.0 - 2 * ROUNDING])


@given(asked=st.lists(AMOUNT.map(abs), min_size=1, max_size=6), free=AMOUNT)
@settings(max_examples=example_count(200), deadline=None)
def test_figures_columns_and_compiled_steps_are_refused_alike(asked: list[float], free: float) -> None:
    """The kubelet's rule: only what is asked for can be short, and sums of floats may be a hair beyond what there is."""
    expected = [amount > 0 and amount > free + ROUNDING for amount in asked]

    assert [bool(lacks(amount, free)) for amount in asked] == expected
    assert lacks(np.array(asked), np.full(len(asked), free)).tolist() == expected
    assert [bool(capacity.lacks(amount, free)) for amount in asked] == expected


@pytest.mark.parametrize(("asked", "free", "refused"), [(0, -5, False), (1, 1, False), (2, 1, True), (1, -5, True)])
def test_whole_numbers_are_exact(asked: int, free: int, refused: bool) -> None:
    """As Kubernetes counts them: what is asked for to the last unit fits, and what is not asked for does not matter."""
    assert lacks(asked, free) is refused


def test_no_other_module_has_a_rounding_of_its_own() -> None:
    """Two rules that differ by a hair place a pod that its kubelet then refuses."""
    places = (ROOT / "tango").rglob("*.py")
    own = {
        str(path.relative_to(ROOT)) for path in places if re.search(r"(asked|size|wanted) - ROUNDING|\+ ROUNDING", path.read_text())
    }

    assert own == {"tango/domain/resource_axis.py"}
