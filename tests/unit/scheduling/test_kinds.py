"""Requests are grouped by what they ask for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tango.scheduling.kinds import kinds_of_rows

ROWS = st.lists(st.tuples(*(st.sampled_from([0.0, 0.5, 1.0, 250.0, 1e9]) for _ in range(3))), min_size=1, max_size=40)


@given(rows=ROWS, columns=st.integers(1, 3))
def test_rows_of_one_kind_are_equal_and_kinds_stand_in_order(rows: list[tuple[float, ...]], columns: int) -> None:
    """The same numbers as `np.unique` over whole rows gives, whatever the number of columns."""
    table = np.array(rows)[:, :columns]

    found = kinds_of_rows(*table.T)

    assert found.tolist() == np.unique(table, axis=0, return_inverse=True)[1].ravel().tolist()


def test_no_rows_have_no_kinds() -> None:
    """An empty tick is no special case."""
    assert kinds_of_rows(np.zeros(0), np.zeros(0)).tolist() == []
