"""Why a BE request waits for a node: obstacles before shortages, amounts that are just enough, and those who come first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tango.domain.changes import Change, ChangeKind, halved
from tango.domain.explanation import Explanation, Known
from tango.domain.placement_question import PlacementQuestion
from tango.domain.reasons import StateReason
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Pauses, RefusalState
from tango.domain.shares import LcWait
from tango.domain.why import explain
from tests.fakes.waiting_worlds import BATCH, DEVICES, GPU, fleet, known, place, waiting

FULL = {node: (4000.0, 8192.0, 110.0) for node in range(4)}
BUT_MEMORY = {node: (0.0, 8192.0 - 100.0, 1.0) for node in range(4)}


def is_placed(of: Known, changes: tuple[Change, ...]) -> bool:
    """Whether the decision places the request with these changes."""
    assert of.pending is not None
    assert of.pending.mine is not None
    mine = of.pending.mine
    question = of.pending.question.with_changes(changes, mine)
    return bool(place(question)[question.row(int(mine.run_id[0]), int(mine.request_id[0]))] >= 0)


def told(of: Known) -> Explanation:
    """The explanation, whose stated changes are tried out: enough, and half of their amounts are not."""
    found = explain(of, place)
    if found.changes:
        assert not is_placed(of, ())
        assert is_placed(of, found.changes)
        assert not any(change.has_amount for change in found.changes) or not is_placed(of, halved(found.changes))
    return found


def refused(kind: RefusalKind, *, left_s: float = 8.0, cluster: str = "c1", node: str = "") -> RefusalState:
    """A refusal that pauses BATCH, or the cluster, by its kind."""
    service = BATCH.name if kind.is_of_service else ""
    return RefusalState(
        cluster=cluster, service=service, node=node, role="scheduler", kind=kind, words="no", times=1, since_s=0.0, left_s=left_s
    )


def test_what_has_room_is_about_to_be_placed() -> None:
    """Nothing keeps it, so nothing would change it."""
    found = told(known(PlacementQuestion(pending=waiting(256), snapshot=fleet())))

    assert (found.reason, found.changes) == (StateReason.ABOUT_TO_BE_PLACED, ())
    assert found.queue is not None
    assert (found.queue.position, found.queue.ahead) == (1, ())


def test_memory_that_is_missing_is_told_to_the_mib_on_the_node_where_the_least_is() -> None:
    """With what it needs and what is there."""
    held = BUT_MEMORY | {2: (0.0, 8192.0 - 200.0, 1.0)}
    found = told(known(PlacementQuestion(pending=waiting(256), snapshot=fleet(held=held))))

    assert found.reason is StateReason.WAITING_FOR_MEMORY
    assert found.words == "it needs 256Mi of memory, and 200Mi is free on c2/n1"
    assert found.would_change == "56Mi more memory is free on c2/n1"
    assert found.figures["free memory there"] == "200Mi"


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ((3800.0, 0.0, 1.0), StateReason.WAITING_FOR_CPU),
        ((0.0, 0.0, 110.0), StateReason.WAITING_FOR_PODS),
        ((3800.0, 8192.0, 110.0), StateReason.WAITING_FOR_CPU),
    ],
)
def test_the_first_resource_that_is_missing_names_the_reason(held: tuple[float, float, float], reason: StateReason) -> None:
    """CPU before memory before pods; the change has all that is missing."""
    found = told(known(PlacementQuestion(pending=waiting(256), snapshot=fleet(held=dict.fromkeys(range(4), held)))))

    assert found.reason is reason
    assert {change.resource for change in found.changes} == {
        name for name, amount, most in zip(("cpu", "memory", "pods"), held, (3500, 8192 - 256, 109), strict=True) if amount > most
    }


def test_a_device_that_others_hold_is_waited_for() -> None:
    """Only the nodes that have one at all could hold it."""
    snapshot = fleet(devices=(0, 1000, 0, 0))
    snapshot.be_requests[3, 1] = 1000.0
    found = told(known(PlacementQuestion(pending=waiting(256, service=DEVICES), snapshot=snapshot)))

    assert (found.reason, found.would_change) == (StateReason.WAITING_FOR_DEVICE, f"1 more {GPU} is free on c1/n2")


def test_where_a_network_decides_what_is_told_holds_wherever_those_before_it_go() -> None:
    """The second of two requests lacks memory; the first, which load-greedy puts elsewhere, might take what is freed. So that it is first
    in line belongs to the change, unless there is room for both."""
    full = (0.0, 8192.0, 1.0)
    held = {0: (0.0, 8192.0 - 256.0, 1.0), 1: (0.0, 8192.0 - 200.0, 1.0), 2: full, 3: full}
    question = PlacementQuestion(pending=waiting(256, 300), snapshot=fleet(held=held))
    known_to_ask, stood_for = known(question, row=1), known(question, row=1)
    assert stood_for.pending is not None
    stood_for = replace(stood_for, pending=replace(stood_for.pending, is_stood_for=True))

    asked, unasked = told(known_to_ask), told(stood_for)

    assert [change.kind for change in asked.changes] == [ChangeKind.HEADROOM]
    assert ChangeKind.FIRST_IN_LINE in [change.kind for change in unasked.changes]


def test_what_no_node_could_ever_hold_fits_no_node() -> None:
    """However empty the fleet: a larger node would hold it."""
    found = told(known(PlacementQuestion(pending=waiting(9000), snapshot=fleet())))

    assert found.reason is StateReason.FITS_NO_NODE
    assert found.would_change == "808Mi more memory is free on c1/n1"


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        (
            {"snapshot": fleet(ready=(False, False, True, True), held=FULL | {0: (0, 0, 0)})},
            StateReason.NODE_NOT_READY,
            "node c1/n1 is ready",
        ),
        (
            {
                "snapshot": fleet(ready=(False, False, True, True), held=FULL | {0: (0, 0, 0)}),
                "away": frozenset({"c1"}),
                "told_ready": np.ones(4, np.bool_),
            },
            StateReason.CLUSTER_AWAY,
            "cluster c1 is back",
        ),
        (
            {
                "snapshot": fleet(
                    barred=np.array([[False] * 4, [True, False, False, False], [False] * 4]), held=FULL | {0: (0, 0, 0)}
                )
            },
            StateReason.NODE_CLOSED,
            "node c1/n1 takes pods of batch",
        ),
        ({"pauses": Pauses((refused(RefusalKind.QUOTA),))}, StateReason.OVER_QUOTA, "c1 takes one more pod of batch"),
        ({"pauses": Pauses((refused(RefusalKind.PERMISSION),))}, StateReason.CLUSTER_REFUSES, "c1 takes one more pod"),
        ({"pauses": Pauses((refused(RefusalKind.THROTTLED),))}, StateReason.BACKING_OFF, "8.0 s have passed"),
        ({"pressed": np.array([True, False, False, False])}, StateReason.NODE_PRESSED, "c1/n1 is under pressure no more"),
        (
            {"waits": {"c1": LcWait(under_way=40, late=9)}, "lc_late_share": 0.1, "lc_first_s": 60.0},
            StateReason.LC_FIRST,
            "5 fewer LC requests are late in c1",
        ),
    ],
)
def test_an_obstacle_on_the_node_with_room_is_the_reason(change: dict[str, object], reason: StateReason, words: str) -> None:
    """Not the shortage on the others: the obstacle is what would have to go."""
    question = PlacementQuestion(pending=waiting(256), snapshot=fleet(held=FULL | {0: (0, 0, 0)}))
    found = told(known(replace(question, **change)))  # type: ignore[arg-type]

    assert (found.reason, found.would_change) == (reason, words)


def test_of_several_nodes_with_room_the_one_with_the_fewest_obstacles_is_told() -> None:
    """Then by precedence: a quota before a pause."""
    pauses = Pauses((refused(RefusalKind.UNREACHABLE, cluster="c1"), refused(RefusalKind.QUOTA, cluster="c2")))
    pressed = np.array([False, False, True, False])
    found = told(known(PlacementQuestion(pending=waiting(256), snapshot=fleet(), pauses=pauses, pressed=pressed)))

    assert found.reason is StateReason.OVER_QUOTA
    assert found.would_change == "c2 takes one more pod of batch"


def test_two_pauses_of_a_node_are_over_with_the_longer_one() -> None:
    """One time is told, not their sum."""
    held = FULL | {0: (0, 0, 0)}
    pauses = Pauses((refused(RefusalKind.THROTTLED, left_s=3.0), refused(RefusalKind.NODE, node="n1", left_s=5.0)))
    found = told(known(PlacementQuestion(pending=waiting(256), snapshot=fleet(held=held), pauses=pauses)))

    assert (found.reason, found.would_change) == (StateReason.BACKING_OFF, "5.0 s have passed")


def test_who_comes_first_and_takes_what_there_is_is_the_reason_where_room_would_be_there() -> None:
    """Its place, the nearest before it, and the rule."""
    held = FULL | {0: (0.0, 8192.0 - 600.0, 1.0)}
    found = told(known(PlacementQuestion(pending=waiting(256, 256, 256), snapshot=fleet(held=held))))

    assert (found.reason, found.would_change) == (StateReason.BEHIND_IN_QUEUE, "it is first in line")
    assert found.queue is not None
    assert (found.queue.position, [str(key) for key in found.queue.ahead]) == (3, ["1-0", "1-1"])
    assert found.queue.rule.startswith("the oldest due time first")


def test_where_others_would_take_what_was_freed_it_would_have_to_be_first_too() -> None:
    """Both are needed, and both are told."""
    held = FULL | {0: (0.0, 8192.0 - 200.0, 1.0)}
    found = told(known(PlacementQuestion(pending=waiting(256, 256), snapshot=fleet(held=held))))

    assert found.reason is StateReason.WAITING_FOR_MEMORY
    assert found.would_change == "it is first in line, and 56Mi more memory is free on c1/n1"


def test_one_behind_all_that_are_considered_waits_for_its_turn() -> None:
    """A full batch is looked at before it; how many more stand between is counted."""
    batch = waiting(256, 256, 256)
    question = PlacementQuestion(pending=batch.rows(np.array([0, 1], np.intp)), snapshot=fleet())
    last = known(replace(question, pending=batch))
    assert last.pending is not None
    behind = replace(last, pending=replace(last.pending, question=question, waiting_before=5))

    found = explain(behind, place)

    assert found.reason is StateReason.BEHIND_IN_QUEUE
    assert found.queue is not None
    assert (found.queue.position, found.queue.considered) == (8, 2)


def test_a_policy_that_looks_at_home_alone_finds_no_room_elsewhere() -> None:
    """c2 is empty, and does not count for a request that entered at c1."""
    held = {0: (4000.0, 0.0, 1.0), 1: (3900.0, 0.0, 1.0)}
    question = PlacementQuestion(pending=waiting(256), snapshot=fleet(held=held))

    assert explain(known(question)).reason is StateReason.ABOUT_TO_BE_PLACED
    found = explain(known(question, home_only=True))
    assert (found.reason, found.would_change) == (StateReason.WAITING_FOR_CPU, "400m more cpu is free on c1/n2")


def test_without_a_decision_to_ask_the_change_is_told_untried() -> None:
    """As by whoever must not load a policy; the amounts are those of the fleet as it is."""
    question = PlacementQuestion(pending=waiting(256, 256), snapshot=fleet(held=BUT_MEMORY))
    found = explain(known(question))

    assert found.would_change == "156Mi more memory is free on c1/n1"


def test_a_change_that_is_no_matter_of_placement_is_refused() -> None:
    """Its name is in the message."""
    question = PlacementQuestion(pending=waiting(256), snapshot=fleet())

    with pytest.raises(ValueError, match="service batch is declared again is no change"):
        question.with_changes([Change(kind=ChangeKind.SERVICE_DECLARED, service="batch")], question.pending)
