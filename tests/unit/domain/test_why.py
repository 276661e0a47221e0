"""Why requests stand where they stand, state by state; what waits for a node has its own file."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from tango.domain.explanation import DeferredResize, Known, LcFacts, RequestStanding
from tango.domain.identity import NodeKey, RequestKey
from tango.domain.observations import InstanceState
from tango.domain.placement_question import changed_snapshot
from tango.domain.reasons import OF_STATE, StateReason
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import RefusalState
from tango.domain.requests import LcArrivals, RequestState
from tango.domain.runs import RunStatus
from tango.domain.services import ServiceClass
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.domain.why import explain
from tango.settings import LcSettings
from tango.systems import LC_FALLBACK
from tests.fakes.waiting_worlds import fleet

LC, BE = ServiceClass.LC, ServiceClass.BE


def standing(state: RequestState, of: ServiceClass = LC, **told: object) -> RequestStanding:
    """A request that entered at c1 and is due at second 10 of its run, where it is second 11."""
    is_lc = of is LC
    fields = {
        "key": RequestKey(1, 4711),
        "service_class": of,
        "service": "web" if is_lc else "batch",
        "state": state,
        "entry_cluster": "c1",
        "cluster": "c2",
        "node": "n1",
        "pod": "" if is_lc else "be-r1-4711-e1",
        "due_s": 10.0,
        "now_s": 11.0,
        "target_s": 0.1 if is_lc else None,
    }
    return RequestStanding(**fields | told)  # type: ignore[arg-type]


def instance(node: str, *, ready: bool) -> InstanceState:
    """Of WEB."""
    return InstanceState(
        pod=f"lc-web-{node}-0",
        uid="u",
        service="web",
        node=node,
        pod_ip="",
        port=80,
        ready=ready,
        cpu_request_millicores=100,
        cpu_limit_millicores=1000,
        memory_limit_mib=128,
    )


def dispatched(snapshot: FleetSnapshot) -> bool:
    """Whether the live fallback dispatches a request of WEB that entered at c1."""
    one = np.zeros(1)
    arrival = LcArrivals(
        request_id=np.zeros(1, np.int64),
        service=np.zeros(1, np.int32),
        entry_cluster=np.zeros(1, np.int32),
        due_s=one,
        target_s=one + 0.1,
        cpu_work_s=one + 0.02,
        memory_mib=one + 32,
        epoch=np.zeros(1, np.int32),
    )
    return bool(LC_FALLBACK(arrival, snapshot, LcSettings()).node[0] >= 0)


def test_every_state_has_exactly_one_reason_and_it_is_one_of_its_own() -> None:
    """Whatever else is known or not: about the service, its cluster, its run."""
    for of, states in OF_STATE.items():
        for state, status, declared, away, is_begun in product(
            states, (RunStatus.RUNNING, RunStatus.CANCELLING), (True, False), ({}, {"c1": 9.0}, {"c2": 9.0}), (True, False)
        ):
            of_run = standing(state, of, run_status=status, now_s=11.0 if is_begun else None)
            facts = LcFacts(snapshot=fleet(instances=(1, 0, 0, 0))) if of is LC else None
            found = explain(Known(standing=of_run, is_declared=declared, away_s=away, lc=facts))

            assert found.reason in states[state]
            assert found.words
            assert not found.words.endswith(".")


@pytest.mark.parametrize("of", [LC, BE])
def test_what_is_accepted_waits_for_its_run_or_its_due_time(of: ServiceClass) -> None:
    """The amount is the time that is left."""
    accepted = standing(RequestState.ACCEPTED, of, now_s=None)
    before, early, due = (explain(Known(standing=replace(accepted, now_s=now_s))) for now_s in (None, 7.5, 10.0))

    assert before.reason is StateReason.RUN_NOT_STARTED
    assert (early.reason, early.would_change) == (StateReason.NOT_DUE_YET, "2.5 s have passed")
    assert due.reason is StateReason.ABOUT_TO_BE_RELEASED


@pytest.mark.parametrize(("of", "words"), [(LC, "a worker of c1 (queue lc.c1)"), (BE, "the replay worker (queue replay)")])
def test_what_nobody_releases_tells_which_worker_is_missing(of: ServiceClass, words: str) -> None:
    """A cluster without a worker is silent otherwise: its agent is heard of, and its nodes are ready."""
    found = explain(Known(standing=standing(RequestState.ACCEPTED, of, now_s=47.0)))

    assert found.reason is StateReason.UNCLAIMED
    assert f"it was due 37 s ago and waits for {words}" in found.words


def test_lc_of_a_cluster_that_is_away_is_known_only_as_of_then() -> None:
    """Its rows are in the cluster's journal; nobody can tell more at the centre."""
    for state, cluster in ((RequestState.RELEASED, "c1"), (RequestState.RUNNING, "c2")):
        found = explain(Known(standing=standing(state), away_s={cluster: 12.0}))

        assert found.reason is StateReason.CLUSTER_AWAY
        assert f"{cluster}, which has not been heard of for 12 s; what is known of it is as old" in found.words


def test_be_in_a_cluster_that_is_away_runs_on() -> None:
    """Its lease is not held against it."""
    found = explain(Known(standing=standing(RequestState.RUNNING, BE), away_s={"c2": 12.0}))

    assert (found.reason, found.would_change) == (StateReason.CLUSTER_AWAY, "cluster c2 is back")
    assert "its pod runs on there" in found.words


@pytest.mark.parametrize(
    ("snapshot", "instances", "reason", "change"),
    [
        (fleet(), (), StateReason.NO_INSTANCE_READY, "an instance of web is ready on c1/n1"),
        (
            fleet(),
            (("c2", instance("n2", ready=False)), ("c1", instance("n2", ready=False))),
            StateReason.INSTANCE_NOT_READY,
            "an instance of web is ready on c1/n2",
        ),
        (
            fleet(instances=(0, 0, 1, 0), ready=(True, True, False, True)),
            (("c2", instance("n1", ready=True)),),
            StateReason.NODE_NOT_READY,
            "node c2/n1 is ready",
        ),
        (
            fleet(ready=(True, False, True, True)),
            (("c1", instance("n2", ready=False)),),
            StateReason.INSTANCE_NOT_READY,
            "node c1/n2 is ready, and an instance of web is ready on c1/n2",
        ),
    ],
)
def test_lc_waits_for_an_instance_that_is_ready(
    snapshot: FleetSnapshot, instances: tuple[tuple[str, InstanceState], ...], reason: StateReason, change: str
) -> None:
    """In its own cluster first. With the change the dispatch that is used live sends it, without it not."""
    facts = LcFacts(snapshot=snapshot, instances=instances)
    found = explain(Known(standing=standing(RequestState.RELEASED), lc=facts))
    for one in found.changes:
        assert not dispatched(snapshot)
        snapshot = changed_snapshot(snapshot, one)

    assert (found.reason, found.would_change) == (reason, change)
    assert dispatched(snapshot)


def test_lc_with_a_ready_instance_is_dispatched_next_or_behind_others_in_a_crowd() -> None:
    """A crowd is more than a few late requests in its cluster."""
    facts = LcFacts(snapshot=fleet(instances=(1, 0, 0, 0)))
    next_one = explain(Known(standing=standing(RequestState.RELEASED), lc=facts))
    behind = explain(Known(standing=standing(RequestState.RELEASED), lc=replace(facts, wait=LcWait(under_way=90, late=30))))

    assert next_one.reason is StateReason.ABOUT_TO_BE_DISPATCHED
    assert behind.reason is StateReason.BEHIND_IN_QUEUE
    assert behind.words.startswith("90 LC requests are under way in its cluster, 30 of them late")


def test_a_policy_that_looks_at_home_alone_needs_an_instance_there() -> None:
    """Though another cluster has one."""
    facts = LcFacts(snapshot=fleet(instances=(0, 0, 1, 0)), instances=(("c2", instance("n1", ready=True)),), home_only=True)
    found = explain(Known(standing=standing(RequestState.RELEASED), lc=facts))

    assert found.reason is StateReason.NO_INSTANCE_READY
    assert "in c1, where alone its policy looks" in found.words


def test_what_nodes_refuse_of_instances_is_told_in_their_words() -> None:
    """Why there is no instance."""
    refused = RefusalState(
        cluster="c1",
        service="web",
        node="n1",
        role="agent",
        kind=RefusalKind.NODE,
        words="ErrImagePull",
        times=3,
        since_s=0.0,
        left_s=1.0,
    )
    found = explain(Known(standing=standing(RequestState.RELEASED), refusals=(refused,), lc=LcFacts(snapshot=fleet())))

    assert found.words == "there is no instance of web; c1/n1 refuses them, node: ErrImagePull"


@pytest.mark.parametrize("state", [RequestState.DISPATCHED, RequestState.RUNNING])
def test_a_resize_that_its_node_has_no_room_for_is_told_with_wanted_and_actual(state: RequestState) -> None:
    """What is missing is the difference less what is free."""
    resize = DeferredResize(
        pod="lc-web-n1-0",
        node=NodeKey("c2", "n1"),
        wanted_request_millicores=900,
        actual_request_millicores=300,
        actual_limit_millicores=3000,
        free_millicores=250,
    )
    found = explain(Known(standing=standing(state), lc=LcFacts(snapshot=fleet(), resize=resize)))

    assert found.reason is StateReason.RESIZE_DEFERRED
    assert found.words == "instance lc-web-n1-0 is to request 900m of CPU and has 300m; 250m is free on c2/n1"
    assert found.would_change == "350m more cpu is free on c2/n1"


def test_a_pod_that_has_not_started_says_why_if_kubernetes_does() -> None:
    """In its words."""
    placed = standing(RequestState.PLACED, BE)
    starting, waits = (explain(Known(standing=placed, pod_waits=words)) for words in ("", "main: ImagePullBackOff"))

    assert (starting.reason, starting.words) == (StateReason.POD_STARTING, "it waits for node c2/n1 to start its pod")
    assert (waits.reason, waits.words) == (StateReason.POD_WAITS, "main: ImagePullBackOff")


@pytest.mark.parametrize(
    ("state", "told", "reason", "words"),
    [
        (RequestState.SUCCEEDED, {"finished_s": 10.05}, StateReason.SUCCEEDED, "it was served"),
        (
            RequestState.SUCCEEDED,
            {"finished_s": 10.35},
            StateReason.LATE,
            "it was answered 0.250 s after its target of 0.100 s",
        ),
        (RequestState.FAILED, {"reason": "timed-out"}, StateReason.FAILED, "it failed: timed-out"),
        (
            RequestState.SHED,
            {"reason": "target-unreachable"},
            StateReason.SHED,
            "it was given up, because no answer would have come in time: target-unreachable",
        ),
        (RequestState.CANCELLED, {"reason": "caller-gone"}, StateReason.CANCELLED, "it was cancelled: caller-gone"),
    ],
)
def test_what_has_ended_says_how(state: RequestState, told: dict[str, object], reason: StateReason, words: str) -> None:
    """With the reason that was recorded, also in a run that is cancelled."""
    found = explain(Known(standing=standing(state, run_status=RunStatus.CANCELLING, **told)))

    assert (found.reason, found.words) == (reason, words)
