"""Small worlds whose rates and times can be worked out on paper, and properties that hold in every world."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.node_model import LC, POD, NodeModel
from tests.long import example_count


def instance(
    model: NodeModel, node: int = 0, *, limit: float = 1.0, memory: float = 1000.0, concurrency: int = 1000, at_s: float = 0.0
) -> int:
    """An instance with space for everything unless told otherwise."""
    return model.add_instance(node, limit_cores=limit, memory_mib=memory, concurrency=concurrency, at_s=at_s)


def ends(model: NodeModel, to_s: float = 1e6) -> dict[int, float]:
    """When each key ended."""
    return {key: finished for _, _, key, _, finished, _ in model.finished(to_s)}


def test_a_lone_request_runs_on_one_core_however_large_the_limit() -> None:
    """A request in service gets min(1 core, L/k)."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=4.0)

    model.submit(0, row, 1, 0.5, 10, 2.0)

    assert model.finished(10.0) == [(LC, 0, 1, 2.0, 2.5, 0.5)]


def test_requests_of_an_instance_share_its_limit_evenly() -> None:
    """Two requests at a limit of one core run at half a core each until the shorter ends."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=1.0)

    model.submit(0, row, 1, 1.0, 10, 0.0)
    model.submit(0, row, 2, 0.5, 10, 0.0)

    assert model.next_event_s() == 1.0
    assert ends(model) == {2: 1.0, 1: 1.5}


def test_a_late_request_slows_the_one_in_service() -> None:
    """Request 1 has 0.5 s left when request 2 comes, and both then run at half a core."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=1.0)

    model.submit(0, row, 1, 1.0, 10, 0.0)
    model.submit(0, row, 2, 1.0, 10, 0.5)

    assert ends(model) == {1: 1.5, 2: 2.0}


def test_lc_beyond_the_node_is_scaled_down_evenly() -> None:
    """Two instances that want two cores each on a node of two get one each."""
    model = NodeModel([2.0], beta=0.0)
    rows = [instance(model, limit=2.0) for _ in range(2)]

    for key in range(4):
        model.submit(0, rows[key % 2], key, 1.0, 10, 0.0)

    assert ends(model) == dict.fromkeys(range(4), 2.0)


def test_be_pods_share_by_weight_and_hand_on_what_a_cap_leaves() -> None:
    """Of 3 cores, weights 1 and 2 would give 1 and 2; a cap of 0.5 on the first leaves 2.5 to the second."""
    model = NodeModel([3.0], beta=0.0)

    model.add_pod(0, 1, weight=1, limit_cores=0.5, work_s=1.0, memory_mib=1, at_s=0.0)
    model.add_pod(0, 2, weight=2, limit_cores=4.0, work_s=5.0, memory_mib=1, at_s=0.0)

    assert sorted(model.states.pods["cores"][0, :2]) == [0.5, 2.5]
    assert ends(model) == {1: 2.0, 2: 2.0}


def test_be_stands_still_while_lc_takes_the_whole_node() -> None:
    """LC before BE: the pod gets nothing until the LC request has ended."""
    model = NodeModel([1.0], beta=0.0)
    row = instance(model, limit=1.0)

    model.submit(0, row, 1, 2.0, 10, 0.0)
    model.add_pod(0, 2, weight=1, limit_cores=1.0, work_s=1.0, memory_mib=1, at_s=0.0)

    assert ends(model) == {1: 2.0, 2: 3.0}


def test_be_inflates_lc_work_by_beta_times_its_utilisation() -> None:
    """With beta 0.5 and BE on half the node, one second of LC work takes 1.25 s, and both figures are kept apart."""
    model = NodeModel([2.0], beta=0.5)
    row = instance(model, limit=1.0)
    model.add_pod(0, 9, weight=1, limit_cores=1.0, work_s=100.0, memory_mib=7, at_s=0.0)

    model.submit(0, row, 1, 1.0, 10, 0.0)

    assert ends(model, 2.0) == {1: 1.25}
    usage = model.usage(0, at_s=2.0)
    assert (usage.lc_busy_s, usage.lc_work_s, usage.be_busy_s) == (1.25, 1.0, 2.0)
    assert (model.instance_busy_s(0, row), model.clock_s(0)) == (1.25, 2.0)
    assert (usage.lc_memory_mib, usage.be_memory_mib, usage.be_pods) == (0.0, 7.0, 1)


def test_requests_wait_in_order_for_memory() -> None:
    """The third request would not fit; the fourth would, but waits behind it."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=8.0, memory=100)

    for key, memory in enumerate((40, 40, 60, 10)):
        model.submit(0, row, key, 1.0, memory, 0.0)

    assert model.instance_load(0, row) == (2, 2, 80.0)
    started = {key: start for _, _, key, start, _, _ in model.finished(10.0)}
    assert started == {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0}


def test_concurrency_bounds_the_requests_in_service() -> None:
    """With a concurrency of one, requests run one after the other."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=8.0, concurrency=1)

    for key in range(3):
        model.submit(0, row, key, 1.0, 1, 0.0)

    assert ends(model) == {0: 1.0, 1: 2.0, 2: 3.0}


def test_a_request_larger_than_its_instance_is_refused() -> None:
    """Such a request would block the queue for ever."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, memory=100)

    with pytest.raises(ValueError, match=r"memory of 0 to 100.0 MiB"):
        model.submit(0, row, 1, 1.0, 101, 0.0)


def test_a_resize_takes_effect_from_its_own_time_on() -> None:
    """Half a second at half a core, the rest at one core."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=0.5)
    model.submit(0, row, 1, 1.0, 1, 0.0)

    model.resize_instance(0, row, limit_cores=1.0, memory_mib=1000, at_s=0.5)

    assert ends(model) == {1: 1.25}


def test_a_cancelled_request_leaves_its_share_to_the_others() -> None:
    """Request 1 runs alone again after request 2 is taken out; a request that waits can be taken out too."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, limit=1.0, concurrency=2)
    model.submit(0, row, 1, 1.0, 1, 0.0)
    second = model.submit(0, row, 2, 1.0, 1, 0.0)
    third = model.submit(0, row, 3, 1.0, 1, 0.0)

    assert model.cancel(third, at_s=0.5)
    assert model.cancel(second, at_s=1.0)

    assert ends(model) == {1: 1.5}
    assert not model.cancel(second, at_s=2.0)


def test_an_instance_that_stops_names_the_requests_that_die_with_it() -> None:
    """Those in service and those that wait, in order of arrival; the row is free for the next instance."""
    model = NodeModel([8.0], beta=0.0)
    row = instance(model, concurrency=1)
    for key in (5, 3, 4):
        model.submit(0, row, key, 1.0, 1, 0.0)

    assert model.remove_instance(0, row, at_s=0.5) == [5, 3, 4]

    assert model.finished(10.0) == []
    assert instance(model, at_s=10.0) == row
    with pytest.raises(ValueError, match="no instance 3"):
        model.submit(0, 3, 1, 1.0, 1, 10.0)


def test_a_stopped_pod_tells_the_work_it_had_done() -> None:
    """Work lost by an eviction is what the pod had done; a pod that has ended cannot be stopped."""
    model = NodeModel([2.0], beta=0.0)
    model.add_pod(0, 1, weight=1, limit_cores=0.5, work_s=10.0, memory_mib=1, at_s=0.0)
    model.add_pod(0, 2, weight=1, limit_cores=0.5, work_s=0.5, memory_mib=1, at_s=0.0)

    assert model.pod_work_done_s(0, 1) == 0.0
    assert model.remove_pod(0, 1, at_s=3.0) == 1.5
    assert model.remove_pod(0, 2, at_s=3.0) is None
    assert model.finished(3.0) == [(POD, 0, 2, 0.0, 1.0, 0.5)]


def test_work_of_zero_ends_at_once() -> None:
    """A request or pod without work ends when it starts, even where LC leaves BE nothing."""
    model = NodeModel([1.0], beta=0.0)
    row = instance(model)
    model.submit(0, row, 1, 5.0, 1, 1.0)
    model.add_pod(0, 2, weight=1, limit_cores=1.0, work_s=0.0, memory_mib=1, at_s=1.0)
    model.submit(0, row, 3, 0.0, 1, 1.0)

    assert ends(model, 1.0) == {2: 1.0, 3: 1.0}


def test_time_does_not_run_backwards() -> None:
    """A node refuses a time before its clock."""
    model = NodeModel([1.0], beta=0.0)
    row = instance(model, at_s=5.0)

    with pytest.raises(ValueError, match=r"stands at 5.0 s"):
        model.submit(0, row, 1, 1.0, 1, 4.0)


def test_arrays_grow_under_many_instances_pods_and_requests() -> None:
    """Nothing is lost when every array has to grow, and all of it ends."""
    model = NodeModel([64.0, 64.0], beta=0.1)
    rows = [instance(model, 1) for _ in range(20)]

    for key in range(2000):
        model.submit(1, rows[key % 20], key, 0.01 + key * 1e-5, 0.1, 0.0)
    for key in range(200):
        model.add_pod(0, key, weight=1 + key, limit_cores=0.1, work_s=1.0, memory_mib=1, at_s=0.0)

    finished = model.finished(1e6)
    assert sorted(key for kind, _, key, *_ in finished if kind == LC) == list(range(2000))
    assert sorted(key for kind, _, key, *_ in finished if kind == POD) == list(range(200))


ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from(["request", "pod"]),
        st.floats(0.0, 5.0),  # time
        st.floats(0.0, 3.0),  # work
        st.integers(0, 2),  # instance
        st.floats(0.1, 4.0),  # weight
        st.floats(0.1, 3.0),  # limit
    ),
    min_size=1,
    max_size=25,
)


def replay(
    arrivals: list[tuple[str, float, float, int, float, float]], beta: float, probe_s: list[float]
) -> tuple[NodeModel, list[tuple[object, ...]]]:
    """Feed arrivals in order of time, looking at the node in between; give the model and what ended."""
    model = NodeModel([3.0], beta=beta)
    rows = [instance(model, limit=limit, concurrency=3) for limit in (0.5, 1.0, 2.5)]
    steps = sorted(
        [(a[1], k, a) for k, a in enumerate(arrivals)] + [(at_s, -1, None) for at_s in probe_s], key=lambda s: (s[0], s[1])
    )
    finished: list[tuple[object, ...]] = []
    for at_s, key, arrival in steps:
        if arrival is None:
            finished += model.finished(at_s)
        elif arrival[0] == "request":
            model.submit(0, rows[arrival[3]], key, arrival[2], 10.0, at_s)
        else:
            model.add_pod(0, key, weight=arrival[4], limit_cores=arrival[5], work_s=arrival[2], memory_mib=1.0, at_s=at_s)
        check_rates(model)
    finished += model.finished(1e5)
    return model, finished


def check_rates(model: NodeModel) -> None:
    """Capacity is never exceeded, LC is served first, nothing idles that could work."""
    state = model.states.nodes[0]
    pods = model.states.pods[0, : state["pods"]]
    wanted = sum(min(i["in_service"], i["limit_cores"]) for i in model.states.instances[0])
    assert state["lc_cores"] == pytest.approx(min(3.0, wanted))
    assert pods["cores"].sum() + state["lc_cores"] <= 3.0 + 1e-12
    assert np.all(pods["cores"] <= pods["limit_cores"])
    assert pods["cores"].sum() == pytest.approx(min(3.0 - state["lc_cores"], pods["limit_cores"].sum()), abs=1e-9)
    uncapped = pods[pods["cores"] < pods["limit_cores"] - 1e-12]
    if len(uncapped):
        level = (uncapped["cores"] / uncapped["weight"]).max()
        assert np.allclose(uncapped["cores"] / uncapped["weight"], level)
        assert np.all(pods["cores"] / pods["weight"] <= level + 1e-9)


@settings(max_examples=example_count(60), deadline=None)
@given(arrivals=ARRIVALS, beta=st.floats(0.0, 2.0))
def test_work_is_conserved_and_capacity_never_exceeded(
    arrivals: list[tuple[str, float, float, int, float, float]], beta: float
) -> None:
    """All work offered is done once: useful work equals the sum of works, and busy time is at least that."""
    model, finished = replay(arrivals, beta, [])

    usage = model.usage(0, at_s=1e5)
    offered = {kind: math.fsum(a[2] for a in arrivals if a[0] == kind) for kind in ("request", "pod")}
    assert sorted(row[2] for row in finished) == list(range(len(arrivals)))  # type: ignore[type-var]
    assert usage.lc_work_s == pytest.approx(offered["request"], abs=1e-7)
    assert [usage.be_busy_s, usage.be_work_s] == pytest.approx([offered["pod"]] * 2, abs=1e-7)
    assert usage.lc_busy_s >= usage.lc_work_s - 1e-9


@settings(max_examples=example_count(60), deadline=None)
@given(arrivals=ARRIVALS, probe_s=st.lists(st.floats(0.0, 8.0), max_size=10))
def test_looking_at_a_node_does_not_change_what_it_does(
    arrivals: list[tuple[str, float, float, int, float, float]], probe_s: list[float]
) -> None:
    """Advancing in many small steps gives the same ends as advancing in one."""
    _, at_once = replay(arrivals, 0.3, [])
    _, in_steps = replay(arrivals, 0.3, probe_s)

    assert {row[2]: row[4] for row in in_steps} == pytest.approx({row[2]: row[4] for row in at_once}, abs=1e-7)


@settings(max_examples=example_count(60), deadline=None)
@given(
    works=st.lists(st.tuples(st.floats(0.01, 2.0), st.floats(0.1, 5.0), st.floats(0.1, 2.0)), min_size=2, max_size=12),
    seed=st.integers(0, 99),
)
def test_the_order_of_simultaneous_pods_does_not_matter(works: list[tuple[float, float, float]], seed: int) -> None:
    """Pods that start together end at the same times, bit for bit, whatever order they are added in."""

    def run(order: list[int]) -> dict[int, float]:
        model = NodeModel([2.0], beta=0.0)
        for key in order:
            work_s, weight, limit = works[key]
            model.add_pod(0, key, weight=weight, limit_cores=limit, work_s=work_s, memory_mib=1.0, at_s=0.0)
        return ends(model)

    shuffled = np.random.default_rng(seed).permutation(len(works)).tolist()

    assert run(list(range(len(works)))) == run(shuffled)


@settings(max_examples=example_count(40), deadline=None)
@given(
    works=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=40),
    cancelled=st.lists(st.integers(0, 39), max_size=20),
)
def test_cancelling_any_request_keeps_the_order_of_the_others(works: list[float], cancelled: list[int]) -> None:
    """However requests are taken out, the rest end in order of their work."""
    model = NodeModel([1.0], beta=0.0)
    row = instance(model, limit=1.0)
    handles = [model.submit(0, row, key, 1.0 + work, 1.0, 0.0) for key, work in enumerate(works)]

    gone = {key for key in cancelled if key < len(works) and model.cancel(handles[key], at_s=0.0)}

    finished = [row[2] for row in model.finished(1e6)]
    assert finished == sorted((key for key in range(len(works)) if key not in gone), key=lambda key: (1.0 + works[key], key))
