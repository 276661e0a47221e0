"""What a pod that is resized in place requests of its node."""

from __future__ import annotations

from typing import Any

import pytest

from tango.domain.resized_pods import as_counted

Json = dict[str, Any]


def pod(asked: str, *, allocated: str = "", actual: str = "", conditions: list[Json] | None = None) -> Json:
    """Of one container that asks for so much CPU, with what its kubelet reports."""
    status: Json = {"name": "app"}
    if allocated:
        status["allocatedResources"] = {"cpu": allocated, "memory": "64Mi"}
    if actual:
        status["resources"] = {"requests": {"cpu": actual, "memory": "64Mi"}}
    container = {"name": "app", "resources": {"requests": {"cpu": asked, "memory": "64Mi"}, "limits": {"cpu": "9"}}}
    return {"spec": {"containers": [container]}, "status": {"containerStatuses": [status], "conditions": conditions or []}}


INFEASIBLE = [{"type": "PodResizePending", "reason": "Infeasible"}]


@pytest.mark.parametrize(
    ("found", "counts"),
    [
        (pod("1"), "1"),
        (pod("1", allocated="1", actual="1000m"), "1"),
        (pod("500m", allocated="1", actual="1"), "1"),
        (pod("500m", allocated="500m", actual="1"), "1"),
        (pod("2", allocated="1", actual="1"), "2"),
        (pod("64", allocated="1", actual="1", conditions=INFEASIBLE), "1"),
        (pod("2", allocated="1", actual="1", conditions=[{"type": "PodResizePending", "reason": "Deferred"}]), "2"),
        (pod("64", conditions=INFEASIBLE), "64"),
    ],
)
def test_the_most_of_what_is_asked_for_allocated_and_in_effect_counts(found: Json, counts: str) -> None:
    """As kube-scheduler counts it: a smaller size frees nothing before it is in effect, and one that can never be is none."""
    container = as_counted(found)["spec"]["containers"][0]

    assert container["resources"]["requests"] == {"cpu": counts, "memory": "64Mi"}
    assert container["resources"]["limits"] == {"cpu": "9"}


def test_a_pod_that_nobody_resizes_is_given_back_as_it_is() -> None:
    """Nearly all of them are, and there are thousands."""
    found = pod("1", allocated="1", actual="1")

    assert as_counted(found) is found
    assert as_counted({"spec": {"containers": []}}) == {"spec": {"containers": []}}


def test_a_pod_with_resources_as_a_whole_is_counted_so() -> None:
    """`spec.resources`, which may be resized too."""
    found = pod("1")
    found["spec"]["resources"] = {"requests": {"cpu": "1"}}
    found["status"] |= {"allocatedResources": {"cpu": "3"}, "resources": {"requests": {"cpu": "2"}}}

    assert as_counted(found)["spec"]["resources"]["requests"] == {"cpu": "3"}
