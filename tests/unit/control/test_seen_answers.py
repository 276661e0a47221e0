"""What a dispatching process has seen of answers, in the rows of the snapshots that it plans on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.bench.worlds import busy_snapshot, fleet_of_size
from tango.control.fleet_view import FleetView
from tango.control.seen_answers import SeenAnswers
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.rule import lc_rule
from tango.settings import LcSettings
from tests.unit.scheduling.test_industry_lc_policies import asking, mesh

FLEET = fleet_of_size(4, clusters=2)


def seen_of(snapshot: FleetSnapshot, column: str) -> list[list[float]]:
    """A column of what was told."""
    assert snapshot.answers is not None
    found: list[list[float]] = snapshot.answers[column].tolist()
    return found


def test_nothing_is_noted_before_a_policy_asks() -> None:
    """So that it costs nothing while none does."""
    snapshot, seen = busy_snapshot(FLEET), SeenAnswers(now_s=lambda: 5.0)
    service, node = snapshot.services[0].name, snapshot.node_key(1)

    seen.answered(service, node, answer_s=0.3, served_s=0.2)
    assert np.count_nonzero(seen_of(seen.told(snapshot), "answers")) == 0
    seen.answered(service, node, answer_s=0.3, served_s=0.2)

    told = seen.told(snapshot)
    assert told.answers is not None
    assert told.answers["answers"][0, 1] == 1
    assert told.answers["answer_s"].sum() == 0.3
    assert snapshot.answers is None


def test_what_is_known_follows_its_node_and_service_to_other_rows() -> None:
    """Nodes in another order, one gone: the rest is still known, and a failure counts for its service and node."""
    snapshot, seen = busy_snapshot(FLEET), SeenAnswers(now_s=lambda: 5.0)
    seen.told(snapshot)
    seen.answered(snapshot.services[1].name, snapshot.node_key(2), answer_s=0.3, served_s=0.2)
    seen.failed(snapshot.services[0].name, snapshot.node_key(3))
    order = np.array([3, 2, 0])
    moved = replace(
        snapshot,
        nodes=tuple(snapshot.nodes[k] for k in order),
        node_cluster=snapshot.node_cluster[order],
    )

    told = seen.told(moved)

    assert told.answers is not None
    assert told.answers.shape == (len(snapshot.services), 3)
    assert np.argwhere(told.answers["answers"]).tolist() == [[1, 1]]
    assert np.argwhere(told.answers["failed_in_row"]).tolist() == [[0, 0]]


def test_a_live_plan_of_a_policy_that_goes_by_answers_is_made_on_what_was_seen() -> None:
    """The first batch draws on nothing; once one node has answered slowly, all of the next batch goes to the other."""
    snapshot, seen, rule = mesh([[1, 1]]), SeenAnswers(now_s=lambda: 1.0), lc_rule("prequal")
    view = FleetView(lambda: snapshot, max_age_s=1e9, seen=seen, monotonic=lambda: 0.0)
    known = view.current()

    view.plan(rule, asking(), known, LcSettings(), cycle="a test", now_s=0.0)
    snapshot.in_flight[:] = 0.0
    seen.answered("s", snapshot.node_key(0), answer_s=3.0, served_s=2.0)
    plans = []
    for k in range(8):
        snapshot.in_flight[:] = 0.0
        plans.append(view.plan(rule, asking(first_id=k), known, LcSettings(), cycle="a test", now_s=0.0, keeps_asked=True))

    assert [int(planned.plan.node[0]) for planned in plans] == [1] * 8
    asked = plans[-1].asked
    assert asked is not None
    assert asked.answers is not None
    seen.answered("s", snapshot.node_key(0), answer_s=9.0, served_s=2.0)
    assert asked.answers["answers"].tolist() == [[1, 0]]
