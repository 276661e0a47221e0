"""What services do to their neighbours belongs to the world: no policy is told, and all learn alike from what LC and BE do."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.interference import ServiceInterference
from tango.domain.plans import BePlan, LcPlan
from tango.domain.requests import BePending, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.node_model.interference import NeighbourTraits
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings, LcSettings, Settings
from tango.sim.simulate import Given, simulate
from tango.systems import SYSTEMS
from tests.fakes.sim_worlds import BATCH, WEB, SimWorld, fleet_of, requests_of

TRUTH = (Fleet, ServiceInterference, NeighbourTraits)
LOUD = (
    ServiceInterference(service="web", pressure=(0.5, 0.5, 1.0), sensitivity=(2.0, 1.0, 0.5)),
    ServiceInterference(service="batch", pressure=(3.0, 2.0, 1.0), sensitivity=(0.5, 0.5, 0.5)),
)

DECLARED = {
    *("clusters", "nodes", "services", "node_cluster", "node_ready", "resources", "allocatable", "rtt_ms", "bandwidth_mbit_per_s"),
    *("instance_count", "others", "barred"),
}
"""Columns that say what there is, and not what goes on."""


def asked_in(interference: tuple[ServiceInterference, ...]) -> list[tuple[Any, ...]]:
    """All that an LC and a BE policy are given in a run, in order."""
    fleet = dataclasses.replace(fleet_of((2000, 4000), services=(WEB, BATCH)), interference=interference)
    rows = [(0.0, "batch", 1.0), *((0.05 + 0.1 * k, "web", 0.1) for k in range(30)), *((0.5 + k, "batch", 3.0) for k in range(4))]
    world = SimWorld(
        fleet=fleet,
        requests=requests_of(fleet, *sorted(rows)),
        settings=Settings(),
        system=SYSTEMS["load-greedy"],
    )
    given: list[tuple[Any, ...]] = []

    def dispatch(arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings) -> LcPlan:
        given.append((arrivals, snapshot, settings))
        no = np.zeros(len(arrivals), np.bool_)
        return LcPlan(node=np.zeros(len(arrivals), np.int32), late=no, shed=no, expected_s=np.zeros(len(arrivals)), policy="first")

    def place(pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        given.append((pending, snapshot, settings))
        return place_load_greedy(pending, snapshot, settings)

    simulate(world.fleet, world.requests, world.system, world.settings, given=Given(lc=dispatch, be=place))
    return given


def reached(value: object, depth: int = 8) -> Iterator[object]:
    """The value and all that can be reached from it through fields, items and attributes."""
    yield value
    if depth == 0 or isinstance(value, str | bytes | int | float | np.ndarray):
        return
    inner: list[object] = []
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        inner = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, tuple | list | set | frozenset):
        inner = list(value)
    elif hasattr(value, "__dict__"):
        inner = list(vars(value).values())
    for one in inner:
        yield from reached(one, depth - 1)


def columns_of(snapshot: FleetSnapshot) -> dict[str, Any]:
    """By name, arrays as lists."""
    named = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in named.items()}


def test_nothing_that_a_policy_is_given_leads_to_the_truth() -> None:
    """Neither the fleet nor what it declares of interference, from any snapshot, request or setting."""
    given = asked_in(LOUD)

    assert len(given) > 20
    assert not [one for question in given for one in reached(question) if isinstance(one, TRUTH)]


def test_before_anything_has_run_two_worlds_of_other_interference_look_alike() -> None:
    """To the last figure of every column; later they differ in what LC and BE do, and in nothing that is declared."""
    quiet, loud = asked_in(()), asked_in(LOUD)

    assert columns_of(quiet[0][1]) == columns_of(loud[0][1])
    later = {
        name
        for (_, a, _), (_, b, _) in zip(quiet, loud, strict=False)
        for name, value in columns_of(a).items()
        if str(value) != str(columns_of(b)[name])
    }
    assert {"in_flight", "slack"} <= later
    assert not later & DECLARED
