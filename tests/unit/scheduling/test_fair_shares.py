"""Shares of tenants: worlds whose shares can be computed on paper, and what must hold in every world."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tango.domain.tenant_columns import TenantColumns
from tango.scheduling.fair_shares import (
    RunningPods,
    capacity_of,
    dominant_share,
    fair_shares,
    may_take,
    reclaim,
    turns,
    withheld,
)
from tests.long import example_count

RESOURCES = 3
"""CPU, memory, pods: enough for all that is not about extended resources."""


def tenants(*weights: float, quota: NDArray[np.float64] | None = None) -> TenantColumns:
    """Tenants of these weights, by default without quotas."""
    names = tuple("abcdefgh"[: len(weights)])
    none = np.full((RESOURCES, len(weights)), np.inf)
    return TenantColumns(names=names, weight=np.array(weights, np.float64), quota=none if quota is None else quota)


def columns(*of: tuple[float, float]) -> NDArray[np.float64]:
    """(r, k) of (CPU, memory), with plenty of pods."""
    return np.array([[cpu, memory, 0.0] for cpu, memory in of], np.float64).T.copy()


def sums(values: NDArray[np.float64], of: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """(r, count) of the columns of (r, k) values, by what each is of."""
    return np.array([np.bincount(of, weights=row, minlength=count) for row in values], np.float64)


# ---- what each would have if all could be divided --------------------------------------------------------------------------------


def test_two_tenants_with_different_dominant_resources_get_equal_shares() -> None:
    """The example of the paper (section 4.1): 9 CPUs and 18 GB, tasks of (1, 4) and of (3, 1); both get two thirds."""
    capacity = np.array([9.0, 18.0, 100.0])

    shares = fair_shares(columns((100, 400), (300, 100)), capacity, tenants(1, 1))

    assert shares == pytest.approx([2 / 3, 2 / 3])


def test_weights_divide_what_all_want() -> None:
    """Weights 3, 1 and 1 give three, one and one fifth."""
    shares = fair_shares(columns((50, 1), (50, 1), (50, 1)), np.array([10.0, 1000.0, 1.0]), tenants(3, 1, 1))

    assert shares == pytest.approx([0.6, 0.2, 0.2])


def test_what_a_tenant_leaves_goes_to_the_others_by_their_weights() -> None:
    """One wants a tenth of the fleet: the others divide nine tenths, three to one."""
    shares = fair_shares(columns((50, 1), (50, 1), (1, 0.1)), np.array([10.0, 1000.0, 1.0]), tenants(3, 1, 1))

    assert shares == pytest.approx([0.675, 0.225, 0.1])


def test_a_quota_is_the_most_that_a_tenant_has_whatever_is_left() -> None:
    """A quota of 2 of 10 CPUs holds a tenant of any weight there, and the rest is the others'."""
    quota = np.full((RESOURCES, 2), np.inf)
    quota[0, 0] = 2.0

    shares = fair_shares(columns((50, 1), (50, 1)), np.array([10.0, 1000.0, 1.0]), tenants(9, 1, quota=quota))

    assert shares == pytest.approx([0.2, 0.8])


def test_a_tenant_that_needs_nothing_of_what_is_used_up_goes_on_growing() -> None:
    """Two want CPU alone, one memory alone: half of the CPU each, and all of the memory."""
    shares = fair_shares(columns((50, 0), (50, 0), (0, 50)), np.array([10.0, 10.0, 1.0]), tenants(1, 1, 1))

    assert shares == pytest.approx([0.5, 0.5, 1.0])


@st.composite
def demands(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], TenantColumns]:
    """Two to five tenants that want anything of three resources, some more than there is, with weights and perhaps quotas."""
    count = draw(st.integers(2, 5))
    whole = st.integers(0, 300).map(float)
    wanted = np.array([[draw(whole) for _ in range(count)] for _ in range(RESOURCES)])
    capacity = np.array([float(draw(st.integers(1, 200))) for _ in range(RESOURCES)])
    weights = [draw(st.sampled_from([0.25, 1.0, 2.0, 5.0])) for _ in range(count)]
    quota = np.full((RESOURCES, count), np.inf)
    if draw(st.booleans()):
        quota[draw(st.integers(0, RESOURCES - 1)), draw(st.integers(0, count - 1))] = float(draw(st.integers(0, 100)))
    return wanted, capacity, tenants(*weights, quota=quota)


def allocated(wanted: NDArray[np.float64], capacity: NDArray[np.float64], of: TenantColumns) -> NDArray[np.float64]:
    """(r, t) what the shares are of each resource."""
    whole = dominant_share(wanted, capacity)
    return wanted * np.divide(fair_shares(wanted, capacity, of), whole, out=np.zeros_like(whole), where=whole > 0)


def most_wanted(wanted: NDArray[np.float64], capacity: NDArray[np.float64], of: TenantColumns) -> NDArray[np.float64]:
    """(t,) the dominant share at which each has what it wants, or its quota."""
    with np.errstate(divide="ignore", invalid="ignore"):
        limit = np.where(wanted > 0, of.quota / wanted, np.inf).min(axis=0)
    found: NDArray[np.float64] = dominant_share(wanted, capacity) * np.minimum(1.0, limit)
    return found


@settings(max_examples=example_count(100), deadline=None)
@given(demands())
def test_shares_are_feasible_and_nobody_could_have_more_without_another_having_less(
    world: tuple[NDArray[np.float64], NDArray[np.float64], TenantColumns],
) -> None:
    """Nothing is given out twice (feasible), and whoever has less than he wants needs something that is used up (Pareto efficient)."""
    wanted, capacity, of = world

    given_out = allocated(wanted, capacity, of)

    assert (given_out.sum(axis=1) <= capacity * (1 + 1e-9)).all()
    assert (given_out <= of.quota * (1 + 1e-9) + 1e-9).all()
    used_up = given_out.sum(axis=1) >= capacity * (1 - 1e-6)
    has_all = fair_shares(wanted, capacity, of) >= most_wanted(wanted, capacity, of) * (1 - 1e-6)
    assert (has_all | (wanted[used_up] > 0).any(axis=0)).all()


@settings(max_examples=example_count(100), deadline=None)
@given(demands())
def test_each_has_at_least_what_its_part_of_the_fleet_would_give_it(
    world: tuple[NDArray[np.float64], NDArray[np.float64], TenantColumns],
) -> None:
    """Sharing incentive: with a fleet of its own of the size of its weight nobody would do better."""
    wanted, capacity, of = world

    shares = fair_shares(wanted, capacity, of)

    assert (shares >= np.minimum(of.weight / of.weight.sum(), most_wanted(wanted, capacity, of)) - 1e-9).all()


@settings(max_examples=example_count(100), deadline=None)
@given(demands())
def test_nobody_would_rather_have_what_another_has(
    world: tuple[NDArray[np.float64], NDArray[np.float64], TenantColumns],
) -> None:
    """Envy-free: the resources of another, scaled to one's own weight, would let nobody run more who has less than he wants."""
    wanted, capacity, of = world
    given_out, most = allocated(wanted, capacity, of), most_wanted(wanted, capacity, of)
    shares = fair_shares(wanted, capacity, of)

    for a in range(len(of)):
        if shares[a] >= most[a] * (1 - 1e-6):
            continue
        needs = wanted[:, a] / dominant_share(wanted[:, [a]], capacity)[0]
        for b in range(len(of)):
            scaled = given_out[:, b] * of.weight[a] / of.weight[b]
            would_run = (scaled[needs > 0] / needs[needs > 0]).min()
            assert would_run <= shares[a] * (1 + 1e-6) + 1e-9


# ---- the order of requests -------------------------------------------------------------------------------------------------------


def ordered(
    tenant: list[int], *, size: NDArray[np.float64] | None = None, held: NDArray[np.float64] | None = None, of: TenantColumns
) -> list[int]:
    """Rows in the order of their turns, on a fleet of 100 CPUs; by default of requests of one CPU, of tenants that hold nothing."""
    size = columns(*[(1.0, 1.0)] * len(tenant)) if size is None else size
    held = np.zeros((RESOURCES, len(of))) if held is None else held
    return list(turns(size, np.array(tenant, np.int32), held, np.array([100.0, 100.0, 100.0]), of).rows.tolist())


def test_of_one_tenant_the_order_stays_as_it_was() -> None:
    """Whoever has no tenants but one sees nothing of shares."""
    assert ordered([0] * 50, of=tenants(1)) == list(range(50))


def test_turns_go_to_the_tenant_with_the_least_share() -> None:
    """A flood of one tenant lies before the few requests of another, which take every other turn all the same."""
    assert ordered([0, 0, 0, 0, 1, 1], of=tenants(1, 1)) == [0, 4, 1, 5, 2, 3]


def test_a_tenant_of_twice_the_weight_has_two_turns_of_three() -> None:
    """Weights are how often a tenant's turn comes, as long as both have something to run."""
    rows = ordered([0] * 9 + [1] * 9, of=tenants(2, 1))

    assert [row < 9 for row in rows[:9]].count(True) == 6


def test_who_holds_more_comes_later() -> None:
    """What runs counts as what is asked for: a tenant that holds three waits until the other has as much."""
    held = columns((3, 3), (0, 0))

    assert ordered([0, 1, 1, 1, 1], held=held, of=tenants(1, 1)) == [1, 2, 3, 0, 4]


def test_requests_beyond_a_quota_are_held_back_and_those_behind_them() -> None:
    """Of 5 CPUs one tenant holds 3: two more may run, and what is behind those waits although it is small."""
    quota = np.full((RESOURCES, 2), np.inf)
    quota[0, 0] = 5.0
    size = columns((1, 1), (2, 1), (0.5, 1), (1, 1))

    found = turns(size, np.array([0, 0, 0, 1], np.int32), columns((3, 3), (0, 0)), np.full(3, 100.0), tenants(1, 1, quota=quota))

    assert found.rows.tolist() == [3, 0]
    assert found.over_quota.tolist() == [False, True, True, False]


def test_a_request_that_is_larger_than_the_quota_itself_keeps_nobody_waiting() -> None:
    """It can never run; what its tenant has behind it can."""
    quota = np.full((RESOURCES, 1), np.inf)
    quota[0, 0] = 2.0

    found = turns(columns((5, 1), (1, 1)), np.array([0, 0], np.int32), columns((0, 0)), np.full(3, 100.0), tenants(1, quota=quota))

    assert found.rows.tolist() == [1]
    assert found.over_quota.tolist() == [True, False]


def test_a_quota_of_devices_holds_back_only_who_asks_for_devices() -> None:
    """A tenant whose two devices are in use runs on with what needs none."""
    quota = np.full((4, 1), np.inf)
    quota[3, 0] = 2000.0
    size = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1000.0, 0.0]])
    held = np.array([[2.0], [2.0], [2.0], [2000.0]])
    of = TenantColumns(names=("a",), weight=np.ones(1), quota=quota)

    found = turns(size, np.zeros(2, np.int32), held, np.full(4, 1e6), of)

    assert found.over_quota.tolist() == [True, False]
    assert found.rows.tolist() == [1]


@st.composite
def queues(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64], TenantColumns]:
    """Requests of up to four tenants, in any mixture, and what each holds."""
    count = draw(st.integers(1, 4))
    tenant = np.array(draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=40)), np.int32)
    part = st.integers(1, 20).map(float)
    size = np.array([[draw(part), draw(part), 1.0] for _ in tenant]).T.copy()
    held = np.array([[float(draw(st.integers(0, 30))) for _ in range(count)] for _ in range(RESOURCES)])
    return size, tenant, held, tenants(*[draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in range(count)])


@settings(max_examples=example_count(100), deadline=None)
@given(queues())
def test_the_next_turn_is_always_of_the_tenant_with_the_least_weighted_share(
    world: tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64], TenantColumns],
) -> None:
    """Progressive filling, one request after the other, as the paper's algorithm does it; and every request has its turn."""
    size, tenant, held, of = world
    capacity = np.array([100.0, 120.0, 500.0])

    rows = turns(size, tenant, held, capacity, of).rows.tolist()

    held, left = held.copy(), [np.flatnonzero(tenant == t).tolist() for t in range(len(of))]
    for row in rows:
        share = np.round(dominant_share(held, capacity) / of.weight, 9)
        waiting = [t for t in range(len(of)) if left[t]]
        assert share[tenant[row]] <= min(share[t] for t in waiting)
        assert row == left[tenant[row]].pop(0)
        held[:, tenant[row]] += size[:, row]
    assert not any(left)


@settings(max_examples=example_count(100), deadline=None)
@given(queues())
def test_a_tenant_that_holds_nothing_waits_for_one_request_of_each_other_at_the_most(
    world: tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.float64], TenantColumns],
) -> None:
    """The bound on starvation in the order: whatever weights and floods there are, its first request is among the first t."""
    size, tenant, held, of = world
    newcomer = tenant[-1]
    held = held.copy()
    held[:, newcomer] = 0.0

    rows = turns(size, tenant, held, np.array([100.0, 120.0, 500.0]), of).rows

    assert np.flatnonzero(tenant[rows] == newcomer)[0] < len(of)


# ---- room that is taken back -----------------------------------------------------------------------------------------------------


def one_node(
    claims: list[int],
    size: NDArray[np.float64],
    pods: list[int],
    of: TenantColumns,
    *,
    cpus: float = 4.0,
    budget: float = 1.0,
    leaving: float = 0.0,
) -> tuple[list[int], list[bool]]:
    """Who goes, and who gets nothing more, on a node of some CPUs with a pod of one CPU of each tenant that `pods` names."""
    requests = columns(*[(1.0, 1.0)] * len(pods))
    tenant = np.array(pods, np.int32)
    held = sums(requests, tenant, len(of))
    capacity = np.array([cpus, 1000.0, 1000.0])
    leaves = np.array([[leaving], [leaving], [0.0]])
    free = np.array([[cpus], [1000.0], [1000.0]]) - requests.sum(axis=1, keepdims=True) - leaves
    running = RunningPods(node=np.zeros(len(pods), np.int32), tenant=tenant, requests=requests, leaving=leaves)
    size, everywhere = size[:, claims], np.ones((len(claims), 1), np.bool_)
    paused = withheld(claims, size, held, capacity, of, free=free, open_to=everywhere, pods=running)
    gone = reclaim(claims, size, held, capacity, of, free=free, open_to=everywhere, pods=running, budget=budget)
    return gone.tolist(), paused.tolist()


def test_a_tenant_takes_back_what_another_has_borrowed() -> None:
    """All four CPUs are one tenant's when another comes: the pod that loses least goes, and the borrower gets nothing more meanwhile."""
    assert one_node([1], columns((0, 0), (1, 1)), [0, 0, 0, 0], tenants(1, 1)) == ([0], [True, False])


def test_at_equal_shares_nothing_is_taken() -> None:
    """Two and two: whoever took one more would have three, and the other had to take it back."""
    assert one_node([1], columns((0, 0), (1, 1)), [0, 0, 1, 1], tenants(1, 1)) == ([], [False, False])


def test_a_tenant_of_little_weight_that_holds_nothing_gets_one_request() -> None:
    """By its weight it would have a hundredth of a node; it is served all the same, and no tenant loses its last pod for it."""
    among_four = one_node([1], columns((0, 0), (1, 1)), [0, 0, 0, 0], tenants(99, 1))
    beside_one = one_node([1], columns((0, 0), (1, 1)), [0], tenants(99, 1), cpus=1.0)

    assert among_four == ([0], [True, False])
    assert beside_one == ([], [True, False])


def test_what_is_leaving_already_is_not_taken_twice() -> None:
    """A pod with a grace goes: its room is the claim's, the borrower stays paused, and nothing more is evicted."""
    assert one_node([1], columns((0, 0), (1, 1)), [0, 0, 0], tenants(1, 1), leaving=1.0) == ([], [True, False])


def test_where_the_request_fits_nothing_goes() -> None:
    """There is room: the next placement gives it, since the claim's turn comes first."""
    assert one_node([1], columns((0, 0), (1, 1)), [0, 0, 0], tenants(1, 1)) == ([], [False, False])


def test_what_ends_is_kept_for_a_large_request_also_where_nobody_would_be_evicted_for_it() -> None:
    """It needs two of the four CPUs, which are one tenant's but for one: taking two would leave that one with less than it has then. What
    ends is its own all the same, and nobody waits for one that is larger than the node."""
    pods, of = [0, 0, 0, 1], tenants(1, 1)

    assert one_node([1], columns((0, 0), (2, 2)), pods, of)[1] == [True, False]
    assert one_node([1], columns((0, 0), (2, 2)), pods, of)[0] == []
    assert one_node([1], columns((0, 0), (9, 9)), [0, 0, 0, 0], of) == ([], [False, False])


def test_a_budget_bounds_what_goes_in_a_round_but_for_the_first_claim() -> None:
    """Two tenants hold nothing; a round may take a quarter of the fleet, so the second waits for the next one."""
    size = columns((0, 0), (1, 1), (1, 1))

    assert one_node([1, 2], size, [0] * 4, tenants(1, 1, 1), budget=0.25)[0] == [0]
    assert one_node([1, 2], size, [0] * 4, tenants(1, 1, 1), budget=0.5)[0] == [0, 1]


def test_a_tenant_is_given_room_for_several_requests_up_to_what_is_fair() -> None:
    """It wants three of four CPUs that another has: two go, after which both have as much; a small budget lets one go."""
    assert one_node([1, 1, 1], columns((0, 0), (1, 1)), [0] * 4, tenants(1, 1))[0] == [0, 1]
    assert one_node([1, 1, 1], columns((0, 0), (1, 1)), [0] * 4, tenants(1, 1), budget=0.25)[0] == [0]


def test_who_is_given_room_in_a_round_loses_none_in_it() -> None:
    """The third tenant's request needs the CPUs of four pods of the second one; the first tenant's, which comes next, takes no pod off
    the third, which would have its larger share only once that request is placed."""
    owner = [0, 0, 0, 0, 1, 1, 1, 1, 2, 1, 1, 2]
    gone, _ = one_node([0, 2], columns((1, 1), (1, 1), (4, 1)), owner, tenants(3, 0.5, 3), cpus=12.0)

    assert [owner[pod] for pod in gone] == [1] * len(gone)
    assert len(gone) >= 4


def test_who_may_take_is_below_the_largest_share_of_another() -> None:
    """One with its next request counted in; who wants nothing takes nothing."""
    capacity, of = np.array([10.0, 100.0, 100.0]), tenants(1, 1, 1)
    held = columns((5, 1), (3, 1), (4, 1))

    assert may_take(columns((1, 1), (1, 1), (1, 1)), held, capacity, of).tolist() == [False, True, False]
    assert not may_take(np.zeros((RESOURCES, 3)), held, capacity, of).any()


@st.composite
def full_fleets(draw: st.DrawFn) -> tuple[NDArray[np.float64], RunningPods, NDArray[np.float64], TenantColumns]:
    """Up to three nodes whose pods are of up to four tenants, all of which want one more; and what is free on the nodes."""
    count, nodes = draw(st.integers(2, 4)), draw(st.integers(1, 3))
    amount = draw(st.integers(1, 12))
    part = st.integers(1, 6).map(float)
    pods = RunningPods(
        node=np.array([draw(st.integers(0, nodes - 1)) for _ in range(amount)], np.int32),
        tenant=np.array([draw(st.integers(0, count - 1)) for _ in range(amount)], np.int32),
        requests=np.array([[draw(part), draw(part), 1.0] for _ in range(amount)]).T.copy(),
        leaving=np.zeros((RESOURCES, nodes)),
    )
    size = np.array([[draw(part), draw(part), 1.0] for _ in range(count)]).T.copy()
    free = np.array([[float(draw(st.integers(0, 3))) for _ in range(nodes)] for _ in range(RESOURCES)])
    return size, pods, free, tenants(*[draw(st.sampled_from([0.5, 1.0, 3.0])) for _ in range(count)])


@settings(max_examples=example_count(100), deadline=None)
@given(full_fleets())
def test_taking_back_leaves_nobody_worse_off_than_the_one_it_began_for(
    world: tuple[NDArray[np.float64], RunningPods, NDArray[np.float64], TenantColumns],
) -> None:
    """After a round each tenant that lost has a pod left, and, where nobody took that held nothing, the least weighted share of all is no
    smaller than before: nobody takes in turn, so that taking back comes to an end."""
    size, pods, free, of = world
    held = sums(pods.requests, pods.tenant, len(of))
    on_nodes = sums(pods.requests, pods.node, free.shape[1])
    capacity = (free + on_nodes).sum(axis=1)
    before = dominant_share(held, capacity) / of.weight
    takers = np.flatnonzero(may_take(size, held, capacity, of)).tolist()

    gone = reclaim(
        [*takers, *takers], np.hstack((size[:, takers], size[:, takers])), held, capacity, of, free=free,
        open_to=np.ones((2 * len(takers), free.shape[1]), np.bool_), pods=pods, budget=1.0,
    )  # fmt: skip

    lost = np.zeros_like(held)
    for pod in gone:
        lost[:, pods.tenant[pod]] += pods.requests[:, pod]
    losers = np.flatnonzero(lost.any(axis=0))
    left = np.bincount(np.delete(pods.tenant, gone), minlength=len(of))
    after = dominant_share(held - lost, capacity) / of.weight
    assert (left[losers] >= 1).all()
    assert len(set(gone.tolist())) == len(gone)
    if held[:, takers].any(axis=0).all():
        assert after.min() >= before.min() - 1e-9


def test_capacity_is_what_lc_leaves_of_nodes_that_are_ready() -> None:
    """A node that is away has nothing to share, and one that LC overfills takes nothing off the others."""
    left = np.array([[4.0, 2.0, -1.0], [8.0, 8.0, 8.0], [9.0, 9.0, 9.0]])

    assert capacity_of(left, np.array([True, False, True])).tolist() == [4.0, 16.0, 18.0]
