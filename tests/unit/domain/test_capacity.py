"""The largest machines: what fits none of them fits nowhere."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.capacity import largest

rows = st.integers(1, 3).flatmap(lambda r: st.lists(st.tuples(*[st.integers(0, 4)] * r), min_size=1, max_size=12))


def test_of_two_resources_the_staircase_is_kept() -> None:
    """One machine is fastest, one has most memory, one is neither and may still be the only one with enough of both."""
    found = largest(np.array([[16.0, 1.0], [2.0, 2.0], [1.0, 8.0], [1.0, 1.0], [2.0, 2.0]]))

    assert found.tolist() == [[16.0, 1.0], [2.0, 2.0], [1.0, 8.0]]


def test_no_machine_has_no_largest() -> None:
    """Before the agents have spoken."""
    assert largest(np.zeros((0, 2))).tolist() == []


@given(rows, st.data())
def test_whatever_fits_some_machine_fits_one_of_the_largest(machines: list[tuple[int, ...]], data: st.DataObject) -> None:
    """Over any number of resources; and each of the largest is a machine that no other of them exceeds."""
    sizes = np.array(machines, float)
    wanted = np.array(data.draw(st.tuples(*[st.integers(0, 5)] * sizes.shape[1])), float)

    found = largest(sizes)

    assert (wanted <= found).all(axis=1).any() == (wanted <= sizes).all(axis=1).any()
    assert {tuple(row) for row in found} <= {tuple(row) for row in sizes}
    assert all(not (found[i] <= found[j]).all() for i in range(len(found)) for j in range(len(found)) if i != j)
