"""The budget of an LC request: its deadline less now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.patience import is_hopeless
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals
from tango.scheduling.budget import within_budget
from tests.fakes.store_world import CHAT, WEB
from tests.long import example_count

PATIENT, STRICT, LENIENT = WEB, replace(WEB, shed_after_targets=1.0), replace(CHAT, shed_after_targets=3.0)
SERVICES = (PATIENT, STRICT, LENIENT)
TARGET_S = 0.5


def arrivals(*services: int, due_s: float = 10.0) -> LcArrivals:
    """One of each of these services, with half a second each."""
    n = len(services)
    return LcArrivals(
        request_id=np.arange(n),
        service=np.array(services, np.int32),
        entry_cluster=np.zeros(n, np.int32),
        due_s=np.full(n, due_s),
        target_s=np.full(n, TARGET_S),
        cpu_work_s=np.full(n, 0.02),
        memory_mib=np.full(n, 32.0),
        epoch=np.zeros(n, np.int32),
    )


def plan(*expected_s: float, node: int = 0) -> LcPlan:
    """All to one node, or to none."""
    n = len(expected_s)
    return LcPlan(
        node=np.full(n, node, np.int32), late=np.zeros(n, np.bool_), shed=np.zeros(n, np.bool_), expected_s=np.array(expected_s)
    )


def test_what_was_waited_counts() -> None:
    """An answer in 0.2 s is in time at once, and late after 0.4 s of waiting: served late, or shed where its service says so."""
    fresh = within_budget(plan(0.2, 0.2, 0.2), arrivals(0, 1, 2), SERVICES, now_s=10.0)
    waited = within_budget(plan(0.2, 0.2, 0.2), arrivals(0, 1, 2), SERVICES, now_s=10.4)

    assert (fresh.late.tolist(), fresh.shed.tolist()) == ([False] * 3, [False] * 3)
    assert waited.late.tolist() == [True, False, True]
    assert waited.shed.tolist() == [False, True, False]
    assert waited.node.tolist() == [0, -1, 0]


def test_a_request_without_a_node_is_shed_when_it_has_waited_long_enough() -> None:
    """Before that it stays released, and is neither late nor shed."""
    early = within_budget(plan(np.inf, np.inf, node=-1), arrivals(0, 1), SERVICES, now_s=10.4)
    over = within_budget(plan(np.inf, np.inf, node=-1), arrivals(0, 1), SERVICES, now_s=10.6)

    assert (early.late.any(), early.shed.tolist()) == (False, [False, False])
    assert (over.late.any(), over.shed.tolist()) == (False, [False, True])


def test_what_a_policy_sheds_or_knows_to_be_late_stays_so() -> None:
    """The budget only adds to it."""
    by_policy = replace(
        plan(0.1, 0.1), shed=np.array([True, False]), late=np.array([False, True]), node=np.array([-1, 0], np.int32)
    )

    found = within_budget(by_policy, arrivals(0, 0), SERVICES, now_s=10.0)

    assert (found.shed.tolist(), found.late.tolist(), found.node.tolist()) == ([True, False], [False, True], [-1, 0])


@settings(max_examples=example_count(50))
@given(rows=st.lists(st.tuples(st.integers(0, 2), st.floats(0.0, 5.0)), min_size=1, max_size=20), waited_s=st.floats(-1.0, 5.0))
def test_a_request_is_dispatched_late_or_shed_and_nothing_else(rows: list[tuple[int, float]], waited_s: float) -> None:
    """Shed ones have no node; those of a service that never sheds all keep theirs."""
    told = plan(*(expected for _, expected in rows))
    found = within_budget(told, arrivals(*(service for service, _ in rows)), SERVICES, now_s=10.0 + waited_s)

    assert np.array_equal(found.shed, found.node < 0)
    assert not (found.late & found.shed).any()
    assert not found.shed[[service == 0 for service, _ in rows]].any()


def test_a_call_is_hopeless_when_its_patience_is_over() -> None:
    """Whatever an answer would take."""
    asked = {"target_s": 0.5, "shed_after_targets": 2.0}
    assert not is_hopeless(waited_s=0.9, **asked)
    assert is_hopeless(waited_s=1.1, **asked)
    assert not is_hopeless(waited_s=100.0, target_s=0.5, shed_after_targets=0.0)


def test_a_margin_sheds_sooner_and_makes_nothing_late() -> None:
    """An answer in 0.4 s with 0.2 s of margin may come after 0.5 s: shed where the service says so, else served and not counted late."""
    spare = within_budget(plan(0.4, 0.4), arrivals(0, 1), SERVICES, now_s=10.0, margin_s=np.array([0.2, 0.2, 0.0]))
    none = within_budget(plan(0.4, 0.4), arrivals(0, 1), SERVICES, now_s=10.0, margin_s=np.array([0.05, 0.05, 0.0]))

    assert (spare.late.tolist(), spare.shed.tolist()) == ([False, False], [False, True])
    assert (none.late.tolist(), none.shed.tolist()) == ([False, False], [False, False])
