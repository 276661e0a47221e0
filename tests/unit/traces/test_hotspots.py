from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.errors import UsageError
from tango.traces.hotspots import Hotspots, hot_clusters, moved
from tests.long import example_count


def _moved(hotspots: Hotspots, n: int = 600_000, clusters: int = 20, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    arrival_s = np.sort(rng.random(n) * 60)
    cluster = rng.integers(0, clusters, n).astype(np.int32)
    return arrival_s, cluster, moved(cluster, arrival_s, hotspots, clusters=clusters, duration_s=60.0, seed=seed)


@pytest.mark.parametrize(("hot", "factor"), [(1, 10.0), (3, 5.0), (10, 2.0), (19, 1.5)])
def test_hot_clusters_get_the_factor_of_the_others(hot: int, factor: float) -> None:
    """In each sixth of the duration, in the mean over the hot and over the cool clusters."""
    hotspots = Hotspots(clusters=hot, factor=factor)
    arrival_s, _, cluster = _moved(hotspots)
    choices = hot_clusters(hotspots, 20, 1)

    assert choices.shape == (6, hot)
    for k, chosen in enumerate(choices):
        counts = np.bincount(cluster[(arrival_s >= 10 * k) & (arrival_s < 10 * (k + 1))], minlength=20)
        is_hot = np.isin(np.arange(20), chosen)
        # Some 100,000 requests; a lone cluster has 1,900 at least, a standard error of 2.3 %.
        assert counts[is_hot].mean() / counts[~is_hot].mean() == pytest.approx(factor, rel=0.1)


def test_a_flash_crowd_wanders() -> None:
    """Later choices are other clusters; each is hot once at a time."""
    choices = hot_clusters(Hotspots(clusters=3), 100, 5)

    assert len({tuple(sorted(choice)) for choice in choices.tolist()}) == 6
    assert all(len(set(choice)) == 3 for choice in choices.tolist())
    assert not np.array_equal(choices, hot_clusters(Hotspots(clusters=3), 100, 6))


@given(st.integers(1, 9), st.floats(1, 100), st.integers(0, 2**63))
@settings(deadline=None, max_examples=example_count(40))
def test_only_entries_of_the_crowd_change(hot: int, factor: float, seed: int) -> None:
    """Who does not join a hot cluster stays; equal seeds move alike; factor 1 moves nobody."""
    hotspots = Hotspots(clusters=hot, factor=factor)
    arrival_s, before, after = _moved(hotspots, n=500, clusters=10, seed=seed % 97)
    phase = np.minimum((arrival_s // 10).astype(int), 5)
    hot_now = hot_clusters(hotspots, 10, seed % 97)[phase]

    assert np.all((before == after) | (hot_now == after[:, None]).any(axis=1))
    assert np.array_equal(after, _moved(hotspots, n=500, clusters=10, seed=seed % 97)[2])
    if factor == 1.0:
        assert np.array_equal(before, after)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clusters": 0}, "hotspots is 0, expected 1 cluster or more"),
        ({"clusters": 1, "factor": 0.5}, "hotspot factor is 0.5, expected 1 or more"),
        ({"clusters": 1, "factor": float("nan")}, "hotspot factor is nan"),
        ({"clusters": 1, "moves": 0}, "hotspots move 0 times"),
    ],
)
def test_hotspots_out_of_bounds_are_refused(options: dict, message: str) -> None:
    """What was found and what was expected."""
    with pytest.raises(UsageError, match=message):
        Hotspots(**options)


def test_a_cool_cluster_must_be_left() -> None:
    """Where all were hot, none would be."""
    with pytest.raises(UsageError, match="hotspots is 3, expected fewer than the 3 entry clusters"):
        hot_clusters(Hotspots(clusters=3), 3, 1)
