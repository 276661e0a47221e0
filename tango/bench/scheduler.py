"""`tango bench scheduler`: milliseconds of single decisions, and the table of decision times that simulations charge.

- `dss-lc` for 500 requests over 1,040 nodes: the closed form beside the same flow solved by OR-tools; unequal costs fail the benchmark.
- BE placement of 5,000 pending requests over 1,144 vertices (1,040 nodes and 104 clusters) on one thread, beside one forward pass of
  the network alone.
- `record` measures every policy over a grid of nodes and requests.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tango.bench.figures import Figure, Told
from tango.bench.lc_flow_solver import solve_dispatch
from tango.bench.worlds import arrivals_for, busy_snapshot, fleet_of_size, pending_for
from tango.domain.checkpoints import LEARNED_BE
from tango.domain.fleet import Fleet
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.learning.timing import forward_pass
from tango.scheduling.lc.columns import NO_NOISE, Asks, belief_of, new_choices, new_terrain
from tango.scheduling.lc.dispatch import dispatch, set_prices
from tango.scheduling.lc.rule import lc_rule
from tango.settings import BeSettings, LcSettings, Settings
from tango.sim.decision_costs import DecisionCost
from tango.systems import be_policy, lc_policy
from tango.systems.registry import BE_REFERENCES, be_names, lc_names

LC_NODES = (10, 100, 1000, 10_000)
LC_REQUESTS = (1, 8, 64, 512)
"""Requests of a decision: up to some 500 of one cluster in a window. The simulator interpolates between the points of this grid."""
BE_NODES = (10, 100, 1000, 10_000)
BE_REQUESTS = (1, 32, 256, 2048)

UNHURRIED = BeSettings(decide_budget_ms=float("inf"))
"""Without a time budget, so that a slow decision is measured and not replaced by the fallback's."""


def measure(*, told: Told = lambda _: None) -> list[Figure]:
    """Decision times of every LC policy and of BE placement, with their yardsticks; takes about a minute."""
    told("LC: 500 requests over 1,040 nodes")
    fleet = fleet_of_size(1040, clusters=104)
    snapshot = busy_snapshot(fleet)
    figures = [*_flow(snapshot), *_all_lc(snapshot, arrivals_for(fleet, 500))]
    told("BE: 5,000 pending requests over 1,144 vertices")
    figures += _placement(fleet, snapshot, _be_names(), (1000, 5000))
    told("BE: 5,000 pending requests over 10,000 nodes")
    large = fleet_of_size(10_000)
    return [*figures, *_placement(large, busy_snapshot(large), ("load-greedy", *LEARNED_BE), (5000,))]


def record(*, told: Told = lambda _: None) -> tuple[list[DecisionCost], str]:
    """(time of every policy at every point of the grid, description of the machine)."""
    rows = []
    settings = Settings()
    for nodes in LC_NODES:
        fleet = fleet_of_size(nodes)
        snapshot = busy_snapshot(fleet)
        for name in lc_names():
            policy = lc_policy(name, settings)
            for count in LC_REQUESTS:
                arrivals = arrivals_for(fleet, count)
                ms = _ms(partial(policy, arrivals, snapshot, settings.lc))
                rows.append(DecisionCost(kind="lc", policy=name, nodes=nodes, requests=count, ms=round(ms, 4)))
        for name in _be_names():
            placing = be_policy(name, settings)
            for count in BE_REQUESTS:
                pending = pending_for(fleet, count)
                ms = _ms(partial(placing, pending, snapshot, UNHURRIED))
                rows.append(DecisionCost(kind="be", policy=name, nodes=nodes, requests=count, ms=round(ms, 4)))
        told(f"{nodes} nodes measured")
    return rows, f"{platform.machine()}, {platform.system()}, Python {platform.python_version()}, one thread"


def _be_names() -> tuple[str, ...]:
    """Those that decide while requests wait."""
    return tuple(name for name in be_names() if name not in BE_REFERENCES)


def _flow(snapshot: FleetSnapshot) -> list[Figure]:
    """Times of the closed form and of the solver for 500 equal requests of one service that entered at one cluster.

    Raises: ArithmeticError if the two disagree on the number of requests in time or on the cost.
    """
    lc = next(k for k, s in enumerate(snapshot.services) if s.target_ms)
    service = snapshot.services[lc]
    budget_s = (service.target_ms or 0.0) / 1e3
    count = 500
    arrivals = LcArrivals(
        request_id=np.arange(count, dtype=np.int64),
        service=np.full(count, lc, np.int32),
        entry_cluster=np.zeros(count, np.int32),
        due_s=np.zeros(count),
        target_s=np.full(count, budget_s),
        cpu_work_s=np.full(count, service.cpu_work_s),
        memory_mib=np.full(count, float(service.memory_mib)),
        epoch=np.zeros(count, np.int32),
    )
    settings, dss_lc = LcSettings(), lc_rule("dss-lc")
    terrain = new_terrain(
        snapshot.services,
        rtt_ms=snapshot.rtt_ms,
        bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
        node_cluster=snapshot.node_cluster,
    )
    belief = belief_of(snapshot)
    plan = dss_lc(arrivals, snapshot, settings)
    most, least_s = solve_dispatch(terrain, belief, 0, lc, count, budget_s)
    in_time = (plan.node >= 0) & ~plan.late
    # The solver's costs are rounded to microseconds, so each request may differ by one; 2e-6 leaves some for summation.
    if in_time.sum() != most or abs(plan.expected_s[in_time].sum() - least_s) > 2e-6 * count:
        raise ArithmeticError(f"closed form {in_time.sum()} at {plan.expected_s[in_time].sum()} s, solver {most} at {least_s} s")
    closed_ms = _ms(lambda: dss_lc(arrivals, snapshot, settings))
    solver_ms = _ms(lambda: solve_dispatch(terrain, belief, 0, lc, count, budget_s))
    filled = np.zeros((len(snapshot.services), len(snapshot.clusters)))
    to = new_choices(count)
    fresh = snapshot.in_flight

    def fill() -> None:
        belief.in_flight[:] = fresh
        filled[:] = 0.0
        set_prices(dss_lc.traits, terrain, belief)
        dispatch(
            dss_lc.traits,
            0,
            arrivals.request_id,
            Asks(arrivals.service, arrivals.target_s, arrivals.request_id),
            terrain,
            belief,
            filled,
            to,
            NO_NOISE,
        )

    of = f"500 requests, {len(snapshot.nodes)} nodes, equal cost {least_s:.3f} s"
    return [
        Figure(
            name=f"dss-lc closed form, snapshot arranged too ({of})",
            value=closed_ms,
            unit="ms",
            yardstick="OR-tools min-cost flow",
            yardstick_value=solver_ms,
        ),
        Figure(
            name="dss-lc closed form, the flow alone (prices and filling)",
            value=_ms(fill),
            unit="ms",
            yardstick="OR-tools min-cost flow",
            yardstick_value=solver_ms,
        ),
    ]


def _all_lc(snapshot: FleetSnapshot, arrivals: LcArrivals) -> list[Figure]:
    settings = Settings()
    return [
        Figure(
            name=f"{name}: {len(arrivals)} LC requests of all services, {len(snapshot.nodes)} nodes",
            value=_ms(partial(lc_policy(name, settings), arrivals, snapshot, settings.lc)),
            unit="ms",
        )
        for name in lc_names()
    ]


def _placement(fleet: Fleet, snapshot: FleetSnapshot, names: Sequence[str], counts: Sequence[int]) -> list[Figure]:
    settings = Settings()
    vertices = len(snapshot.nodes) + len(snapshot.clusters)
    forward_ms = _ms(forward_pass(snapshot))
    figures = []
    for name in names:
        policy = be_policy(name, settings)
        for count in counts:
            pending = pending_for(fleet, count)
            learned = name in LEARNED_BE
            figures.append(
                Figure(
                    name=f"{name}: {count} pending over {vertices} vertices",
                    value=_ms(partial(policy, pending, snapshot, UNHURRIED)),
                    unit="ms",
                    yardstick="one forward pass of the network" if learned else "",
                    yardstick_value=forward_ms if learned else None,
                )
            )
    return figures


def _ms(call: Callable[[], object], *, least_s: float = 0.2) -> float:
    """Median milliseconds of a call, after one that is not counted: of at least 5 calls, and of more until `least_s` or 400 calls."""
    call()
    took: list[float] = []
    while len(took) < 5 or (sum(took) < least_s and len(took) < 400):
        began_s = time.perf_counter()
        call()
        took.append(time.perf_counter() - began_s)
    return statistics.median(took) * 1e3
