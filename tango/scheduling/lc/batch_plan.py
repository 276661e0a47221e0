"""Plans of batches by a built-in LC policy, as a live dispatcher makes them many times a second: one compiled step, on kept arrays.

    price all nodes ─► choose for each request ─► what is left of its time ─► count in

It gives what the parts give by themselves, one after the other (`rule.LcRule`, `budget.within_budget`, and the counting of `FleetView`); a
test holds the two together. For a batch of some requests on some nodes those take a quarter of a millisecond, most of it for NumPy's
calls on a handful of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.services import Service
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc.columns import NO_NOISE, Belief, Choices, Exploration, Terrain, Traits, belief_of, new_terrain
from tango.scheduling.lc.dispatch import dispatch, set_prices
from tango.scheduling.lc.rule import LcRule
from tango.settings import LcSettings


class Batch(NamedTuple):
    """m requests that entered one cluster."""

    row: NDArray[np.int64]
    """(m,) 0, 1, 2, ..."""
    service: NDArray[np.int32]
    due_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    patience_s: NDArray[np.float64]
    """(m,) of their callers; infinity for others."""
    turn: NDArray[np.int64]
    shed: NDArray[np.bool_]
    """(m,) to be filled: given up."""


class Declared(NamedTuple):
    """What the s services say, as far as a plan asks."""

    work_s: NDArray[np.float64]
    target_s: NDArray[np.float64]
    """(s,) infinity for BE."""
    shed_after_targets: NDArray[np.float64]
    scale: NDArray[np.float64]
    """(s,) to be filled: by how much the run scales works (`work_scale`)."""
    arrived: NDArray[np.float64]
    """(s,) to be filled: requests of the batch."""


class Now(NamedTuple):
    """When and how a batch is planned."""

    now_s: float
    """Wall seconds since the run began."""
    keep_late: bool
    scales_work: bool
    """Whether targets tell the scale of works: those of callers do not."""


@in_place
def plan_batch(
    policy: Traits,
    entry: int,
    now: Now,
    batch: Batch,
    declared: Declared,
    margin_s: NDArray[np.float64],
    terrain: Terrain,
    belief: Belief,
    sent: NDArray[np.float64],
    in_flight: NDArray[np.float64],
    in_flight_work_s: NDArray[np.float64],
    to: Choices,
    explore: Exploration,
) -> None:
    """Fill `to` and `batch.shed`, and count the plan in `in_flight` and `in_flight_work_s` (s, n), which are the snapshot's.

    `belief.in_flight` is overwritten by `in_flight` first. `margin_s` (s,) is as `within_budget` takes it, `sent` (s, c) as `dispatch`.
    """
    for s in range(len(declared.work_s)):
        declared.scale[s] = 0.0
        declared.arrived[s] = 0.0
    for row in batch.row:
        s = batch.service[row]
        declared.arrived[s] += 1.0
        declared.scale[s] += batch.target_s[row] / declared.target_s[s]
    for s in range(len(declared.work_s)):
        known = now.scales_work and declared.arrived[s] > 0.0 and np.isfinite(declared.target_s[s])
        declared.scale[s] = declared.scale[s] / declared.arrived[s] if known else 1.0
        terrain.work_s[s] = declared.work_s[s] * declared.scale[s]
        for n in range(in_flight.shape[1]):
            belief.in_flight[s, n] = in_flight[s, n]
        for c in range(sent.shape[1]):
            sent[s, c] = 0.0
    set_prices(policy, terrain, belief)
    dispatch(policy, entry, batch.row, batch.service, batch.target_s, batch.turn, terrain, belief, sent, to, explore)
    for row in batch.row:
        s = batch.service[row]
        is_shed = to.late[row] and not now.keep_late
        without_node = to.node[row] < 0 and not is_shed
        answered_s = max(0.0, now.now_s - batch.due_s[row])
        spare_s = 0.0
        if not without_node:
            answered_s += to.expected_s[row]
            if not is_shed:
                spare_s = margin_s[s]
        until_s = batch.patience_s[row]
        if declared.shed_after_targets[s] > 0.0:
            until_s = min(until_s, declared.shed_after_targets[s] * batch.target_s[row])
        is_shed = is_shed or answered_s + spare_s > until_s
        batch.shed[row] = is_shed
        to.late[row] = (to.late[row] or answered_s > batch.target_s[row]) and not is_shed and not without_node
        if is_shed:
            to.node[row] = -1
        elif to.node[row] >= 0:
            in_flight[s, to.node[row]] += 1.0
            in_flight_work_s[s, to.node[row]] += terrain.work_s[s]


class BatchPlanner:
    """Plans for one entry cluster, with what it keeps from plan to plan. Not thread-safe."""

    def __init__(self) -> None:
        self._terrain_of: tuple[object, ...] = ()
        self._belief_of: tuple[object, ...] = ()
        self._services: Sequence[Service] = ()
        self._terrain: Terrain | None = None
        self._belief: Belief | None = None
        self._declared: Declared | None = None
        self._sent = np.zeros((0, 0))

    def plan(
        self,
        rule: LcRule,
        arrivals: LcArrivals,
        seen: FleetSnapshot,
        counted: FleetSnapshot,
        settings: LcSettings,
        *,
        now_s: float,
        margin_s: NDArray[np.float64],
    ) -> LcPlan:
        """The plan of arrivals that entered one cluster, counted in `counted`; `seen` is the same fleet as a plan may use it."""
        m, is_called = len(arrivals), isinstance(arrivals, CalledArrivals)
        entry = int(arrivals.entry_cluster[0])
        self._arrange(rule, seen, settings, entry)
        assert self._terrain is not None
        assert self._belief is not None
        assert self._declared is not None
        to = Choices(np.full(m, -1, np.int32), np.full(m, np.inf), np.zeros(m, np.bool_))
        batch = Batch(
            row=np.arange(m),
            service=arrivals.service,
            due_s=arrivals.due_s,
            target_s=arrivals.target_s,
            patience_s=arrivals.patience_s if isinstance(arrivals, CalledArrivals) else np.full(m, np.inf),
            turn=arrivals.request_id + arrivals.epoch,
            shed=np.zeros(m, np.bool_),
        )
        plan_batch(
            rule.traits,
            entry,
            Now(now_s, settings.keep_late, not is_called),
            batch,
            self._declared,
            margin_s,
            self._terrain,
            self._belief,
            self._sent,
            counted.in_flight,
            counted.in_flight_work_s,
            to,
            NO_NOISE,
        )
        return LcPlan(node=to.node, late=to.late, shed=batch.shed, expected_s=to.expected_s, policy=rule.name)

    def _arrange(self, rule: LcRule, seen: FleetSnapshot, settings: LcSettings, entry: int) -> None:
        """Arrange anew what follows from arrays that are others than the last time. Snapshots share them until something is published."""
        services = seen.services
        if services is not self._services:
            self._services = services
            self._declared = Declared(
                work_s=np.array([s.cpu_work_s for s in services]),
                target_s=np.array([(s.target_ms or np.inf) / 1e3 for s in services]),
                shed_after_targets=np.array([s.shed_after_targets for s in services]),
                scale=np.ones(len(services)),
                arrived=np.zeros(len(services)),
            )
        terrain_of = (services, seen.rtt_ms, seen.bandwidth_mbit_per_s, seen.node_cluster, rule, settings, entry)
        if not _are(terrain_of, self._terrain_of):
            self._terrain_of = terrain_of
            self._terrain = new_terrain(
                services,
                rtt_ms=seen.rtt_ms,
                bandwidth_mbit_per_s=seen.bandwidth_mbit_per_s,
                node_cluster=seen.node_cluster,
                weights=rule.weights(settings),
                entries=np.array([entry], np.int32),
            )
            self._sent = np.zeros((len(services), len(seen.clusters)))
        belief_from = (
            services,
            seen.node_ready,
            seen.instance_limit,
            seen.instance_count,
            seen.allocatable,
            seen.lc_requests,
            seen.be_requests,
            seen.cpu_used,
            seen.slack,
            seen.clusters,
        )
        if not _are(belief_from, self._belief_of):
            self._belief_of, self._belief = belief_from, belief_of(seen)


def _are(these: tuple[object, ...], those: tuple[object, ...]) -> bool:
    """Whether these are the very same objects."""
    return len(these) == len(those) and all(this is that for this, that in zip(these, those, strict=True))
