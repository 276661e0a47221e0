"""Which decisions keep their candidates, and what they keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import orjson
import pytest

from tango.control.candidates import (
    FORGET_EVERY_S,
    MOST_A_DECISION,
    SAVED_UP_S,
    DecidedLc,
    Forgetting,
    WeighingRate,
    be_candidates,
    lc_candidates,
)
from tango.domain.candidates import Weighed, read_back
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.domain.requests import BePending, CalledArrivals
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.be_policies import place_load_greedy
from tango.scheduling.lc.rule import LC_RULES
from tango.settings import BeSettings, ExplainSettings, LcSettings
from tango.systems.be_waits import planned
from tango.systems.weighing import AskedBe
from tests.fakes.control_world import control_world
from tests.fakes.manual_clock import ManualClock
from tests.fakes.store_world import DECISION
from tests.fakes.waiting_worlds import fleet, waiting


def kept_of(text: str) -> tuple[Weighed, ...]:
    """What a decision keeps, read back."""
    return read_back(orjson.loads(text)) if text else ()


def test_no_more_are_weighed_than_the_rate_and_a_burst_after_a_quiet_time_is() -> None:
    """What is not used is saved up for a while, and not for ever."""
    clock = ManualClock()
    sampling = WeighingRate(ExplainSettings(weighed_per_s=2.0), monotonic=clock)

    first = [sampling.take() for _ in range(5)]
    clock.now_s += 0.5
    after = sampling.take()
    clock.now_s += 1000.0
    rested = sum(sampling.take() for _ in range(100))

    assert first == [4, 4, 2, 0, 0]
    assert after == 1
    assert rested == 2.0 * SAVED_UP_S


def test_what_was_not_weighed_after_all_is_given_back_and_a_rate_of_nothing_weighs_nothing() -> None:
    """A decision that gives nobody a node costs nothing of the rate."""
    clock = ManualClock()
    sampling = WeighingRate(ExplainSettings(weighed_per_s=1.0), monotonic=clock)

    sampling.give_back(sampling.take(4))
    again = sampling.take(4)
    off = WeighingRate(ExplainSettings(weighed_per_s=0.0), monotonic=clock)

    assert again == 4
    assert off.take() == 0


def test_candidates_of_old_decisions_are_deleted_once_a_minute() -> None:
    """The newest stay, and the decisions themselves."""
    world, clock = control_world(), ManualClock()
    world.state.decisions = [(replace(DECISION, weighed=f"[{k}]"), (1,)) for k in range(5)]
    forgetting = Forgetting(world.events, ExplainSettings(kept_decisions=3), monotonic=clock)

    gone = [forgetting.step(), forgetting.step()]
    world.state.decisions.append((replace(DECISION, weighed="[5]"), (1,)))
    clock.now_s += FORGET_EVERY_S
    later = forgetting.step()

    assert (gone, later) == ([2, 0], 1)
    assert [record.weighed for record, _ in world.state.decisions] == ["", "", "", "[3]", "[4]", "[5]"]


# ---- BE ----------------------------------------------------------------------------------------------------------------


def placed(question: PlacementQuestion, *, most: int = MOST_A_DECISION) -> tuple[BePlan, tuple[Weighed, ...]]:
    """What load-greedy decides, asked as the scheduler asks it, and what is kept of it."""
    noted = list[AskedBe]()

    def ask(pending: BePending, snapshot: FleetSnapshot) -> BePlan:
        plan = place_load_greedy(pending, snapshot, BeSettings())
        noted.append(AskedBe(policy=place_load_greedy, pending=pending, snapshot=snapshot, plan=plan))
        return plan

    plan = planned(ask, question)
    text, count = be_candidates(noted, question, plan, most=most)
    kept = kept_of(text)
    assert len(kept) == count
    return plan, kept


def test_a_placement_says_which_better_nodes_were_full_and_which_were_not_open() -> None:
    """Empty nodes are the best: one of them has too little memory, one is under pressure, one in a cluster whose LC waits."""
    question = PlacementQuestion(
        pending=waiting(6000.0),
        snapshot=fleet(memory=(4096, 8192, 8192, 8192), held={3: (500, 256, 1)}),
        pressed=np.array([False, True, False, False]),
    )

    plan, (found,) = placed(question)

    assert plan.node.tolist() == [2]
    assert (found.run_id, found.request_id, found.epoch, found.policy, found.chosen) == (1, 0, 1, "load-greedy", "c2/n1")
    assert {c.node: c.refused for c in found.candidates} == {
        "c1/n1": "it was full: 6000Mi of memory asked for, 4096Mi free",
        "c1/n2": "node c1/n2 is under pressure and gets no BE",
        "c2/n1": "",
        "c2/n2": "",
    }


def test_a_request_of_a_second_pass_is_weighed_on_what_that_pass_saw() -> None:
    """It went to a cluster whose LC waits because it had given way for long enough."""
    question = PlacementQuestion(
        pending=waiting(6000.0, waited_s=70.0),
        snapshot=fleet(memory=(4096, 4096, 8192, 8192)),
        waits={"c2": LcWait(under_way=10, late=10)},
        lc_late_share=0.1,
        lc_first_s=60.0,
    )

    plan, (found,) = placed(question)

    assert plan.node.tolist() == [2]
    assert found.chosen == "c2/n1"
    assert next(c.refused for c in found.candidates if c.node == "c1/n1") == "it was full: 6000Mi of memory asked for, 4096Mi free"


def test_those_before_a_request_are_counted_in() -> None:
    """The second finds the first on what was the best node, and says so in its parts."""
    plan, (first, second) = placed(PlacementQuestion(pending=waiting(100.0, 100.0), snapshot=fleet(cpu=(4000, 3000, 2000, 2000))))

    assert plan.node.tolist() == [0, 1]
    there = next(c for c in second.candidates if c.node == "c1/n1")
    assert next(c for c in first.candidates if c.node == "c1/n1").parts["BE that is there"] == 0.0
    assert there.parts["BE that is there"] == pytest.approx(2000 / 4000)


def test_of_a_large_placement_a_few_are_kept_evenly_and_of_what_waits_on_none() -> None:
    """Eight fit, and four are kept."""
    question = PlacementQuestion(pending=waiting(*[800.0] * 40), snapshot=fleet(memory=(8192, 0, 0, 0)))

    plan, kept = placed(question)

    assert np.count_nonzero(plan.node >= 0) == 8
    assert [one.request_id for one in kept] == [0, 2, 4, 7]


def test_an_error_in_the_weighing_costs_the_decision_nothing() -> None:
    """It is logged, and nothing is kept."""

    class Broken:
        name = "broken"

        def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
            return BePlan(node=np.zeros(1, np.int32), policy=self.name)

        def weighing(self, *given: object) -> list[object]:
            raise RuntimeError("a defect")

    question, policy = PlacementQuestion(pending=waiting(100.0), snapshot=fleet()), Broken()
    plan = policy(question.pending, question.snapshot, BeSettings())
    noted = [AskedBe(policy=policy, pending=question.pending, snapshot=question.snapshot, plan=plan)]

    assert be_candidates(noted, question, plan, most=4) == ("", 0)


# ---- LC ----------------------------------------------------------------------------------------------------------------


def called(*last_node: int) -> CalledArrivals:
    """Requests of WEB that callers have sent to c1, with the node on which each has failed."""
    count = len(last_node)
    return CalledArrivals(
        request_id=np.arange(count, dtype=np.int64),
        service=np.zeros(count, np.int32),
        entry_cluster=np.zeros(count, np.int32),
        due_s=np.zeros(count),
        target_s=np.full(count, 0.1),
        cpu_work_s=np.full(count, 0.02),
        memory_mib=np.full(count, 32.0),
        epoch=np.array([0 if node < 0 else 1 for node in last_node], np.int32),
        patience_s=np.full(count, np.inf),
        last_node=np.array(last_node, np.int32),
    )


def dispatched(snapshot: FleetSnapshot, arrivals: CalledArrivals, node: int) -> Weighed:
    """What is kept of the first of these, which goes to a node, decided by dss-lc."""
    rule = LC_RULES["dss-lc"]
    plan = rule(arrivals, snapshot, LcSettings())
    plan = replace(plan, node=np.full(len(arrivals), node, np.int32))
    decided = DecidedLc(run_id=7, policy=rule, plan=plan, arrivals=arrivals, snapshot=snapshot, settings=LcSettings())
    text, count = lc_candidates(decided, most=1)
    assert count == 1
    return kept_of(text)[0]


def test_a_dispatch_says_what_the_time_of_each_instance_is_made_of() -> None:
    """One has requests in flight already: it is the dearer one by the work there."""
    snapshot = fleet(instances=(1, 1, 0, 0))
    snapshot.in_flight[0] = [3.0, 0.0, 0.0, 0.0]

    found = dispatched(snapshot, called(-1), 1)

    assert (found.run_id, found.request_id, found.epoch, found.chosen) == (7, 0, 1, "c1/n2")
    assert [c.node for c in found.candidates] == ["c1/n2", "c1/n1"]
    busy = found.candidates[1]
    assert busy.parts["work already there"] == pytest.approx(0.06)
    assert busy.parts["its own work"] == pytest.approx(0.02)
    assert busy.figures["requests in flight there"] == 3.0
    assert found.limit == 0.1


def test_a_call_that_failed_goes_elsewhere_and_says_so() -> None:
    """Not to the best node, on which it was before."""
    snapshot = fleet(instances=(1, 1, 0, 0))
    snapshot.in_flight[0] = [0.0, 1.0, 0.0, 0.0]

    found = dispatched(snapshot, called(0), 1)

    assert (found.chosen, found.epoch) == ("c1/n2", 2)
    assert found.moved == "it had failed on c1/n1, which was the best, the time before"


def test_a_line_that_carries_no_more_is_why_a_better_cluster_was_not_taken() -> None:
    """The capacity of a link in the flow: what a batch sends over it within the target."""
    snapshot = fleet(instances=(1, 0, 1, 0))
    services = tuple(replace(s, payload_kib=1000.0) if s.name == "web" else s for s in snapshot.services)
    narrow = np.full((2, 2), 100.0)  # 1,000 KiB take 82 ms, and the target is 100 ms
    np.fill_diagonal(narrow, np.inf)
    snapshot = replace(snapshot, services=services, bandwidth_mbit_per_s=narrow, rtt_ms=np.full((2, 2), 0.1))
    snapshot.in_flight[0] = [6.0, 0.0, 0.0, 0.0]
    rule, arrivals = LC_RULES["dss-lc"], replace(called(-1, -1), target_s=np.full(2, 0.2))
    plan = rule(arrivals, snapshot, LcSettings())
    decided = DecidedLc(run_id=7, policy=rule, plan=plan, arrivals=arrivals, snapshot=snapshot, settings=LcSettings())

    first, second = kept_of(lc_candidates(decided, most=2)[0])

    assert (first.chosen, second.chosen) == ("c2/n1", "c1/n1")
    assert second.candidates[0].node == "c2/n1"
    assert second.candidates[0].refused == "the line to c2 carried no more of its batch within the target"
