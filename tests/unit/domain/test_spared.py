"""Why BE pods stay where another one is evicted."""

from __future__ import annotations

from tango.domain.identity import NodeKey
from tango.domain.plans import Eviction
from tango.domain.spared import MOST_TOLD, with_spared

HERE, THERE = NodeKey("c1", "n1"), NodeKey("c1", "n2")


def pod(number: int, *, node: NodeKey = HERE, lost_s: float = 0.0) -> Eviction:
    """A BE pod that might go."""
    return Eviction(
        cluster=node.cluster,
        node=node.name,
        pod=f"be-r1-{number}-e1",
        run_id=1,
        request_id=number,
        epoch=1,
        work_lost_s=lost_s,
        service="batch",
    )


def test_each_pod_that_stays_is_told_with_its_reason() -> None:
    """One leaves already, one has nothing of what was short, one would lose more, one never goes; what is elsewhere is not told."""
    leaving, first, second, third = pod(1), pod(2), pod(3, lost_s=1.0), pod(4, lost_s=9.0)
    evictable = {HERE: [leaving, first, second, third], THERE: [pod(5, node=THERE)]}
    never = {HERE: [("be-r1-6-e1", "batch-that-stays")]}

    (gone,) = with_spared([second], evictable, never, leaving={leaving.pod_key})

    assert [(spared.pod, spared.why) for spared in gone.spared] == [
        (leaving.pod, "it is leaving already, as its room is counted"),
        (first.pod, "it holds nothing of what was short"),
        (third.pod, "those that went were enough, and lose no more than it would"),
        ("be-r1-6-e1", "pods of its service are never evicted"),
    ]
    assert gone.spared[2].work_lost_s == 9.0


def test_those_who_go_together_are_not_told_as_spared() -> None:
    """Each is told of the same pods that stay; on a node where all go, of none."""
    evictable = {HERE: [pod(1), pod(2), pod(3)], THERE: [pod(4, node=THERE)]}

    gone = with_spared([pod(1), pod(2), pod(4, node=THERE)], evictable, {}, leaving=())

    assert [[spared.pod for spared in one.spared] for one in gone] == [["be-r1-3-e1"], ["be-r1-3-e1"], []]


def test_of_a_crowded_node_the_nearest_to_going_are_told() -> None:
    """A row stays small however many pods there are."""
    (gone,) = with_spared([pod(0)], {HERE: [pod(n) for n in range(100)]}, {}, leaving=())

    assert [spared.pod for spared in gone.spared] == [f"be-r1-{n}-e1" for n in range(1, MOST_TOLD + 1)]
