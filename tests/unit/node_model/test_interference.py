"""What neighbours do to each other: the function by itself, and nodes small enough to be worked out on paper."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tango.domain.interference import PRESSURES, ServiceInterference
from tango.domain.services import Service, ServiceClass
from tango.node_model import NodeModel
from tango.node_model.interference import NeighbourTraits, slow_down, traits_of
from tests.long import example_count

KINDS = len(PRESSURES)
LC, BE = 0, 1
"""Rows of the two services of `traits`."""
UNSAID = 7.0
"""What no figure of a declared service gives."""

figure = st.floats(0.0, 5.0)
kinds = st.tuples(figure, figure, figure)


def service(name: str, of: ServiceClass = ServiceClass.BE) -> Service:
    """Whose sizes nobody looks at."""
    lc = {"target_ms": 100.0, "instance_memory_mib": 64} if of is ServiceClass.LC else {}
    return Service(name=name, service_class=of, cpu_work_s=1.0, memory_mib=32, **lc)  # type: ignore[arg-type]


def traits(
    *,
    lc: tuple[float, float, float] | None = (0.0, 0.0, 0.0),
    lc_exerts: tuple[float, float, float] = (0.0, 0.0, 0.0),
    be: tuple[float, float, float] | None = None,
    be_exerts: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> NeighbourTraits:
    """Of an LC service and a BE service, by their sensitivities and what they exert."""
    return traits_of(
        [service("web", ServiceClass.LC), service("batch")],
        [
            ServiceInterference(service="web", pressure=lc_exerts, sensitivity=lc),
            ServiceInterference(service="batch", pressure=be_exerts, sensitivity=be),
        ],
    )


def factor(of: NeighbourTraits, exerted: tuple[float, float, float], *, own: float = 0.0, cpu: float = 4.0, row: int = LC) -> float:
    """Of a service on a node of so many cores where all exert so much."""
    return float(slow_down(of, row, np.array(exerted), own, cpu, UNSAID))


@given(sensitivity=kinds, cpu=st.floats(0.5, 64.0))
@settings(max_examples=example_count(50), deadline=None)
def test_nobody_is_slowed_where_nothing_is_exerted(sensitivity: tuple[float, float, float], cpu: float) -> None:
    """The factor is 1 exactly."""
    assert factor(traits(lc=sensitivity), (0.0, 0.0, 0.0), cpu=cpu) == 1.0


@given(sensitivity=kinds, exerted=kinds, more=figure, kind=st.integers(0, KINDS - 1))
@settings(max_examples=example_count(100), deadline=None)
def test_more_pressure_or_more_sensitivity_never_makes_work_quicker(
    sensitivity: tuple[float, float, float], exerted: tuple[float, float, float], more: float, kind: int
) -> None:
    """Kind by kind, and the factor stays between 1 and 1 + all sensitivities."""

    def raised(figures: tuple[float, float, float]) -> tuple[float, float, float]:
        return tuple(f + more * (k == kind) for k, f in enumerate(figures))  # type: ignore[return-value]

    before = factor(traits(lc=sensitivity), exerted)

    assert 1.0 <= before <= 1.0 + sum(sensitivity) + 1e-12
    assert factor(traits(lc=sensitivity), raised(exerted)) >= before
    assert factor(traits(lc=raised(sensitivity)), exerted) >= before


@given(beta=st.floats(0.0, 100.0), cpu=st.floats(0.5, 64.0), share=st.floats(0.0, 1.0), kind=st.integers(0, KINDS - 1))
@settings(max_examples=example_count(200), deadline=None)
def test_one_kind_that_be_exerts_in_full_is_the_single_beta_to_the_last_bit(
    beta: float, cpu: float, share: float, kind: int
) -> None:
    """1 + beta x BE cores / cores, whichever kind stands for it."""
    be_cores = share * cpu
    one = tuple(float(k == kind) for k in range(KINDS))
    of = traits(lc=tuple(beta * figure for figure in one), be_exerts=one)  # type: ignore[arg-type]

    assert factor(of, tuple(be_cores * figure for figure in one), cpu=cpu) == 1.0 + beta * be_cores / cpu  # type: ignore[arg-type]


def test_kinds_add_up_and_each_ends_where_its_resource_is_taken_whole() -> None:
    """On four cores: half of the bandwidth, twice the cache, a quarter of the units."""
    of = traits(lc=(1.0, 0.5, 0.2))

    assert factor(of, (2.0, 8.0, 1.0)) == pytest.approx(1.0 + 1.0 * 0.5 + 0.5 * 1.0 + 0.2 * 0.25)


def test_nobody_is_slowed_by_itself() -> None:
    """Of what is exerted its own part is taken off, by the pressure of its own service."""
    of = traits(lc=(1.0, 0.0, 0.0), lc_exerts=(0.5, 0.0, 0.0))

    assert factor(of, (1.5, 0.0, 0.0), own=2.0) == 1.0 + 1.0 * 0.5 / 4.0
    assert factor(of, (1.0, 0.0, 0.0), own=2.0) == 1.0


@pytest.mark.parametrize("row", [-1, LC, BE])
def test_what_is_not_declared_is_left_to_the_caller(row: int) -> None:
    """A service without a sensitivity, and a program of no service."""
    assert factor(traits(lc=None, be=None, be_exerts=(1.0, 1.0, 1.0)), (4.0, 4.0, 4.0), row=row) == UNSAID


def test_a_fleet_that_declares_nothing_has_no_traits() -> None:
    """Not even rows of zeros, so that no node looks at any."""
    assert len(traits_of([service("batch")], []).is_sensitive) == 0


def test_traits_have_the_rows_of_the_services() -> None:
    """Whatever order they are declared in; a service that is not declared exerts nothing and is left to beta."""
    of = traits_of(
        [service("a"), service("b"), service("c")],
        [
            ServiceInterference(service="c", pressure=(1.0, 2.0, 3.0)),
            ServiceInterference(service="a", sensitivity=(4.0, 5.0, 6.0)),
        ],
    )

    assert of.pressure.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]]
    assert of.sensitivity.tolist() == [[4.0, 5.0, 6.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert of.is_sensitive.tolist() == [True, False, False]


# ---- on nodes ------------------------------------------------------------------------------------------------------------------


def node(
    of: NeighbourTraits, *, cores: float = 4.0, beta: float = 0.0
) -> tuple[NodeModel, Callable[..., int], Callable[..., None]]:
    """A node, and how to give it an LC request on an instance of its own and a BE pod that does not end by itself."""
    model = NodeModel([cores], beta=beta, traits=of)

    def serve(key: int, work_s: float, *, limit: float = 1.0, row: int = LC) -> int:
        instance = model.add_instance(0, limit_cores=limit, memory_mib=100.0, concurrency=9, at_s=0.0, service=row)
        model.submit(0, instance, key, work_s, 1.0, 0.0)
        return instance

    def run(key: int, cores: float, *, work_s: float = 1e6, row: int = BE, at_s: float = 0.0) -> None:
        model.add_pod(0, key, weight=1.0, limit_cores=cores, work_s=work_s, memory_mib=1.0, at_s=at_s, service=row)

    return model, serve, run


def ends(model: NodeModel) -> dict[int, float]:
    """When each key ended."""
    return {key: finished for _, _, key, _, finished, _ in model.finished(1000.0)}


def test_lc_is_slowed_by_what_a_pod_exerts_with_the_cpu_it_gets() -> None:
    """A pod on 2 of 4 cores that exerts 1.5 takes three quarters of the bandwidth: 1 s takes 1.6 s at a sensitivity of 0.8."""
    model, serve, run = node(traits(lc=(0.8, 9.0, 9.0), be_exerts=(1.5, 0.0, 0.0)))
    run(1, 2.0)
    instance = serve(0, 1.0)

    assert ends(model) == {0: pytest.approx(1.6)}
    usage = model.usage(0, at_s=1000.0)
    assert (usage.lc_work_s, usage.lc_busy_s) == (pytest.approx(1.0), pytest.approx(1.6))
    assert model.instance_busy_s(0, instance) == pytest.approx(1.6)


def test_lc_is_slowed_by_other_lc_and_not_by_itself() -> None:
    """Two instances of one service on a core each of 4: each sees a quarter of what its service exerts, not half."""
    model, serve, _ = node(traits(lc=(1.0, 0.0, 0.0), lc_exerts=(2.0, 0.0, 0.0)))

    serve(0, 1.0)
    serve(1, 1.0)

    assert ends(model) == {0: pytest.approx(1.5), 1: pytest.approx(1.5)}


def test_lc_exerts_with_the_cpu_that_it_gets_of_a_full_node() -> None:
    """Two instances want two cores each of two and get one each: each takes half of the node."""
    model, serve, _ = node(traits(lc=(1.0, 0.0, 0.0), lc_exerts=(1.0, 0.0, 0.0)), cores=2.0)
    for key in (0, 1):
        instance = serve(key, 1.0, limit=2.0)
        model.submit(0, instance, 10 + key, 1.0, 1.0, 0.0)

    assert list(ends(model).values()) == [pytest.approx(3.0)] * 4


def test_a_pod_is_slowed_by_its_neighbours_and_does_its_work_all_the_same() -> None:
    """Two pods on 2 of 4 cores each, of which each takes half of the cache: 4 s of work take 2 x 1.5 s; busy time is not work."""
    model, _, run = node(traits(be=(0.0, 1.0, 0.0), be_exerts=(0.0, 1.0, 0.0)))
    run(0, 2.0, work_s=4.0)
    run(1, 2.0, work_s=4.0)

    assert ends(model) == {0: pytest.approx(3.0), 1: pytest.approx(3.0)}
    usage = model.usage(0, at_s=1000.0)
    assert (usage.be_work_s, usage.be_busy_s) == (pytest.approx(8.0), pytest.approx(12.0))


def test_a_pod_that_is_stopped_tells_the_work_it_has_done_and_not_the_cpu_it_has_used() -> None:
    """After 3 s at two thirds of the speed of its 2 cores."""
    model, _, run = node(traits(be=(0.0, 1.0, 0.0), be_exerts=(0.0, 1.0, 0.0)))
    run(0, 2.0, work_s=100.0)
    run(1, 2.0, work_s=100.0)

    assert model.remove_pod(0, 0, at_s=3.0) == pytest.approx(4.0)


def test_a_pod_keeps_its_service_when_it_is_resized() -> None:
    """At twice the CPU it exerts twice as much."""
    model, serve, run = node(traits(lc=(0.0, 0.0, 1.0), be_exerts=(0.0, 0.0, 1.0)))
    run(1, 1.0)
    model.resize_pod(0, 1, weight=1.0, limit_cores=2.0, at_s=0.0)

    serve(0, 1.0)

    assert ends(model) == {0: pytest.approx(1.5)}


def test_a_pod_that_ends_leaves_its_neighbours_alone() -> None:
    """Half a second of work beside it, the rest without: the pod takes 1 s of 1 core, beside which 0.8 s of work are done."""
    model, serve, run = node(traits(lc=(1.0, 0.0, 0.0), be_exerts=(1.0, 0.0, 0.0)))
    run(1, 1.0, work_s=1.0)

    serve(0, 1.0)

    assert ends(model) == {1: pytest.approx(1.0), 0: pytest.approx(1.2)}


def test_beta_counts_for_lc_whose_sensitivity_is_not_declared_and_for_it_alone() -> None:
    """By the utilisation of BE, declared or not; a pod without a declaration is not slowed."""
    model, serve, run = node(traits(lc=None, lc_exerts=(4.0, 4.0, 4.0), be_exerts=(4.0, 4.0, 4.0)), beta=1.0)
    run(1, 2.0, work_s=20.0)

    serve(0, 1.0)
    serve(2, 1.0, row=-1)

    assert ends(model) == {0: 1.5, 2: 1.5, 1: 10.0}


def test_a_declaration_takes_the_place_of_beta() -> None:
    """A service that is declared to mind nothing is not slowed, whatever beta is."""
    model, serve, run = node(traits(lc=(0.0, 0.0, 0.0), be_exerts=(4.0, 4.0, 4.0)), beta=50.0)
    run(1, 2.0)

    serve(0, 1.0)

    assert ends(model) == {0: 1.0}


def test_a_row_that_is_not_there_is_refused() -> None:
    """It would be read beyond the end of an array. Where nothing is declared no row is looked at, so any is taken."""
    model, serve, _ = node(traits())
    with pytest.raises(ValueError, match="no service 2 among the 2"):
        serve(0, 1.0, row=2)

    model = NodeModel([1.0], beta=0.0)
    assert model.add_instance(0, limit_cores=1.0, memory_mib=1.0, concurrency=1, at_s=0.0, service=5) == 0


@given(
    seed=st.integers(0, 10_000),
    lc=kinds,
    be=kinds,
    lc_exerts=kinds,
    be_exerts=kinds,
)
@settings(max_examples=example_count(40), deadline=None)
def test_work_is_conserved_under_any_pressure(
    seed: int,
    lc: tuple[float, float, float],
    be: tuple[float, float, float],
    lc_exerts: tuple[float, float, float],
    be_exerts: tuple[float, float, float],
) -> None:
    """All that is offered is done once, in no more than the node's CPU, and takes at most 1 + all sensitivities of it."""
    rng = np.random.default_rng(seed)
    model = NodeModel([2.0], beta=0.5, traits=traits(lc=lc, be=be, lc_exerts=lc_exerts, be_exerts=be_exerts))
    rows = [model.add_instance(0, limit_cores=limit, memory_mib=99.0, concurrency=2, at_s=0.0, service=LC) for limit in (0.5, 2.0)]
    at_s, offered = 0.0, [0.0, 0.0]
    for key in range(12):
        at_s += float(rng.exponential(0.3))
        work_s, of = float(rng.exponential(0.5)), int(rng.integers(0, 2))
        offered[of] += work_s
        if of == LC:
            model.submit(0, rows[int(rng.integers(0, 2))], key, work_s, 1.0, at_s)
        else:
            model.add_pod(0, key, weight=1.0, limit_cores=1.5, work_s=work_s, memory_mib=1.0, at_s=at_s, service=BE)
        assert model.states.nodes[0]["lc_cores"] + model.states.nodes[0]["be_cores"] <= 2.0 + 1e-12

    ended = model.finished(1e5)

    usage = model.usage(0, at_s=1e5)
    assert sorted(row[2] for row in ended) == list(range(12))
    assert [usage.lc_work_s, usage.be_work_s] == pytest.approx(offered, abs=1e-7)
    assert usage.lc_work_s - 1e-9 <= usage.lc_busy_s <= (1.0 + math.fsum(lc)) * usage.lc_work_s + 1e-7
    assert usage.be_work_s - 1e-9 <= usage.be_busy_s <= (1.0 + math.fsum(be)) * usage.be_work_s + 1e-7
