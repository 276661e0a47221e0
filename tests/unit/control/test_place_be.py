"""Placement of BE: one scheduler at a time records where pods go, and only then makes them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from tango.control.be_deciders import BeDeciders
from tango.control.candidates import WeighingRate
from tango.control.lease_holder import LeaseHolder
from tango.control.place_be import LEASE as SCHEDULER
from tango.control.place_be import BePlacement
from tango.control.waiting_reasons import WaitingReasons
from tango.domain.candidates import read_back
from tango.domain.jobs import NewJob
from tango.domain.placement_question import PlacementQuestion
from tango.domain.plans import BePlan
from tango.domain.reasons import StateReason
from tango.domain.refusal_kind import RefusalKind
from tango.domain.refusals import Refusal
from tango.domain.requests import BePending
from tango.domain.shares import LcWait
from tango.domain.snapshot import FleetSnapshot
from tango.errors import ClusterUnavailable, Forbidden, Invalid, NotFound, PolicyFailed, Throttled
from tango.ports.fleet import FleetStore
from tango.scheduling.be_policies import place_kube, place_load_greedy
from tango.settings import BeSettings, ExplainSettings, LeaseSettings
from tango.systems import BePolicy
from tests.fakes.control_world import ControlWorld
from tests.fakes.faulty import Faulty
from tests.fakes.store_world import BATCH, FLEET, HUGE, MAX_ATTEMPTS, node_states

LEASES = LeaseSettings(placement_s=20.0)
C1_N1, C1_N2, C2_N1 = 0, 1, 2
"""Rows of the snapshot's nodes."""
NOWHERE = -1


class ByHand:
    """A policy that sends its requests to these nodes in order, and keeps what it was shown."""

    def __init__(self, *nodes: int, name: str = "by-hand", checkpoint: str = "", fallback_reason: str = "") -> None:
        self.nodes, self.name, self.checkpoint, self.fallback_reason = nodes, name, checkpoint, fallback_reason
        self.shown: list[tuple[BePending, FleetSnapshot]] = []

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Decide."""
        self.shown.append((pending, snapshot))
        return BePlan(
            node=np.array(self.nodes[: len(pending)], np.int32),
            policy=self.name,
            checkpoint=self.checkpoint,
            fallback_reason=self.fallback_reason,
        )


def place(
    world: ControlWorld,
    policy: BePolicy | Callable[[int], BePolicy],
    *,
    owner: str = "scheduler",
    fleet: FleetStore | None = None,
    settings: BeSettings | None = None,
    lc_waits: Mapping[str, LcWait] | None = None,
    reasons: Any = None,
    sampling: WeighingRate | None = None,
) -> dict[str, int]:
    """One cycle, under one policy for all runs or a policy a run (a plain function of the run)."""
    use_case = BePlacement(
        deciders=BeDeciders(
            policy_of=(lambda run_id: policy) if isinstance(policy, ByHand) else policy, fallback=place_load_greedy
        ),
        requests=world.requests,
        jobs=world.jobs,
        refusals=world.refusals,
        snapshot=lambda: (fleet or world.fleet).snapshot(at_s=world.clock.now_s()),
        clusters=world.clusters,
        holder=LeaseHolder(leases=world.leases, owner=owner, settings=LEASES),
        settings=settings or BeSettings(),
        lc_waits=lambda: lc_waits or {},
        reasons=reasons or WaitingReasons(),
        sampling=sampling,
    )
    return use_case.tick()


def test_a_decision_keeps_the_candidates_of_what_it_has_placed_as_far_as_the_rate_allows(world: ControlWorld) -> None:
    """The first cycle those of its two requests, and the one after it none; a cycle that places nothing uses none of the rate."""
    sampling = WeighingRate(ExplainSettings(weighed_per_s=0.4), monotonic=lambda: 0.0)  # two at once
    world.pending(HUGE)
    place(world, lambda _: place_load_greedy, sampling=sampling)
    run_id = world.pending(BATCH, BATCH)

    place(world, lambda _: place_load_greedy, sampling=sampling)
    world.pending(BATCH)
    place(world, lambda _: place_load_greedy, sampling=sampling)

    kept = [read_back(orjson.loads(text)) for text in world.weighed()]
    assert [[(one.run_id, one.request_id, one.epoch) for one in of] for of in kept] == [[(run_id, 0, 1), (run_id, 1, 1)]]
    assert [one.chosen for one in kept[0]] == [f"{p.cluster}/{p.node}" for p in world.clusters.placed[:2]]


def test_a_node_where_lc_lacks_cpu_gets_no_be_and_the_decision_says_why(world: ControlWorld) -> None:
    """Its policy sees it as one that is not ready; the others are used."""
    first, second = node_states(FLEET.clusters[0])
    world.fleet.observe("c1", [replace(first, lc_cpu_pressure=0.4), second], [], sample=False)
    run_id = world.pending(BATCH)
    policy = ByHand(C1_N2)

    place(world, policy)

    ((_, shown),) = policy.shown
    assert shown.node_ready.tolist() == [False, True, True]
    assert world.states(run_id) == ["placed"]
    ((decision, _),) = world.state.decisions
    assert decision.note == "no BE to c1/c1-n1 (LC lacks CPU 40%)"


def test_why_requests_are_left_waiting_is_counted_and_is_nothing_once_they_are_placed(world: ControlWorld) -> None:
    """What the policy gave no node is counted after each decision; a cycle that finds nobody waiting says so."""

    class Counted:
        def __init__(self) -> None:
            self.noted: list[int] = []
            self.ended = 0

        def note(self, question: PlacementQuestion, node: NDArray[np.int32], held_back: Mapping[StateReason, int]) -> None:
            self.noted.append(int(np.count_nonzero(node < 0)))

        def nothing_waits(self) -> None:
            self.ended += 1

    counted = Counted()
    world.pending(BATCH, BATCH)

    place(world, ByHand(C1_N1, NOWHERE), reasons=counted)
    assert (counted.noted, counted.ended) == ([1], 0)
    place(world, ByHand(C1_N1), reasons=counted)
    place(world, ByHand(C1_N1), reasons=counted)
    assert (counted.noted, counted.ended) == ([1, 0], 1)


# ---- one cycle ---------------------------------------------------------------------------------------------------------


def test_pending_requests_become_pods_on_the_nodes_that_the_policy_chose(world: ControlWorld) -> None:
    """Each placement names cluster, node, pod, epoch and what the pod asks for; what has no node stays pending."""
    run_id = world.pending(BATCH, BATCH, BATCH)

    report = place(world, ByHand(C1_N2, NOWHERE, C2_N1))

    assert report == {"considered": 3, "placed": 2}
    assert [(p.request_id, p.epoch, p.cluster, p.node) for p in world.clusters.placed] == [
        (0, 1, "c1", "c1-n2"),
        (2, 1, "c2", "c2-n1"),
    ]
    assert [p.pod for p in world.clusters.placed] == [f"be-r{run_id}-0-e1", f"be-r{run_id}-2-e1"]
    assert {(p.cpu_request_millicores, p.cpu_limit_millicores, p.memory_mib) for p in world.clusters.placed} == {(500, 2000, 64)}
    assert world.states(run_id) == ["placed", "pending", "placed"]


def test_rows_are_recorded_before_their_pods_are_made(world: ControlWorld) -> None:
    """A scheduler that dies in between leaves a row whose lease runs out, never a pod that nobody knows."""
    run_id = world.pending(BATCH)
    then: list[list[str]] = []
    world.clusters.on_call = lambda name: then.append(world.states(run_id))

    place(world, ByHand(C1_N1))

    assert then == [["placed"]]
    assert world.row(run_id, 0).lease_until_s - world.state.time_s == pytest.approx(LEASES.placement_s, abs=0.01)


def test_a_tick_goes_on_while_all_of_a_full_batch_is_placed(world: ControlWorld) -> None:
    """What waits longest is decided first, and the rest in further cycles of the same tick, each on a snapshot of its own."""
    run_id = world.pending(BATCH, BATCH, BATCH)
    policy = ByHand(C1_N1, C1_N2)

    report = place(world, policy, settings=BeSettings(batch_limit=2))

    assert report == {"considered": 3, "placed": 3}
    assert [len(pending) for pending, _ in policy.shown] == [2, 1]
    assert world.states(run_id) == ["placed", "placed", "placed"]


def test_a_tick_ends_when_something_found_no_room(world: ControlWorld) -> None:
    """The rest comes with the next tick: the fleet is full, and the same requests would be asked about again and again."""
    run_id = world.pending(BATCH, BATCH, BATCH)
    policy = ByHand(C1_N1, NOWHERE)

    report = place(world, policy, settings=BeSettings(batch_limit=2))

    assert report == {"considered": 2, "placed": 1}
    assert len(policy.shown) == 1
    assert world.states(run_id) == ["placed", "pending", "pending"]


# ---- LC first ----------------------------------------------------------------------------------------------------------


def test_nothing_is_placed_where_lc_waits(world: ControlWorld) -> None:
    """The policy sees its nodes as not ready; other clusters go on, and a few late requests are no queue."""
    world.pending(BATCH, BATCH)
    policy = ByHand(C2_N1, NOWHERE)

    report = place(world, policy, lc_waits={"c1": LcWait(under_way=40, late=5), "c2": LcWait(under_way=2, late=2)})

    assert report == {"considered": 2, "placed": 1}
    [(_, shown)] = policy.shown
    assert shown.node_ready.tolist() == [False, False, True]


def test_best_effort_gives_way_for_a_while_and_not_for_ever(world: ControlWorld) -> None:
    """What has waited long enough is offered the clusters that it gave way in, and nothing else of them is given twice."""
    run_id = world.pending(BATCH, BATCH)
    crowded = {"c1": LcWait(under_way=40, late=40)}
    held = replace(BeSettings(), lc_first_s=0.0)  # of the fake's pending requests none has waited

    before = place(world, ByHand(NOWHERE, C2_N1), lc_waits=crowded)
    asked = iter((ByHand(NOWHERE), ByHand(C1_N1)))
    shown = list[list[bool]]()

    class OneAfterTheOther(ByHand):
        def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
            shown.append(snapshot.node_ready.tolist())
            return next(asked)(pending, snapshot, settings)

    after = place(world, OneAfterTheOther(), lc_waits=crowded, settings=held)

    assert (before["placed"], after["placed"]) == (1, 1)
    assert shown == [[False, False, True], [True, True, False]]
    assert world.states(run_id) == ["placed", "placed"]


def test_with_nothing_pending_nothing_is_read_or_recorded(world: ControlWorld) -> None:
    """An idle tick costs one look at the pending rows."""
    world.created(BATCH)
    fleet = Faulty(world.fleet)

    report = place(world, ByHand(), fleet=fleet)

    assert report == {"considered": 0, "placed": 0}
    assert fleet.calls_of("snapshot") == []
    assert world.decisions() == 0


def test_a_plan_without_a_node_for_anybody_calls_no_cluster(world: ControlWorld) -> None:
    """The decision is on record all the same: it tells why requests wait."""
    run_id = world.pending(BATCH)

    report = place(world, ByHand(NOWHERE))

    assert report == {"considered": 1, "placed": 0}
    assert world.clusters.calls == []
    assert [(d.considered, d.placed, d.unplaced) for d, _ in world.state.decisions] == [(1, 0, 1)]
    assert world.states(run_id) == ["pending"]


# ---- one scheduler -----------------------------------------------------------------------------------------------------


def test_only_the_holder_of_the_lease_places(world: ControlWorld) -> None:
    """While another scheduler holds the lease, this one does not even look at what is pending."""
    run_id = world.pending(BATCH)
    world.leases.acquire(SCHEDULER, owner="another", ttl_s=5.0)
    policy = ByHand(C1_N1)

    report = place(world, policy, owner="this")

    assert report == {"considered": 0, "placed": 0}
    assert policy.shown == []
    assert world.states(run_id) == ["pending"]


def test_the_lease_lasts_from_tick_to_tick_and_then_passes_on(world: ControlWorld) -> None:
    """A cycle takes or renews it for `lease_ttl_s`; a scheduler that is silent for longer is replaced."""
    settings = BeSettings(lease_ttl_s=5.0)
    world.pending(BATCH, BATCH, BATCH)
    place(world, ByHand(C1_N1, NOWHERE, NOWHERE), owner="one", settings=settings)
    world.clock.turn(3.0)
    place(world, ByHand(C1_N1, NOWHERE), owner="one", settings=settings)
    world.clock.turn(3.0)

    early = place(world, ByHand(C1_N1), owner="two", settings=settings)
    world.clock.turn(3.0)
    later = place(world, ByHand(C1_N1), owner="two", settings=settings)

    assert (early["placed"], later["placed"]) == (0, 1)


def test_an_overtaken_scheduler_writes_nothing(world: ControlWorld) -> None:
    """Its lease moved on while its policy was thinking: no row, no decision, no pod, and no error."""
    run_id = world.pending(BATCH)
    by_hand = ByHand(C1_N1)

    def slow(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        world.given_to(SCHEDULER, "another", after_s=6.0)
        return by_hand(pending, snapshot, settings)

    report = place(world, lambda run_id: slow)

    assert report == {"considered": 1, "placed": 0}
    assert world.states(run_id) == ["pending"]
    assert world.decisions() == 0
    assert world.clusters.calls == []


def test_a_row_that_somebody_else_won_gets_no_pod(world: ControlWorld) -> None:
    """Cancelled while the policy was thinking: only what the store says is won becomes a pod."""
    kept, cancelled = world.pending(BATCH), world.pending(BATCH)
    by_hand = ByHand(C1_N1, C1_N1)

    def slow(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        world.runs.cancel(cancelled)
        return by_hand(pending, snapshot, settings)

    report = place(world, lambda run_id: slow)

    assert report == {"considered": 2, "placed": 1}
    assert [p.run_id for p in world.clusters.placed] == [kept]


# ---- several runs ------------------------------------------------------------------------------------------------------


def test_runs_of_two_policies_share_one_snapshot(world: ControlWorld) -> None:
    """Each run's own policy places its requests; the second sees what the first has given out in this very cycle."""
    one, two = world.pending(BATCH, BATCH), world.pending(BATCH)
    policies = {one: ByHand(C1_N1, C1_N1, name="first"), two: ByHand(C2_N1, name="second")}
    fleet = Faulty(world.fleet)

    report = place(world, lambda run_id: policies[run_id], fleet=fleet)

    assert report == {"considered": 3, "placed": 3}
    assert len(fleet.calls_of("snapshot")) == 1
    [(first_pending, first)], [(second_pending, second)] = policies[one].shown, policies[two].shown
    assert (set(first_pending.run_id), set(second_pending.run_id)) == ({one}, {two})
    assert (first.be_cpu_request[C1_N1], first.be_pods[C1_N1]) == (0.0, 0.0)
    assert (second.be_cpu_request[C1_N1], second.be_pods[C1_N1]) == (2 * BATCH.cpu_request_millicores, 2.0)
    assert {(p.run_id, p.request_id): p.node for p in world.clusters.placed} == {
        (one, 0): "c1-n1",
        (one, 1): "c1-n1",
        (two, 0): "c2-n1",
    }


def test_runs_of_one_policy_are_decided_in_one_call(world: ControlWorld) -> None:
    """A network is called in batches: two runs under one policy do not make two of it."""
    world.pending(BATCH)
    world.pending(BATCH)
    policy = ByHand(C1_N1, C1_N2)

    place(world, policy)

    assert [len(pending) for pending, _ in policy.shown] == [2]


# ---- plans that cannot be carried out -----------------------------------------------------------------------------------


def test_an_impossible_plan_is_refused_with_the_policys_name_and_rows_and_the_fallback_places(world: ControlWorld) -> None:
    """Nothing of it becomes a row or a pod; requests do not wait for a policy that counts wrongly."""
    run_id = world.pending(BATCH, BATCH)

    report = place(world, ByHand(C1_N1, 7, name="mine"))

    assert report == {"considered": 2, "placed": 2}
    [(decision, _)] = world.state.decisions
    assert decision.policy == "load-greedy"
    assert "policy 'mine' returned an impossible plan" in decision.note
    assert "row 1 (request 1): node 7" in decision.note
    assert world.states(run_id) == ["placed", "placed"]


def test_more_than_a_node_holds_is_refused(world: ControlWorld) -> None:
    """By the kubelet's rule, before the kubelet fails the pods one after another and their attempts run out."""
    world.pending(*[BATCH] * 9)  # of 500 millicores each, on a node of 4,000

    place(world, ByHand(*[C1_N1] * 9, name="mine"))

    [(decision, _)] = world.state.decisions
    assert "cpu requests of 4500m for node c1/c1-n1" in decision.note
    assert max(Counter(p.node for p in world.clusters.placed).values()) <= 8


def test_a_policy_that_raises_is_replaced_for_this_tick(world: ControlWorld) -> None:
    """Whatever it raises, with its name on record."""

    def mine(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        raise ZeroDivisionError("no CPU at all")

    world.pending(BATCH)

    report = place(world, lambda run_id: mine)

    assert report == {"considered": 1, "placed": 1}
    [(decision, _)] = world.state.decisions
    assert decision.policy == "load-greedy"
    assert "mine" in decision.note
    assert "ZeroDivisionError: no CPU at all" in decision.note


def test_one_runs_policy_that_cannot_be_loaded_stops_no_other_run(world: ControlWorld) -> None:
    """Its own requests are placed by the fallback, the others by their policy."""
    broken, sound = world.pending(BATCH), world.pending(BATCH)
    by_hand = ByHand(C2_N1, name="mine")

    def policy_of(run_id: int) -> BePolicy:
        if run_id == broken:
            raise PolicyFailed("the BE policy 'gone' cannot be loaded")
        return by_hand

    report = place(world, policy_of)

    assert report == {"considered": 2, "placed": 2}
    assert [set(pending.run_id) for pending, _ in by_hand.shown] == [{sound}]
    [(decision, _)] = world.state.decisions
    assert "the BE policy 'gone' cannot be loaded" in decision.note


# ---- what clusters answer ----------------------------------------------------------------------------------------------


def test_a_job_whose_pod_is_invalid_fails_with_what_the_cluster_said(world: ControlWorld) -> None:
    """Another node's answer would be the same; what passes, such as a quota, sends it back."""
    keys = [world.jobs.submit(NewJob(service=BATCH.name, key=name)).key for name in ("invalid", "quota")]
    world.admit(keys[0].run_id, [key.request_id for key in keys])
    world.clusters.errors = {
        "c1": Invalid("spec.volumes[0]: no such claim", cluster="c1"),
        "c2": Forbidden("exceeded quota", cluster="c2"),
    }

    place(world, ByHand(C1_N1, C2_N1))

    jobs = [world.jobs.job(key) for key in keys]
    assert [(job.state, job.reason, job.message) for job in jobs] == [
        ("failed", "never-started", "spec.volumes[0]: no such claim"),
        ("pending", "pod-failed", ""),
    ]


def test_a_refused_pod_sends_its_request_back_at_once(world: ControlWorld) -> None:
    """A no is certain, no pod runs: the request is pending again with the attempt on record, and is not counted as placed."""
    run_id = world.pending(BATCH, BATCH)
    world.clusters.errors["c2"] = Invalid("the pod is refused", cluster="c2")

    report = place(world, ByHand(C1_N1, C2_N1))

    assert report == {"considered": 2, "placed": 1}
    assert world.states(run_id) == ["placed", "pending"]
    assert world.attempts(run_id) == [(1, 1, "requeued", "pod-failed")]


@pytest.mark.parametrize("error", [ClusterUnavailable("no answer", cluster="c2"), TimeoutError("no answer")])
def test_a_silent_cluster_keeps_its_request_until_the_lease_ends(world: ControlWorld, error: Exception) -> None:
    """The pod may be running: a second one is made only after the lease has run out or the agent has spoken."""
    run_id = world.pending(BATCH)
    world.clusters.errors["c2"] = error

    place(world, ByHand(C2_N1))
    again = place(world, ByHand(C1_N1))

    assert again == {"considered": 0, "placed": 0}
    assert [(r.state, r.epoch, r.node) for r in world.rows(run_id)] == [("placed", 1, "c2-n1")]
    for _ in range(4):  # its agent sees no pod
        world.clock.turn(LEASES.placement_s / 3)
        world.state.heard_of("c2")
    world.requests.requeue_expired(limit=10)
    assert world.states(run_id) == ["pending"]


# ---- on the record -----------------------------------------------------------------------------------------------------


def test_the_decision_names_the_policy_its_checkpoint_and_why_it_fell_back(world: ControlWorld) -> None:
    """One row a cycle for the centre, with the policy that really decided."""
    run_id = world.pending(BATCH, BATCH)

    place(world, ByHand(C1_N1, NOWHERE, name="load-greedy", checkpoint="dcg-be/1", fallback_reason="slower than its budget"))

    [(decision, runs)] = world.state.decisions
    assert runs == (run_id,)
    assert (decision.kind, decision.cluster, decision.policy, decision.checkpoint) == ("be", "", "load-greedy", "dcg-be/1")
    assert (decision.considered, decision.placed, decision.unplaced) == (2, 1, 1)
    assert decision.note == "slower than its budget; left waiting: the policy left room unused"
    assert decision.decide_ms > 0.0


def test_the_note_says_what_full_nodes_lack(world: ControlWorld) -> None:
    """60 of half a core do not fit onto three nodes of four; the resource is named, not how much of it."""
    world.pending(*[BATCH] * 60)

    place(world, lambda run_id: place_load_greedy)

    [(decision, _)] = world.state.decisions
    assert 0 < decision.placed < 60
    assert decision.note == "left waiting: no node has the cpu"


def test_the_note_names_clusters_whose_lc_comes_first(world: ControlWorld) -> None:
    """They have room, which BE does not get while LC waits there."""
    world.pending(BATCH)

    place(world, lambda run_id: place_load_greedy, lc_waits={name: LcWait(under_way=10, late=9) for name in ("c1", "c2")})

    [(decision, _)] = world.state.decisions
    assert (decision.placed, decision.note) == (0, "left waiting: LC comes first in c1, c2")


def test_the_note_says_that_no_node_is_open(world: ControlWorld) -> None:
    """A paused service waits for its cluster and not for room."""
    world.pending(BATCH)
    for cluster in ("c1", "c2"):
        world.refusals.note([Refusal.of(RefusalKind.QUOTA, cluster=cluster, service="batch", words="q")], role="scheduler")

    place(world, lambda run_id: place_load_greedy)

    [(decision, _)] = world.state.decisions
    assert decision.note == "left waiting: no node is open to them"


def test_a_decision_of_two_policies_names_both(world: ControlWorld) -> None:
    """The reason to fall back of one of them is not lost, and empty ones add nothing."""
    one, two = world.pending(BATCH), world.pending(BATCH)
    policies = {one: ByHand(C1_N1, name="load-greedy", fallback_reason="no checkpoint"), two: ByHand(NOWHERE, name="scoring")}

    place(world, lambda run_id: policies[run_id])

    [(decision, runs)] = world.state.decisions
    assert runs == (one, two)
    assert (decision.policy, decision.note.partition(";")[0]) == ("load-greedy+scoring", "no checkpoint")
    assert (decision.considered, decision.placed, decision.unplaced) == (2, 1, 1)


def test_a_policy_that_stays_in_the_entry_cluster_does_so_whatever_else_is_pending(world: ControlWorld) -> None:
    """Policies read the entry cluster as a row of the snapshot, also when the pending requests name only some of its clusters."""
    run_id = world.created(BATCH, BATCH)  # the second enters at c2
    world.admit(run_id, [1])

    place(world, lambda run_id: place_kube)

    assert [(p.request_id, p.cluster) for p in world.clusters.placed] == [(1, "c2")]


# ---- nodes as they are -------------------------------------------------------------------------------------------------


def test_nothing_new_is_put_on_a_cordoned_node(world: ControlWorld) -> None:
    """Its policy sees it as not ready."""
    world.pending(BATCH)
    first, second = node_states(FLEET.clusters[0])
    world.fleet.observe("c1", [replace(first, schedulable=False), second], [], sample=False)
    policy = ByHand(C1_N2)

    report = place(world, policy)

    assert report["placed"] == 1
    assert policy.shown[0][1].node_ready.tolist() == [False, True, True]


# ---- clusters that refuse ----------------------------------------------------------------------------------------------


REFUSED = {
    RefusalKind.CREDENTIALS: Forbidden("401", status=401, refusal="credentials", words="Unauthorized"),
    RefusalKind.PERMISSION: Forbidden("403", status=403, refusal="permission", words="User cannot create"),
    RefusalKind.NAMESPACE: NotFound("404", status=404, refusal="namespace", words="namespaces not found"),
    RefusalKind.THROTTLED: Throttled("429", status=429, refusal="throttled", words="too many requests"),
    RefusalKind.QUOTA: Forbidden("403", status=403, refusal="quota", words="exceeded quota"),
    RefusalKind.ADMISSION: Forbidden("403", status=403, refusal="admission", words="violates PodSecurity"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_by_the_cluster_costs_no_attempt_and_pauses_it(world: ControlWorld, kind: RefusalKind) -> None:
    """The request waits again, with the server's words; the cluster, or the service there, gets nothing while the pause lasts."""
    run_id = world.pending(BATCH, BATCH)
    world.clusters.errors["c1"] = REFUSED[kind]
    policy = ByHand(C1_N1, NOWHERE)

    place(world, policy)
    again = ByHand(NOWHERE, NOWHERE)
    place(world, again)

    row = world.row(run_id, 0)
    assert (row.state, row.epoch, row.attempt) == ("pending", 1, 0)
    assert row.reason == f"cluster-refused: c1: {REFUSED[kind].words}"
    assert world.attempts(run_id) == [(0, 1, "returned", "cluster-refused")]
    (state,) = world.refusals.pauses().states
    assert (state.cluster, state.service, state.kind) == ("c1", "batch" if kind.is_of_service else "", kind)
    assert again.shown[0][1].node_ready.tolist() == [False, False, True]


def test_a_request_outlives_any_number_of_refusals_and_one_pod_tries_when_a_pause_is_over(world: ControlWorld) -> None:
    """Half-open: of three placements one is made; when it is taken the others follow and the row is gone."""
    run_id = world.pending(BATCH, BATCH, BATCH)
    world.clusters.errors["c1"] = REFUSED[RefusalKind.QUOTA]
    tries = []
    for _ in range(3 * MAX_ATTEMPTS):
        world.clusters.placed.clear()
        place(world, ByHand(C1_N1, C1_N1, C1_N2))
        tries.append(len(world.clusters.placed))
        world.clock.turn(61.0)
        world.state.heard_of("c1")
    world.clusters.errors.clear()

    place(world, ByHand(C1_N1, C1_N1, C1_N2))
    after_one = world.refusals.pauses().states
    place(world, ByHand(C1_N1, C1_N2))

    assert tries == [3] + [1] * (3 * MAX_ATTEMPTS - 1)
    assert after_one == ()
    assert world.states(run_id) == ["placed"] * 3
    assert [world.row(run_id, k).attempt for k in range(3)] == [1, 1, 1]


def test_another_service_goes_on_where_one_is_refused(world: ControlWorld) -> None:
    """A quota is of what a pod asks for; services that are barred alike are planned together, each headroom is given once."""
    run_id = world.pending(BATCH, BATCH)
    world.row(run_id, 1).service = HUGE.name
    world.refusals.note([Refusal.of(RefusalKind.QUOTA, cluster="c1", service="batch", words="q")], role="scheduler")
    shown = []

    class Everywhere(ByHand):
        def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
            shown.append((len(pending), snapshot.node_ready.tolist()))
            return BePlan(node=np.full(len(pending), C2_N1, np.int32), policy="everywhere")

    place(world, Everywhere())

    assert sorted(shown) == [(1, [False, False, True]), (1, [True, True, True])]


def test_a_cluster_that_is_silent_is_paused_and_what_was_sent_keeps_its_lease(world: ControlWorld) -> None:
    """Its pod may have been made; another request is not made to wait for the same silence."""
    run_id = world.pending(BATCH, BATCH)
    world.clusters.errors["c1"] = ClusterUnavailable("no answer", cluster="c1")

    place(world, ByHand(C1_N1, NOWHERE))

    assert world.states(run_id) == ["placed", "pending"]
    assert [state.kind for state in world.refusals.pauses().states] == [RefusalKind.UNREACHABLE]
