"""What LC has used of late: a running mean by time, the same however often it is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.snapshot import FleetSnapshot
from tango.learning.recent import RECENT_S, RecentLc
from tests.fakes.be_worlds import be_world


def _at(at_s: float, in_flight: float) -> FleetSnapshot:
    _, snapshot = be_world(3)
    limit = np.full_like(snapshot.instance_limit, 500.0)
    flight = np.full_like(snapshot.in_flight, in_flight)
    return replace(snapshot, at_s=at_s, instance_limit=limit, in_flight=flight, lc_cpu_recent=None)


def test_it_begins_with_what_is_seen_first_and_follows_by_time() -> None:
    """After `RECENT_S` seconds the old value counts 1/e, in one step or in many."""
    once, often = RecentLc(), RecentLc()
    first = once.added(_at(0.0, 0.0)).lc_cpu_recent
    often.added(_at(0.0, 0.0))
    assert first is not None
    assert not first.any()
    now = np.minimum(_at(0.0, 9.0).lc_cpu_in_use, _at(0.0, 9.0).cpu_allocatable)
    for k in range(1, 11):
        stepped = often.added(_at(RECENT_S * k / 10, 9.0)).lc_cpu_recent
    jumped = once.added(_at(RECENT_S, 9.0)).lc_cpu_recent
    assert jumped == pytest.approx((1 - np.exp(-1)) * now)
    assert stepped == pytest.approx(jumped)


def test_asked_twice_at_one_instant_it_says_the_same() -> None:
    """The simulator may look more than once a tick."""
    recent = RecentLc()
    recent.added(_at(0.0, 1.0))
    one = recent.added(_at(1.0, 5.0)).lc_cpu_recent
    again = recent.added(_at(1.0, 5.0)).lc_cpu_recent
    assert one is not None
    assert again is not None
    assert np.array_equal(one, again)


def test_it_forgets_where_time_goes_back_or_nodes_change() -> None:
    """A second run, or another fleet, is not judged by the first."""
    recent = RecentLc()
    recent.added(_at(100.0, 9.0))
    assert not recent.added(_at(0.0, 0.0)).lc_cpu_recent.any()  # type: ignore[union-attr]
    recent.added(_at(1.0, 9.0))
    renamed = replace(_at(2.0, 0.0), nodes=tuple(f"other-{k}" for k in range(len(_at(0.0, 0.0).nodes))))
    assert not recent.added(renamed).lc_cpu_recent.any()  # type: ignore[union-attr]
    recent.added(_at(3.0, 9.0))
    moved = replace(_at(4.0, 0.0), node_cluster=np.zeros_like(renamed.node_cluster))
    assert not recent.added(moved).lc_cpu_recent.any()  # type: ignore[union-attr]


def test_what_is_not_a_number_for_an_instant_is_forgotten() -> None:
    """The other nodes do not notice, and the node itself goes on with what it had, or with the first that is known."""
    broken = _at(1.0, 5.0)
    broken.instance_limit[:, 0] = np.nan
    recent = RecentLc()
    recent.added(_at(0.0, 5.0))
    during = recent.added(broken).lc_cpu_recent
    after = recent.added(_at(2.0, 5.0)).lc_cpu_recent
    steady = RecentLc().added(_at(0.0, 5.0)).lc_cpu_recent
    assert during == pytest.approx(steady)
    assert after == pytest.approx(steady)
    late = RecentLc()
    late.added(broken)
    assert late.added(_at(2.0, 5.0)).lc_cpu_recent == pytest.approx(steady)


def test_a_snapshot_that_has_it_stays_as_it_is() -> None:
    """Whoever keeps the memory does so once for all who read the snapshot."""
    snapshot = replace(_at(0.0, 1.0), lc_cpu_recent=np.ones(len(_at(0.0, 1.0).nodes)))
    assert RecentLc().added(snapshot) is snapshot


def test_more_is_never_used_than_a_node_has() -> None:
    """Limits of a node together may exceed it; what is used does not."""
    seen = RecentLc().added(replace(_at(0.0, 1e6), instance_limit=np.full_like(_at(0.0, 0.0).instance_limit, 1e6)))
    assert seen.lc_cpu_recent is not None
    assert (seen.lc_cpu_recent <= seen.cpu_allocatable).all()
