"""Pods that are placed one by one: what holds of every policy, on small fleets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.gpus import MOST_DEVICES, GpuKinds, GpuNodes, GpuPods
from tango.scheduling.gpu.columns import device_columns, typical_pods
from tango.scheduling.gpu.filling import filling_kinds, model_prices
from tango.scheduling.gpu.placing import GpuPolicy, place_pods

MODELS = ("G2", "T4")


def fleet(*nodes: tuple[int, int, int]) -> GpuNodes:
    """(cores, devices, bit of the model) of each."""
    cores, devices, model = (np.array(column, np.int64) for column in zip(*nodes, strict=True))
    names = tuple(f"n{k}" for k in range(len(nodes)))
    return GpuNodes(names, cores * 1000, np.full(len(nodes), 100, np.int64), devices, model, MODELS)


def workload(*pods: tuple[int, int, int, str]) -> GpuPods:
    """(cores, devices, thousandths of each, models) of each; each is a kind of its own and asks for 1 MiB."""
    cores, devices, thousandths, models = zip(*pods, strict=True)
    n = len(pods)
    kinds = GpuKinds(
        np.array(cores, np.int64) * 1000, np.ones(n, np.int64), np.array(devices, np.int64), np.array(thousandths, np.int64), models
    )
    return GpuPods(tuple(f"p{k}" for k in range(n)), np.arange(n), kinds)


def in_order(pods: GpuPods) -> np.ndarray:
    """Each of them once."""
    return np.arange(len(pods), dtype=np.int64)


POD = st.one_of(
    st.tuples(st.integers(0, 6), st.just(0), st.just(0), st.just("")),
    st.tuples(st.integers(0, 6), st.just(1), st.integers(1, 1000), st.sampled_from(["", "G2", "T4", "G2|T4", "A100"])),
    st.tuples(st.integers(0, 6), st.integers(1, 4), st.just(1000), st.sampled_from(["", "G2"])),
)
NODE = st.tuples(st.integers(0, 16), st.integers(0, 4), st.integers(0, 1))


@pytest.mark.parametrize("policy", list(GpuPolicy))
@given(nodes=st.lists(NODE, min_size=1, max_size=5), pods=st.lists(POD, min_size=1, max_size=25), seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_no_device_is_overfull_and_what_is_refused_fits_nowhere(
    policy: GpuPolicy, nodes: list[tuple[int, int, int]], pods: list[tuple[int, int, int, str]], seed: int
) -> None:
    """Every pod gets its devices, all of one node, whose model it accepts; refused is only what no node had room for just then."""
    where, given_out = fleet(*nodes), workload(*pods)
    node, devices = place_pods(policy, where, given_out, in_order(given_out), np.random.default_rng(seed))
    cpu, memory = where.cpu_millicores.copy(), where.memory_mib.copy()
    free = np.where(np.arange(MOST_DEVICES) < where.devices[:, None], 1000, 0)
    kinds = given_out.kinds
    accepted = kinds.accepted(where)

    for k in range(len(given_out)):
        enough = (free >= max(kinds.thousandths[k], 1)).sum(axis=1) >= kinds.devices[k]
        accepts = (accepted[k] >> where.model) & 1 == 1
        fitting = (cpu >= kinds.cpu_millicores[k]) & (memory >= kinds.memory_mib[k]) & (enough & accepts | (kinds.devices[k] == 0))
        assert (node[k] >= 0) == fitting.any()
        if node[k] < 0:
            continue
        assert fitting[node[k]]
        taken = [d for d in range(MOST_DEVICES) if devices[k] >> d & 1]
        assert len(taken) == kinds.devices[k]
        cpu[node[k]] -= kinds.cpu_millicores[k]
        memory[node[k]] -= kinds.memory_mib[k]
        free[node[k], taken] -= kinds.thousandths[k]
        assert (free >= 0).all()


def test_the_same_chance_places_alike_and_another_does_not() -> None:
    """`RANDOM` takes all that is random from the generator it is given."""
    where, pods = fleet(*[(64, 4, 0)] * 8), workload(*[(1, 1, 300, "")] * 30)
    once, again, other = (place_pods(GpuPolicy.RANDOM, where, pods, in_order(pods), np.random.default_rng(s))[0] for s in (1, 1, 2))

    assert once.tolist() == again.tolist() != other.tolist()


def test_of_nodes_that_score_alike_the_first_is_taken() -> None:
    """So the order of nodes settles ties, as the study's seed does."""
    where, pods = fleet((8, 2, 0), (8, 2, 0)), workload((1, 1, 1000, ""))

    for policy in set(GpuPolicy) - {GpuPolicy.RANDOM}:
        assert place_pods(policy, where, pods, in_order(pods))[0].tolist() == [0]


def test_typical_pods_are_the_most_frequent_that_cover_95_per_cent() -> None:
    """Of 100 pods 60 and 37 are enough; their shares sum to 1 again. Memory tells no kinds apart."""
    many = [(1, 1, 500, "")] * 60 + [(2, 1, 1000, "")] * 37 + [(3, 0, 0, "")] * 3
    found = typical_pods(workload(*many), fleet((8, 2, 0)))

    assert found.thousandths.tolist() == [500, 1000]
    assert found.share == pytest.approx([60 / 97, 37 / 97])
    assert device_columns(fleet((8, 2, 0))).free[0].tolist() == [1000, 1000, 0, 0, 0, 0, 0, 0]


def test_a_model_costs_what_is_asked_for_by_name() -> None:
    """Of 10 devices 2 are T4; of every 8 that are asked for 1 must be a T4: 1.25 of 2. Models that the fleet lacks cost nothing."""
    where = fleet((96, 8, 0), (96, 2, 1))
    pods = workload((1, 6, 1000, ""), (1, 1, 1000, "T4"), (1, 1, 1000, "G2|T4"), (1, 0, 0, ""))
    foreign = workload((1, 1, 1000, "A100"), (1, 1, 1000, ""))

    assert model_prices(pods, where).tolist() == [0.0, 0.625]
    assert model_prices(foreign, where).tolist() == [0.0, 0.0]


def test_filling_weighs_small_pods_most() -> None:
    """Kinds as frequent: 0.25 of a device weighs 4^1.2 times what a whole one does. Pods without devices fill nothing."""
    found = filling_kinds(workload((1, 1, 1000, ""), (1, 1, 250, ""), (9, 0, 0, "")), fleet((8, 2, 0)))

    assert found.thousandths.tolist() == [250, 1000]
    assert found.weight[0] / found.weight[1] == pytest.approx(4**1.2)
    assert found.weight.sum() == pytest.approx(1.0)


def test_pods_of_many_devices_weigh_as_much_as_pods_of_one() -> None:
    """By all their devices together they would weigh next to nothing, and find no empty node where many ask for so many."""
    found = filling_kinds(workload((1, 1, 1000, ""), (1, 4, 1000, "")), fleet((8, 4, 0)))

    assert found.devices.tolist() == [1, 4]
    assert found.weight.tolist() == pytest.approx([0.5, 0.5])
