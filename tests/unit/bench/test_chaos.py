"""`tango bench chaos` keeps its books right: what cannot be is seen, and what may be is not taken for it."""

from __future__ import annotations

from typing import Any

import pytest

from tango.bench.chaos.books import BothBooks, orphans, overcommitted, running_twice, wrong
from tango.bench.chaos.faults import faults
from tango.bench.chaos.trials import back_after, measure
from tango.errors import ConfigError


def look(states: dict[int, str], *, held: set[int], handed_to: int = 9, succeeded: tuple[tuple[int, int], ...] = ()) -> BothBooks:
    """Of one cluster, where all entered."""
    return BothBooks(state=states, held={"c1": held}, share={"c1": (handed_to, set(states))}, succeeded=succeeded)


def test_books_that_are_right_say_nothing() -> None:
    """What a journal has may move on; what it has given away has ended; what it has not taken yet is the centre's."""
    before = look({1: "released", 2: "running", 3: "accepted"}, held={1, 2}, handed_to=2)
    now = look({1: "running", 2: "succeeded", 3: "accepted"}, held={1}, handed_to=2, succeeded=((2, 1),))

    assert wrong(before, now) == []


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (None, look({1: "running"}, held=set()), "neither the journal of c1 nor the centre has requests [1]"),
        (None, look({1: "succeeded"}, held=set(), succeeded=((1, 1), (1, 2))), "requests [1] succeeded twice"),
        (look({1: "failed"}, held=set()), look({1: "succeeded"}, held=set()), "requests [1] changed after their end"),
        (look({1: "failed", 2: "failed"}, held=set()), look({1: "failed"}, held=set()), "2 requests became 1"),
    ],
)
def test_what_cannot_be_is_told(before: BothBooks | None, now: BothBooks, words: str) -> None:
    """Lost, doubled, changed after its end, gone."""
    assert words in wrong(before, now)


def pod(name: str, *, request: int, phase: str = "Running", kind: str = "be", cpu: str = "500m") -> dict[str, Any]:
    """As an API server has it."""
    labels = {"tango/class": kind, "tango/run": "1", "tango/request": str(request)}
    container = {"name": "main", "resources": {"requests": {"cpu": cpu}}}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "n1", "containers": [container]},
        "status": {"phase": phase},
    }


def test_two_pods_of_one_request_are_seen_across_clusters() -> None:
    """One that has ended, or not begun, is none that runs."""
    first, second = pod("be-1-e1", request=1), pod("be-1-e2", request=1)
    others = [pod("be-2-e1", request=2, phase="Succeeded"), pod("be-2-e2", request=2)]

    assert running_twice({"c1": ([], [first]), "c2": ([], [second, *others])}) == {"1/1": {"c1/be-1-e1", "c2/be-1-e2"}}
    assert orphans({"c1": ([], [first, pod("web-1", request=0, kind="lc")])}) == ["c1/be-1-e1"]


def test_a_node_with_more_than_it_has_is_seen() -> None:
    """By what its pods ask for; those that have ended hold nothing."""
    node = {"metadata": {"name": "n1"}, "status": {"allocatable": {"cpu": "1"}}}
    pods = [pod(f"be-{k}-e1", request=k) for k in range(2)]

    assert overcommitted("c1", [node], [*pods, pod("be-9-e1", request=9, phase="Failed")]) == []
    assert overcommitted("c1", [node], [*pods, pod("be-9-e1", request=9)]) == ["pods on c1/n1 ask for 1500 of 1000 millicores"]


def test_time_to_be_well_again_counts_from_the_first_request_that_all_after_it_are_in_time() -> None:
    """Of requests from second 0 on, one every tenth: those due in the first two seconds after second 5 are late."""
    rows = [(k / 10, not 50 <= k < 70) for k in range(300)]

    # A twentieth may be late, so that it is a little less than two seconds.
    assert back_after(rows, 5.0) == pytest.approx(0.8, abs=0.2)
    assert back_after(rows, 7.0) == 0.0
    assert back_after([(due_s, False) for due_s, _ in rows], 5.0) == float("inf")


def test_a_fault_that_is_not_known_is_refused_with_those_that_are() -> None:
    """Before anything is started."""
    with pytest.raises(ConfigError, match="no fault 'rain'; known are: 100 kills, agent stands still"):
        measure(names=["rain"])


def test_faults_of_one_cluster_say_so() -> None:
    """Their neighbours' figures are then compared with those without a fault."""
    alone = {fault.name for fault in faults(5, "c1") if fault.cluster}

    assert {"agent stands still", "API server stands still", "API server slow"} <= alone
    assert not {"5 kills", "scheduler stands still", "line cut"} & alone
