"""Capacity answers: the least number of nodes whose QoS rate lies at a target or above with its whole interval, and the highest load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango import api
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.experiments.cells import Cell, fleet_of
from tango.experiments.planning import (
    FIRST_SEEDS,
    CapacityDemand,
    CapacityPlan,
    Goal,
    SearchEnd,
    TargetVerdict,
    carried_out,
    least_that,
    search_load,
    search_nodes,
)
from tango.fleets import load_fleet
from tango.fleets.sizing import kind_named, resized
from tango.systems import SYSTEMS
from tango.traces.workloads import Workload, draw_requests, fleet_cores

TESTBED = load_fleet("testbed")
SEEDS = (1, 2, 3, 4, 5)
TRAFFIC = Workload(lc=("p3",), be=("p3",), duration_s=5.0, load=0.5)


class World:
    """Stands in for the engine: the QoS rate as a function of a fleet's cores, a load and a seed; keeps what was asked for."""

    def __init__(self, qos: Any, be: Any = lambda _cores, _load, _seed: 0.0) -> None:
        self.qos = qos
        self.be = be
        self.rounds: list[list[Cell]] = []

    def __call__(self, cells: Sequence[Cell]) -> list[Any]:
        self.rounds.append(list(cells))
        return [self._result(cell) for cell in cells]

    def _result(self, cell: Cell) -> Any:
        at = (fleet_cores(fleet_of(cell.fleet)), cell.workload.load, cell.seed)
        return SimpleNamespace(figures={"lc_qos_rate": self.qos(*at), "be_cpu_seconds_per_s": self.be(*at)})

    @property
    def sizes(self) -> list[int]:
        """Numbers of nodes in the order in which they were asked for."""
        cells = [cell for cells in self.rounds for cell in cells]
        return list(dict.fromkeys(sum(1 for _ in fleet_of(cell.fleet).nodes) for cell in cells))


def cell(workload: Workload, fleet: str, seed: int) -> Cell:
    """A cell of the simplest system."""
    return Cell(workload=workload, fleet=fleet, system=SYSTEMS["load-greedy"], seed=seed, bound=False)


def planned(
    world: World, *kinds: str, goal: Goal | None = None, beside: bool = False, most: int | None = None, seeds: Sequence[int] = SEEDS
) -> CapacityPlan:
    """The plan of these kinds in a world; by default 4-core nodes for 99 %."""
    goal = goal or Goal(target_qos=0.99)
    demand = CapacityDemand(workload=TRAFFIC, fleet=TESTBED, seeds=tuple(seeds))
    named = [kind_named(kind, TESTBED) for kind in kinds or ("4/7Gi",)]
    return carried_out([search_nodes(demand, goal, kind, cell, beside=beside, most=most) for kind in named], goal, world)


def nodes_of(plan: CapacityPlan, which: int = 0) -> int:
    """The answer of a search."""
    candidate = plan.answers[which].candidate
    assert candidate is not None
    return candidate.nodes


@given(least=st.integers(0, 5), most=st.integers(5, 300), enough=st.integers(0, 320), first=st.none() | st.integers(0, 300))
def test_the_least_number_that_is_enough_is_found(least: int, most: int, enough: int, first: int | None) -> None:
    """Whatever it is and wherever the search begins; the one below was tried, and none twice."""
    tried: list[int] = []

    def meets(number: int) -> Any:
        tried.append(number)
        return number >= enough
        yield  # a generator, as one that simulates is

    begin = None if first is None else min(max(first, least), most)
    with pytest.raises(StopIteration) as ended:
        next(least_that(meets, least, most, begin))

    expected = max(enough, least)
    assert ended.value.value == (None if expected > most else expected)
    assert len(set(tried)) == len(tried) <= 18
    assert expected > most or expected == least or expected - 1 in tried


@pytest.mark.parametrize("enough", [4, 17])
def test_a_fleet_that_is_enough_is_found(enough: int) -> None:
    """Though each seed has chance of its own; what is one smaller was tried and misses, and no cell was simulated twice."""
    world = World(lambda cores, _load, seed: (0.995 if cores >= 4 * enough else 0.95) + 0.003 * ((seed % 3) - 1))

    plan = planned(world, most=40)

    answer = plan.answers[0]
    assert nodes_of(plan) == enough
    assert answer.found is (SearchEnd.LEAST if enough == 4 else SearchEnd.FOUND)
    assert answer.refuted is None if enough == 4 else (answer.refuted.nodes, answer.refuted.verdict) == (16, TargetVerdict.MISSED)
    asked = [(cell.fleet, cell.seed) for cells in world.rounds for cell in cells]
    assert len(set(asked)) == len(asked)


def test_a_candidate_that_misses_is_not_given_all_its_seeds() -> None:
    """One that may meet the target is: no answer rests on fewer."""
    world = World(lambda cores, _load, _seed: 1.0 if cores >= 40 else 0.5)

    plan = planned(world)

    assert {(one.verdict, one.seeds) for one in plan.answers[0].tried} == {
        (TargetVerdict.MET, len(SEEDS)),
        (TargetVerdict.MISSED, FIRST_SEEDS),
    }


def test_an_interval_that_holds_the_target_is_not_enough() -> None:
    """Nine tenths of a point around it: undecided, which counts as too few; the next node decides."""
    world = World(lambda cores, _load, seed: 0.999 if cores >= 48 else 0.99 + (0.009 if seed % 2 else -0.009))

    plan = planned(world)

    answer = plan.answers[0]
    assert nodes_of(plan) == 12
    assert answer.refuted is not None
    assert (answer.refuted.verdict, answer.refuted.seeds) == (TargetVerdict.UNDECIDED, len(SEEDS))


def test_no_number_up_to_the_most_is_an_answer_too() -> None:
    """With how near the most came."""
    plan = planned(World(lambda _cores, _load, _seed: 0.9), most=9)

    assert not plan.is_met
    assert (plan.answers[0].found, nodes_of(plan)) == (SearchEnd.NONE, 9)
    assert (
        "no number up to the most that is asked for meets a QoS rate of 0.99; 9 nodes (36 cores, 63 GiB): QoS rate 90.00%"
        in plan.sentences()[0]
    )
    assert [row["answer"] for row in plan.rows()] == [False] * len(plan.rows())


def test_kinds_are_searched_side_by_side() -> None:
    """Cells of both stand in one round, so that processes have work; a kind that holds no service says why."""
    world = World(lambda cores, _load, _seed: 1.0 if cores >= 48 else 0.5)

    plan = planned(world, "4/7Gi", "8/15Gi", "4/256Mi", "declared")

    assert [answer.found for answer in plan.answers] == [SearchEnd.FOUND, SearchEnd.FOUND, SearchEnd.UNFIT, SearchEnd.FOUND]
    assert [nodes_of(plan, k) for k in (0, 1)] == [12, 6]
    assert {len({cell.fleet for cell in cells}) for cells in world.rounds[:1]} == {3}
    assert "cannot be had: spec.services" in plan.sentences()[2]


def test_nodes_may_be_added_to_those_that_are_declared() -> None:
    """88 cores are declared; none is added where they are enough."""
    enough, more = (World(lambda cores, _load, _seed, least=least: 1.0 if cores >= least else 0.5) for least in (80, 110))

    assert planned(enough, "8/15Gi", beside=True).answers[0].found is SearchEnd.LEAST
    added = planned(more, "8/15Gi", beside=True).answers[0].candidate
    assert added is not None
    assert (added.added, added.nodes, added.cores) == (3, 19, 112.0)


def test_be_work_may_be_asked_for_too() -> None:
    """As a share of what is offered: here 3 in 10 of the CPU that a load of 0.5 asks for."""
    offered = np.mean(
        [CapacityDemand(workload=TRAFFIC, fleet=TESTBED, seeds=SEEDS).offered_cores(seed, ServiceClass.BE) for seed in SEEDS]
    )
    world = World(lambda _cores, _load, _seed: 1.0, lambda cores, _load, _seed: offered * min(1.0, cores / 60))

    plan = planned(world, goal=Goal(target_qos=0.99, be_share=0.7))

    one = plan.answers[0].candidate
    assert offered == pytest.approx(0.3 * 88, rel=0.2)
    assert one is not None
    assert one.be_share is not None
    assert one.be_share.low is not None
    assert one.be_share.low >= 0.7
    assert 42 <= one.cores <= 60


def test_the_same_requests_are_asked_of_every_fleet() -> None:
    """Whatever its size: a load is a share of the CPU of the fleet as declared."""
    demand = CapacityDemand(workload=TRAFFIC, fleet=TESTBED, seeds=SEEDS)
    declared = draw_requests(TRAFFIC, TESTBED, 1)

    for count in (5, 33):
        fleet = resized(TESTBED, kind_named("6/7Gi", TESTBED), count)
        requests = draw_requests(demand.of_fleet(fleet), fleet, 1)
        np.testing.assert_array_equal(requests.due_s, declared.due_s)
        np.testing.assert_array_equal(requests.service, declared.service)
        np.testing.assert_array_equal(requests.cluster, declared.cluster)
        np.testing.assert_allclose(requests.cpu_work_s, declared.cpu_work_s, rtol=1e-12)


@pytest.mark.parametrize("bears", [0, 17, 55])
def test_the_highest_load_is_found_to_a_step(bears: int) -> None:
    """Up to where LC, which is 40 % of it, has all CPU; the fleet stays as declared, and only loads are tried."""
    world = World(lambda _cores, load, _seed: 1.0 if load <= bears * 0.05 + 1e-9 else 0.4)
    goal = Goal(target_qos=0.9)

    plan = carried_out(
        [search_load(CapacityDemand(workload=TRAFFIC, fleet=TESTBED, seeds=SEEDS), goal, cell, step=0.05)],
        goal,
        world,
        of_loads=True,
    )

    answer = plan.answers[0]
    assert answer.candidate is not None
    assert answer.found is (SearchEnd.NONE if bears == 0 else SearchEnd.LEAST if bears >= 50 else SearchEnd.FOUND)
    assert answer.candidate.load == pytest.approx(max(0.05, min(bears * 0.05, 2.5)))
    assert {one.nodes for one in answer.tried} == {16}
    assert [one.load for one in answer.tried] == sorted(one.load for one in answer.tried)


def test_a_plan_is_json_and_rows_and_words() -> None:
    """The same figures in each."""
    plan = planned(World(lambda cores, _load, _seed: 1.0 if cores >= 48 else 0.5))

    document = plan.as_dict()
    (chosen,) = [row for row in plan.rows() if row["answer"]]

    assert document["answers"][0]["candidate"] == {key: value for key, value in chosen.items() if key != "answer"}
    assert (chosen["nodes"], chosen["cores"], chosen["qos_rate"], chosen["verdict"]) == (12, 48.0, 1.0, "met")
    assert document["sentences"] == [
        "4/7Gi: 12 nodes (48 cores, 84 GiB) meet a QoS rate of 0.99: QoS rate 100.00% [100.00%, 100.00%], 5 seeds; "
        "11 nodes (44 cores, 77 GiB) not: QoS rate 50.00% [50.00%, 50.00%], 3 seeds"
    ]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: Goal(target_qos=0.0), "target_qos is 0, expected a share"),
        (lambda: Goal(target_qos=0.9, be_share=1.5), "be_share is 1.5, expected a share"),
        (lambda: planned(World(lambda *_: 1.0), seeds=(1,)), "the seeds are 1, expected two or more"),
        (lambda: planned(World(lambda *_: 1.0), most=2), "at most 2 nodes are asked for, expected 4 or more"),
        (lambda: planned(World(lambda *_: None)), "have no LC in the measured span"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(ask: Any, said: str) -> None:
    """Before anything is simulated, where that can be known."""
    with pytest.raises(UsageError, match=said):
        ask()


# ---- with the engine -----------------------------------------------------------------------------------------------------------

FOUR_CORES = """apiVersion: tango/v1
kind: Fleet
metadata: {name: line}
spec:
  beta: 0
  clusters:
    - name: c1
      nodes: [{name: n1, cpu_millicores: 1000, memory_mib: 2048}]
  services:
    - {name: web, class: lc, cpu_work_s: 0.4, cpu_work_cv: 0, target_ms: 2000, memory_mib: 32, instance_memory_mib: 256,
       cpu_request_millicores: 500, cpu_limit_millicores: 1000}
"""


@pytest.mark.timeout(600)
def test_the_work_that_is_offered_bounds_the_nodes(tmp_path: Path) -> None:
    """A request of 0.4 CPU-seconds every tenth of a second asks for four cores: three nodes of one cannot be enough, and five are."""
    fleet = tmp_path / "line.yaml"
    fleet.write_text(FOUR_CORES)
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,class,service,cpu_work_s\n" + "".join(f"{k / 10:g},lc,web,0.4\n" for k in range(600)))
    traffic = api.workload(trace, resample=False)

    found = api.plan(traffic, "load-greedy", fleet=fleet, target_qos=0.99, seeds=2, keep_in=tmp_path / "kept")
    counted: list[int] = []
    again = api.plan(
        traffic, "load-greedy", fleet=fleet, target_qos=0.99, seeds=2, keep_in=tmp_path / "kept", progress=counted.append
    )

    (answer,) = found.answers().to_pylist()
    rows = {row["nodes"]: row for row in found.candidates().to_pylist()}
    assert found.is_met
    assert answer["found"] == "found"
    assert answer["nodes"] in (4, 5)
    assert rows[answer["nodes"] - 1]["verdict"] in ("missed", "undecided")
    assert all(row["qos_rate"] < 0.6 for nodes, row in rows.items() if nodes <= 3)
    assert (str(again), counted[-1]) == (str(found), len(rows) * 2)
    assert len(list((tmp_path / "kept").iterdir())) == counted[-1]
