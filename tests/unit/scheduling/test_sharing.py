"""Sharing of a node: LC grows while it is short of slack and shrinks when it is not, and BE gives way, never the node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.domain.identity import NodeKey, PodKey
from tango.domain.observations import InstanceState
from tango.domain.plans import Eviction, RefusedResize, Resize, SharingPlan
from tango.domain.services import Service, ServiceClass
from tango.scheduling.sharing import STEP_MILLICORES, NodeCapacity, Tail, common_rule, plan_sharing
from tango.settings import SharingSettings

SETTINGS = SharingSettings(
    min_samples=5, grow_below=0.2, shrink_above=0.7, grow_factor=1.5, shrink_factor=0.8, hold_s=3.0, shrink_hold_s=10.0
)
NOW_S = 1000.0
N1 = NodeKey("c1", "n1")
WEB_POD = PodKey("c1", "lc-web-n1-0")
WEB = Service(
    name="web",
    service_class=ServiceClass.LC,
    cpu_work_s=0.02,
    memory_mib=32,
    target_ms=100.0,
    instance_memory_mib=128,
    cpu_request_millicores=500,
    cpu_limit_millicores=1000,
)
CHAT = replace(WEB, name="chat")
CALM_MS = 55.0
"""A tail with which an instance stays as it is."""
BATCH = Service(name="batch", service_class=ServiceClass.BE, cpu_work_s=5.0, memory_mib=256)
SERVICES = {s.name: s for s in (WEB, CHAT, BATCH)}


def instance(
    service: str = "web", *, limit: int = 1000, request: int = 500, node: str = "n1", k: int = 0, ready: bool = True
) -> InstanceState:
    """One of a service on a node; declared are a limit of 1000 and a request of half of it."""
    return InstanceState(
        pod=f"lc-{service}-{node}-{k}",
        uid="u",
        service=service,
        node=node,
        pod_ip="10.0.0.1",
        port=8080,
        ready=ready,
        cpu_request_millicores=request,
        cpu_limit_millicores=limit,
        memory_limit_mib=128,
    )


def capacity(cpu: int = 8000, *, be: int = 0, evictable: Sequence[tuple[Eviction, int]] = ()) -> NodeCapacity:
    """A node of 8 cores with some requested by BE."""
    return NodeCapacity(
        cpu_allocatable_millicores=cpu,
        be_cpu_request_millicores=be,
        be_evictable=tuple(evictable),
    )


def eviction(request_id: int) -> Eviction:
    """Of one BE pod."""
    return Eviction(
        cluster="c1", node="n1", pod=f"be-{request_id}", run_id=1, request_id=request_id, epoch=1, work_lost_s=request_id
    )


def tail(latency_ms: float, *, samples: int = 5, service: str = "web", node: str = "n1") -> dict[tuple[str, NodeKey], Tail]:
    """What was measured at c1; the target is 100 ms."""
    return {(service, NodeKey("c1", node)): Tail(latency_ms=latency_ms, samples=samples)}


def plan(
    *instances: InstanceState,
    tails: Mapping[tuple[str, NodeKey], Tail],
    node: NodeCapacity | None = None,
    changed_s: Mapping[PodKey, float] | None = None,
    settings: SharingSettings = SETTINGS,
) -> SharingPlan:
    """One round on node n1."""
    return plan_sharing(SERVICES, [("c1", i) for i in instances], tails, {N1: node or capacity()}, changed_s or {}, NOW_S, settings)


def limits(found: SharingPlan) -> list[tuple[str, int]]:
    """(pod, new limit) of the resizes."""
    return [(r.pod, r.cpu_limit_after_millicores) for r in found.resizes]


# ---- growing -----------------------------------------------------------------------------------------------------------


def test_an_instance_short_of_slack_grows_by_a_factor() -> None:
    """With a tenth of its target left it gets half as much again, and asks for its declared share of that."""
    found = plan(instance(), tails=tail(90.0))

    assert found == SharingPlan(
        resizes=(
            Resize(
                cluster="c1",
                node="n1",
                pod="lc-web-n1-0",
                service="web",
                cpu_limit_before_millicores=1000,
                cpu_limit_after_millicores=1500,
                cpu_request_after_millicores=750,
                slack=pytest.approx(0.1),
                reason="grow",
            ),
        )
    )


@pytest.mark.parametrize(("latency_ms", "after"), [(81.0, 1500), (100.0, 1500), (200.0, 3000), (250.0, 3750), (900.0, 4000)])
def test_growth_covers_the_backlog_that_made_the_tail(latency_ms: float, after: int) -> None:
    """Twice the target takes twice the factor; no step is larger than four times the limit."""
    assert limits(plan(instance(), tails=tail(latency_ms))) == [("lc-web-n1-0", after)]


@pytest.mark.parametrize("latency_ms", [79.0, 55.0, 31.0])
def test_between_the_thresholds_nothing_changes(latency_ms: float) -> None:
    """From just above a fifth of the target to just below seven tenths of it, slack is what it should be."""
    assert plan(instance(limit=2000), tails=tail(latency_ms)) == SharingPlan()


def test_growth_waits_for_its_hold() -> None:
    """A resize takes a while to show in the tail: for `hold_s` nothing is added."""
    held = plan(instance(), tails=tail(200.0), changed_s={WEB_POD: NOW_S - 2.9})
    over = plan(instance(), tails=tail(200.0), changed_s={WEB_POD: NOW_S - 3.0})

    assert (limits(held), limits(over)) == ([], [("lc-web-n1-0", 3000)])


def test_too_few_answers_prove_nothing() -> None:
    """Four late answers do not make an instance grow; the fifth does."""
    assert limits(plan(instance(), tails=tail(200.0, samples=4))) == []
    assert limits(plan(instance(), tails=tail(200.0, samples=5))) == [("lc-web-n1-0", 3000)]


def test_each_instance_is_judged_by_its_own_service_and_node() -> None:
    """CHAT is slow, and slow on n1 only: nobody else grows."""
    here, there, web = instance("chat"), instance("chat", node="n2"), instance("web")

    found = plan_sharing(
        SERVICES,
        [("c1", here), ("c2", there), ("c1", web)],
        tail(200.0, service="chat"),
        {N1: capacity(), NodeKey("c2", "n2"): capacity()},
        {},
        NOW_S,
        SETTINGS,
    )

    assert limits(found) == [("lc-chat-n1-0", 3000)]


def test_what_cannot_be_resized_is_left_out() -> None:
    """An instance that is not ready, of an unknown or a BE service, or on a node that nobody knows."""
    found = plan(
        instance(ready=False),
        instance("gone"),
        instance("batch"),
        instance("chat", node="n9"),
        tails={
            **tail(200.0),
            **tail(200.0, service="gone"),
            **tail(200.0, service="batch"),
            **tail(200.0, service="chat", node="n9"),
        },
    )

    assert found == SharingPlan()


# ---- shrinking ---------------------------------------------------------------------------------------------------------


def test_an_instance_with_much_slack_shrinks_towards_its_declared_size() -> None:
    """A fifth at a time, and never below what is declared."""
    assert limits(plan(instance(limit=2000), tails=tail(10.0))) == [("lc-web-n1-0", 1600)]
    assert limits(plan(instance(limit=1100), tails=tail(10.0))) == [("lc-web-n1-0", 1000)]
    assert limits(plan(instance(limit=1000), tails=tail(10.0))) == []


def test_shrinking_is_told_from_growing() -> None:
    """By its reason, its slack, and a request that goes down with the limit."""
    [resize] = plan(instance(limit=2000, request=1000), tails=tail(10.0)).resizes

    assert (resize.reason, resize.slack, resize.cpu_request_after_millicores) == ("shrink", pytest.approx(0.9), 800)


def test_shrinking_waits_longer_than_growing() -> None:
    """Who shrinks too early grows again: ten seconds instead of three."""
    held = plan(instance(limit=2000), tails=tail(10.0), changed_s={WEB_POD: NOW_S - 9.9})
    over = plan(instance(limit=2000), tails=tail(10.0), changed_s={WEB_POD: NOW_S - 10.0})

    assert (limits(held), limits(over)) == ([], [("lc-web-n1-0", 1600)])


def test_an_instance_without_requests_goes_back_to_its_declared_size() -> None:
    """Nothing is measured any more: what it grew by is given back, after the same long hold."""
    idle = plan(instance(limit=2000), tails={})
    held = plan(instance(limit=2000), tails={}, changed_s={WEB_POD: NOW_S - 9.9})
    declared = plan(instance(limit=1000), tails={})

    assert (limits(idle), limits(held), limits(declared)) == ([("lc-web-n1-0", 1600)], [], [])


def test_a_change_smaller_than_a_step_is_not_worth_a_resize() -> None:
    """From 1049 to the declared 1000 it stays, from 1050 it goes."""
    assert limits(plan(instance(limit=1000 + STEP_MILLICORES - 1), tails=tail(10.0))) == []
    assert limits(plan(instance(limit=1000 + STEP_MILLICORES), tails=tail(10.0))) == [("lc-web-n1-0", 1000)]


# ---- the node ----------------------------------------------------------------------------------------------------------


def test_limits_of_a_node_stay_within_it() -> None:
    """Of four cores another instance has two: the one that wants four gets the other two."""
    tails = {**tail(900.0), **tail(CALM_MS, service="chat")}

    found = plan(instance("web"), instance("chat", limit=2000), tails=tails, node=capacity(4000))

    assert limits(found) == [("lc-web-n1-0", 2000)]


def test_two_instances_that_grow_at_once_share_what_is_left() -> None:
    """In order of name: what the first has been given is taken into account for the second."""
    found = plan(instance("web"), instance("chat"), tails={**tail(150.0), **tail(300.0, service="chat")}, node=capacity(4500))

    assert limits(found) == [("lc-chat-n1-0", 3500)]
    assert limits(
        plan(instance("web"), instance("chat"), tails={**tail(150.0), **tail(150.0, service="chat")}, node=capacity(4500))
    ) == [
        ("lc-chat-n1-0", 2250),
        ("lc-web-n1-0", 2250),
    ]


def test_a_reserve_is_never_given_to_lc() -> None:
    """Of four cores one is kept back."""
    found = plan(instance(), tails=tail(900.0), node=capacity(4000), settings=replace(SETTINGS, reserve_millicores=1000))

    assert limits(found) == [("lc-web-n1-0", 3000)]


def test_an_instance_on_a_crowded_node_keeps_what_it_has() -> None:
    """The limits together are beyond the node already: growth would give nothing, and nobody is cut down for it."""
    tails = {**tail(900.0), **tail(CALM_MS, service="chat")}

    found = plan(instance("web", limit=3000), instance("chat", limit=3000), tails=tails, node=capacity(4000))

    assert found == SharingPlan()


def test_an_instance_larger_than_its_node_comes_down_to_it() -> None:
    """The node shrank: no limit is larger than what the node has."""
    found = plan(instance(limit=6000), tails=tail(900.0), node=capacity(4000))

    assert limits(found) == [("lc-web-n1-0", 4000)]


# ---- BE gives way ------------------------------------------------------------------------------------------------------


def test_be_is_squeezed_and_not_evicted_while_requests_fit() -> None:
    """CPU is compressible: a larger limit takes from BE at once, so that nobody has to go while the node admits the request."""
    found = plan(instance(), tails=tail(90.0), node=capacity(4000, be=3250, evictable=[(eviction(1), 500)]))

    assert limits(found) == [("lc-web-n1-0", 1500)]
    assert found.resizes[0].cpu_request_after_millicores == 750
    assert found.evictions == ()


def test_be_is_evicted_least_work_lost_first_and_no_more_than_needed() -> None:
    """The request wants 750 where 350 are free: the first of three pods gives too little, the second enough."""
    pods = [(eviction(1), 300), (eviction(2), 300), (eviction(3), 300)]

    found = plan(instance(), tails=tail(90.0), node=capacity(4000, be=3650, evictable=pods))

    assert [e.request_id for e in found.evictions] == [1, 2]


def test_a_pod_is_evicted_once_for_two_instances() -> None:
    """Both want what one BE pod holds: it stands in the plan once."""
    found = plan(
        instance("web"),
        instance("chat"),
        tails={**tail(90.0), **tail(90.0, service="chat")},
        node=capacity(4000, be=3000, evictable=[(eviction(1), 100)]),
    )

    assert [e.request_id for e in found.evictions] == [1]


def test_a_resize_never_asks_for_more_than_the_node_admits() -> None:
    """With BE that cannot be evicted in the way, the limit grows and the request stays: the kubelet would refuse another."""
    found = plan(instance(), tails=tail(90.0), node=capacity(4000, be=3500))

    assert [(r.cpu_limit_after_millicores, r.cpu_request_after_millicores) for r in found.resizes] == [(1500, 500)]
    assert found.evictions == ()


def test_requests_of_two_that_grow_at_once_fit_the_node_together() -> None:
    """Only 250 are free: the first in order of name gets them, the second keeps the request that it has."""
    found = plan(
        instance("web"), instance("chat"), tails={**tail(90.0), **tail(90.0, service="chat")}, node=capacity(4000, be=2750)
    )

    assert [(r.service, r.cpu_request_after_millicores) for r in found.resizes] == [("chat", 750), ("web", 500)]


def test_nobody_is_evicted_where_nothing_grows() -> None:
    """A full node on which LC has its slack is a good node."""
    found = plan(instance(), tails=tail(CALM_MS), node=capacity(4000, be=3500, evictable=[(eviction(1), 500)]))

    assert found == SharingPlan()


def test_nobody_is_evicted_for_an_instance_that_shrinks() -> None:
    """It grew while its request did not fit; now that it has slack again, BE stays although the declared share would be more."""
    squeezed = instance(limit=2000, request=500)

    found = plan(squeezed, tails=tail(10.0), node=capacity(4000, be=3500, evictable=[(eviction(1), 500)]))

    assert found.evictions == ()
    assert [(r.cpu_limit_after_millicores, r.cpu_request_after_millicores) for r in found.resizes] == [(1600, 500)]


# ---- always ------------------------------------------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(1000, 3000), min_size=1, max_size=4),
    late=st.lists(st.floats(1.0, 1000.0), min_size=4, max_size=4),
    cpu=st.integers(4000, 12_000),
    be=st.integers(0, 8000),
)
def test_a_round_never_overcommits_a_node_by_limits_or_requests(sizes: list[int], late: list[float], cpu: int, be: int) -> None:
    """Whatever is measured, resized limits together stay within the node unless they were beyond it, and so do requests."""
    found = [replace(instance(limit=limit, request=limit // 2), service=f"s{k}", pod=f"p{k}") for k, limit in enumerate(sizes)]
    services = {f"s{k}": replace(WEB, name=f"s{k}") for k in range(4)}
    tails = {(f"s{k}", N1): Tail(latency_ms=ms, samples=9) for k, ms in enumerate(late)}

    result = plan_sharing(services, [("c1", i) for i in found], tails, {N1: capacity(cpu, be=be)}, {}, NOW_S, SETTINGS)

    limit = {i.pod: i.cpu_limit_millicores for i in found} | dict(limits(result))
    request = {i.pod: i.cpu_request_millicores for i in found} | {r.pod: r.cpu_request_after_millicores for r in result.resizes}
    assert sum(limit.values()) <= max(cpu, sum(sizes))
    assert be + sum(request.values()) <= max(cpu, be + sum(size // 2 for size in sizes))
    assert all(0 < request[r.pod] < r.cpu_limit_after_millicores for r in result.resizes)


def test_an_instance_grows_into_what_evictions_free() -> None:
    """The request of the resize counts what the same plan frees, or the eviction would buy nothing this round."""
    found = plan(instance(), tails=tail(90.0), node=capacity(4000, be=3500, evictable=[(eviction(1), 500)]))

    assert [e.request_id for e in found.evictions] == [1]
    assert found.resizes[0].cpu_request_after_millicores == 750


def test_what_was_freed_for_one_instance_serves_the_next_one_too() -> None:
    """Two instances that grow on one node take no more pods than both need together."""
    tails = {**tail(90.0), **tail(90.0, service="chat")}
    evictable = [(eviction(1), 900), (eviction(2), 900)]

    found = plan(instance("web"), instance("chat"), tails=tails, node=capacity(4000, be=3000, evictable=evictable))

    assert [e.request_id for e in found.evictions] == [1]
    assert [r.cpu_request_after_millicores for r in found.resizes] == [750, 750]


# ---- burst -------------------------------------------------------------------------------------------------------------


def burst(
    *instances: InstanceState,
    tails: Mapping[tuple[str, NodeKey], Tail],
    node: NodeCapacity | None = None,
    changed_s: Mapping[PodKey, float] | None = None,
    settings: SharingSettings = SETTINGS,
    refused: Sequence[RefusedResize] = (),
) -> SharingPlan:
    """One round of `burst` on node n1."""
    return plan_sharing(
        SERVICES,
        [("c1", i) for i in instances],
        tails,
        {N1: node or capacity()},
        changed_s or {},
        NOW_S,
        settings,
        refused=refused,
        rule="burst",
    )


def sizes(found: SharingPlan) -> list[tuple[int, int, str]]:
    """(limit, CPU request, reason) of the resizes."""
    return [(r.cpu_limit_after_millicores, r.cpu_request_after_millicores, r.reason) for r in found.resizes]


def no(limit: int, request: int = 500, *, before: int = 1000) -> RefusedResize:
    """A refused resize of the instance of WEB."""
    return RefusedResize(pod=WEB_POD, limit_millicores=limit, request_millicores=request, larger_limit=limit > before)


def test_every_instance_gets_the_node_as_its_limit_at_once() -> None:
    """With nothing measured; both of them, the request stays, and nobody is evicted from a full node for it."""
    full = capacity(8000, be=7000, evictable=[(eviction(1), 500)])

    found = burst(instance("web"), instance("chat"), tails={}, node=full)

    assert sizes(found) == [(8000, 500, "grow"), (8000, 500, "grow")]
    assert found.evictions == ()


def test_the_limit_stays_whatever_the_slack() -> None:
    """Idle, calm, or with much slack: one resize to the node is all there is."""
    whole = instance(limit=8000)

    assert [burst(whole, tails=tails) for tails in ({}, tail(CALM_MS), tail(10.0))] == [SharingPlan()] * 3


def test_the_reserve_is_left_out_of_the_limit() -> None:
    """Of eight cores half of one is kept back."""
    assert sizes(burst(instance(), tails={}, settings=replace(SETTINGS, reserve_millicores=500))) == [(7500, 500, "grow")]


@given(
    latency_ms=st.floats(1.0, 1000.0),
    size=st.integers(1000, 7000),
    since_s=st.floats(0.0, 20.0),
    be=st.integers(0, 7000),
    pods=st.lists(st.integers(50, 900), max_size=6),
)
def test_the_request_follows_slack_as_under_hrm(latency_ms: float, size: int, since_s: float, be: int, pods: list[int]) -> None:
    """An instance whose limit is the node asks for what one of the size that its request stands for would ask for, and as many go."""
    request = size // 2
    node = capacity(8000, be=be, evictable=[(eviction(k), gives) for k, gives in enumerate(pods)])
    changed_s = {WEB_POD: NOW_S - since_s}

    by_size = plan(instance(limit=2 * request, request=request), tails=tail(latency_ms), node=node, changed_s=changed_s)
    found = burst(instance(limit=8000, request=request), tails=tail(latency_ms), node=node, changed_s=changed_s)

    assert found.evictions == by_size.evictions
    assert sizes(found) == [
        (8000, r.cpu_request_after_millicores, r.reason) for r in by_size.resizes if r.cpu_request_after_millicores != request
    ]


def test_a_request_that_does_not_fit_is_no_resize() -> None:
    """BE that cannot go is in the way of all of it: under `burst` there is nothing left to change, round after round."""
    assert burst(instance(limit=4000), tails=tail(90.0), node=capacity(4000, be=3500)) == SharingPlan()


def test_a_request_stays_below_its_limit() -> None:
    """The pod must stay Burstable, also where the node allows no more than a small limit."""
    stuck = instance(limit=1000, request=900)

    found = burst(stuck, tails=tail(900.0), refused=[no(1040, before=1000)])

    assert sizes(found) == [(1000, 999, "grow")]


def test_a_limit_that_is_refused_is_approached_by_halves_and_settles() -> None:
    """A `LimitRange` of 3 cores on a node of 8: a few refusals, then a limit near three cores, then peace."""
    limit, refused, asked = 1000, [], []
    for _ in range(30):
        found = burst(instance(limit=limit), tails={}, refused=refused)
        for resize in found.resizes:
            after = resize.cpu_limit_after_millicores
            asked.append(after)
            if after > 3000:
                refused.append(RefusedResize.of(resize))
            else:
                limit = after

    assert asked[:3] == [8000, 4500, 2750]
    assert len(asked) <= 10
    assert 3000 - 2 * STEP_MILLICORES < limit <= 3000


def test_a_node_that_lets_nothing_grow_is_left_in_peace() -> None:
    """Whatever is asked is refused: the tries end, and the request follows slack below the limit that there is."""
    refused: list[RefusedResize] = []
    for _ in range(30):
        refused += [RefusedResize.of(r) for r in burst(instance(), tails={}, refused=refused).resizes]

    assert len(refused) < 10
    assert burst(instance(), tails={}, refused=refused) == SharingPlan()
    assert sizes(burst(instance(), tails=tail(90.0), refused=refused)) == [(1000, 750, "grow")]


def test_nobody_gives_way_to_a_request_that_was_refused() -> None:
    """A quota of requests said no to 750: neither that nor more is asked for again, and no pod goes; the limit is as it was."""
    full = capacity(4000, be=3500, evictable=[(eviction(1), 500)])
    whole = instance(limit=4000)

    assert burst(whole, tails=tail(90.0), node=full).evictions != ()
    assert burst(whole, tails=tail(90.0), node=full, refused=[no(4000, 750, before=4000)]) == SharingPlan()
    assert sizes(burst(whole, tails=tail(90.0), node=full, refused=[no(4000, 800, before=4000)])) == [(4000, 750, "grow")]


def test_a_larger_limit_waits_for_its_hold() -> None:
    """The agent sees a resize a moment after it was made, and a kubelet that defers gets its rest."""
    held = burst(instance(), tails={}, changed_s={WEB_POD: NOW_S - 2.9})
    over = burst(instance(), tails={}, changed_s={WEB_POD: NOW_S - 3.0})

    assert (sizes(held), sizes(over)) == ([], [(8000, 500, "grow")])


def test_an_instance_that_is_not_ready_gets_no_limit() -> None:
    """It cannot be resized now; it gets its node when it is back, with the size that is declared."""
    assert burst(instance(ready=False), tails={}) == SharingPlan()
    assert sizes(burst(instance(), tails={})) == [(8000, 500, "grow")]


def test_static_sharing_leaves_limits_and_requests_alone() -> None:
    """However late."""
    found = plan_sharing(SERVICES, [("c1", instance())], tail(900.0), {N1: capacity()}, {}, NOW_S, SETTINGS, rule="static")

    assert found == SharingPlan()


@pytest.mark.parametrize(
    ("rules", "common"),
    [
        ([], "static"),
        (["static", "static"], "static"),
        (["burst", "static", "burst"], "burst"),
        (["ceres"], "ceres"),
        (["burst", "ceres"], "hrm"),
        (["hrm", "burst"], "hrm"),
    ],
)
def test_runs_whose_rules_differ_share_instances_under_hrm(rules: list[str], common: str) -> None:
    """A limit that is the node's would harm whoever does not count crowding; nothing to re-assure leaves all as declared."""
    assert common_rule(rules) == common


@given(
    requests=st.lists(st.integers(500, 2000), min_size=1, max_size=4),
    whole=st.lists(st.booleans(), min_size=4, max_size=4),
    late=st.lists(st.floats(1.0, 1000.0), min_size=4, max_size=4),
    cpu=st.integers(4000, 12_000),
    be=st.integers(0, 8000),
)
def test_a_round_of_burst_never_overcommits_a_node_by_requests(
    requests: list[int], whole: list[bool], late: list[float], cpu: int, be: int
) -> None:
    """Limits may add up to more than the node, requests with BE's may not, and every pod keeps a request below its limit."""
    found = [
        replace(instance(limit=cpu if whole[k] else 2001, request=request), service=f"s{k}", pod=f"p{k}")
        for k, request in enumerate(requests)
    ]
    services = {f"s{k}": replace(WEB, name=f"s{k}") for k in range(4)}
    tails = {(f"s{k}", N1): Tail(latency_ms=ms, samples=9) for k, ms in enumerate(late)}

    result = plan_sharing(
        services, [("c1", i) for i in found], tails, {N1: capacity(cpu, be=be)}, {}, NOW_S, SETTINGS, rule="burst"
    )

    request = {i.pod: i.cpu_request_millicores for i in found} | {r.pod: r.cpu_request_after_millicores for r in result.resizes}
    assert be + sum(request.values()) <= max(cpu, be + sum(requests))
    assert all(0 < r.cpu_request_after_millicores < r.cpu_limit_after_millicores <= cpu for r in result.resizes)
