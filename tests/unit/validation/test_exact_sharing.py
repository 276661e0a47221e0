"""Exact sharing of a node's cores, worked out from starts and works alone: the node model and theory agree with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.node_model.model import NodeModel
from tango.validation import formulas
from tango.validation.exact_sharing import shared_sojourns_s


def test_two_requests_on_one_core_share_it_while_both_are_there() -> None:
    """The first is alone for a second, then both have half of the core; the last has all of it again."""
    sojourns_s = shared_sojourns_s(np.array([0.0, 1.0]), np.array([2.0, 2.0]), 1)

    assert sojourns_s.tolist() == pytest.approx([3.0, 3.0])


def test_the_order_of_the_requests_does_not_matter() -> None:
    """They are served as they start, and told as they were given."""
    sojourns_s = shared_sojourns_s(np.array([1.0, 0.0]), np.array([0.25, 2.0]), 1)

    assert sojourns_s.tolist() == pytest.approx([0.5, 2.25])


@given(
    cores=st.integers(1, 4),
    requests=st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.01, 2.0)), min_size=1, max_size=30),
)
def test_a_node_of_the_model_ends_requests_when_exact_sharing_does(cores: int, requests: list[tuple[float, float]]) -> None:
    """One instance as large as the node, with places for all."""
    started_s, work_s = (np.array(column) for column in zip(*sorted(requests), strict=True))
    model = NodeModel([float(cores)], beta=0.0)
    row = model.add_instance(0, limit_cores=float(cores), memory_mib=64.0, concurrency=1000, at_s=0.0)
    ended_s = np.zeros(len(started_s))
    for key, (start_s, work) in enumerate(zip(started_s.tolist(), work_s.tolist(), strict=True)):
        for _, _, done, _, at_s, _ in model.finished(start_s):
            ended_s[done] = at_s
        model.submit(0, row, key, work, 0.0, start_s)
    for _, _, done, _, at_s, _ in model.finished(1e6):
        ended_s[done] = at_s

    assert ended_s - started_s == pytest.approx(shared_sojourns_s(started_s, work_s, cores), abs=1e-6)


@pytest.mark.parametrize(("cores", "load"), [(1, 0.5), (4, 0.7)])
def test_of_poisson_starts_the_mean_is_what_erlang_says(cores: int, load: float) -> None:
    """Cohen's formula, within what 40,000 requests leave to chance."""
    rng = np.random.default_rng(7)
    started_s = np.cumsum(rng.exponential(1.0 / (cores * load), 40_000))

    mean = shared_sojourns_s(started_s, rng.exponential(1.0, len(started_s)), cores).mean()

    assert mean == pytest.approx(formulas.shared_sojourn(cores, load), rel=0.05)
