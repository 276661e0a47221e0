"""Whether a pod fits: every resource that it asks for, and no other."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.resource_axis import MEMORY
from tango.node_model.capacity import count_in, fits, mark_fitting, most_memory

AMOUNT = st.integers(0, 4)


@st.composite
def nodes_and_pods(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Free (r, n), here and there less than nothing, and requests (r, k), of up to five resources."""
    r, n, k = draw(st.integers(2, 5)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    free = draw(st.lists(st.lists(st.integers(-1, 4), min_size=n, max_size=n), min_size=r, max_size=r))
    asked = draw(st.lists(st.lists(AMOUNT, min_size=k, max_size=k), min_size=r, max_size=r))
    return np.array(free, float), np.array(asked, float)


@given(nodes_and_pods())
@settings(deadline=None)
def test_a_pod_fits_where_nothing_that_it_asks_for_is_short(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    """What it does not ask for never refuses it, even where a node has less than nothing left of that."""
    free, requests = drawn
    marked = np.zeros(free.shape[1], np.bool_)
    for k in range(requests.shape[1]):
        expected = [all(a == 0 or a <= f for a, f in zip(requests[:, k], free[:, n], strict=True)) for n in range(free.shape[1])]

        mark_fitting(free, requests, k, marked)

        assert marked.tolist() == expected
        assert [fits(free, n, requests, k) for n in range(free.shape[1])] == expected


def test_sums_that_went_astray_by_rounding_still_fit() -> None:
    """Three pods of a third of what there is, in floats: the last one that belongs there is not refused for a billionth."""
    free, requests = np.array([[0.3]]), np.array([[0.1]])
    for _ in range(2):
        count_in(free, 0, requests, 0)

    assert free[0, 0] < 0.1
    assert fits(free, 0, requests, 0)


@given(nodes_and_pods(), st.integers(0, 5))
@settings(deadline=None)
def test_the_most_memory_says_of_every_request_whether_it_fits_anywhere(drawn: tuple[np.ndarray, np.ndarray], memory: int) -> None:
    """One figure a service stands for a search over all nodes, whatever memory its requests ask for."""
    free, requests = drawn
    most = np.zeros(requests.shape[1])

    most_memory(free, requests, MEMORY, most)

    for k in range(requests.shape[1]):
        one = requests.copy()
        one[MEMORY, k] = memory
        anywhere = any(fits(free, n, one, k) for n in range(free.shape[1]))
        assert (memory <= most[k]) == anywhere or (memory == 0 and anywhere)
