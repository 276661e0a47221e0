"""Plans of batches by a built-in LC policy, as a live dispatcher makes them many times a second: one compiled step, on kept arrays.

    price all nodes ─► choose for each request ─► what is left of its time

It gives what the parts give by themselves, one after the other (`rule.LcRule`, `budget.within_budget`); a test holds the two together. For
a batch of some requests on some nodes those take a quarter of a millisecond, most of it for NumPy's calls on a handful of numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.compiled import in_place, inlined
from tango.domain.patience import given_up_after_s
from tango.domain.plans import LcPlan
from tango.domain.requests import CalledArrivals, LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.domain.snapshot_assembly import expected_work_s
from tango.scheduling.budget import late_or_shed
from tango.scheduling.lc.columns import (
    NO_NOISE,
    Asks,
    Belief,
    Choices,
    Exploration,
    Terrain,
    Traits,
    be_cores,
    belief_of,
    new_choices,
    new_terrain,
    with_answers,
)
from tango.scheduling.lc.dispatch import dispatch, see_home, set_prices
from tango.scheduling.lc.rule import LcRule
from tango.scheduling.work_scale import set_work_scale
from tango.settings.decisions import LcSettings

_given_up_after_s, _expected_work_s = inlined(given_up_after_s), inlined(expected_work_s)


class BatchColumns(NamedTuple):
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


class Now(NamedTuple):
    """Where, when and how a batch is planned."""

    entry: int
    """Cluster that the batch entered."""
    now_s: float
    """Wall seconds since the run began."""
    keep_late: bool
    scales_work: bool
    """Whether targets tell the scale of works: those of callers do not."""
    margin_s: NDArray[np.float64]
    """(s,) as `within_budget` takes it."""
    in_flight: NDArray[np.float64]
    """(s, n) the snapshot's; read alone."""
    be_cores: NDArray[np.float64]
    """(n,) what BE may use of each node (`columns.be_cores`); read alone."""


class Kept(NamedTuple):
    """What a planner keeps from plan to plan; s services, n nodes, c clusters."""

    work_s: NDArray[np.float64]
    """(s,) mean work of a request, as declared."""
    target_s: NDArray[np.float64]
    """(s,) infinity for BE."""
    shed_after_targets: NDArray[np.float64]
    scale: NDArray[np.float64]
    """(s,) to be filled: by how much the run scales works (`work_scale`)."""
    arrived: NDArray[np.float64]
    """(s,) to be filled: requests of the batch."""
    terrain: Terrain
    """`work_s` is to be filled: mean work at the run's scale."""
    belief: Belief
    """What is in flight is to be filled, and what follows from it."""
    sent: NDArray[np.float64]
    """(s, c) to be filled: as `dispatch` counts."""


@in_place
def plan_batch(policy: Traits, now: Now, batch: BatchColumns, kept: Kept, to: Choices, explore: Exploration) -> None:
    """Fill `to` and `batch.shed`; of the snapshot nothing is written."""
    terrain, belief = kept.terrain, kept.belief
    if now.scales_work:
        set_work_scale(batch.service, batch.target_s, kept.target_s, kept.scale, kept.arrived)
    else:
        kept.scale[:] = 1.0
    for s in range(len(kept.work_s)):
        terrain.work_s[s] = _expected_work_s(kept.work_s[s], kept.scale[s])
        for n in range(now.in_flight.shape[1]):
            belief.in_flight[s, n] = now.in_flight[s, n]
        for c in range(kept.sent.shape[1]):
            kept.sent[s, c] = 0.0
    for n in range(now.in_flight.shape[1]):
        belief.be_limit[n] = np.inf
    set_prices(policy, terrain, belief)
    see_home(policy, terrain, belief, now.entry, now.be_cores)
    asks = Asks(batch.service, batch.target_s, batch.turn)
    dispatch(policy, now.entry, batch.row, asks, terrain, belief, kept.sent, to, explore)
    for row in batch.row:
        s = batch.service[row]
        is_shed = to.late[row] and not now.keep_late
        if not is_shed:
            until_s = min(batch.patience_s[row], _given_up_after_s(batch.target_s[row], kept.shed_after_targets[s]))
            to.late[row], is_shed = late_or_shed(
                max(0.0, now.now_s - batch.due_s[row]),
                to.expected_s[row],
                to.node[row] >= 0,
                to.late[row],
                batch.target_s[row],
                until_s,
                now.margin_s[s],
            )
        batch.shed[row] = is_shed
        if is_shed:
            to.node[row], to.late[row] = -1, False


class BatchPlanner:
    """Plans for one entry cluster, with what it keeps from plan to plan. Not thread-safe."""

    def __init__(self) -> None:
        self._terrain_of: tuple[object, ...] = ()
        self._belief_of: tuple[object, ...] = ()
        self._kept: Kept | None = None

    def plan(
        self,
        rule: LcRule,
        arrivals: LcArrivals,
        seen: FleetSnapshot,
        settings: LcSettings,
        *,
        now_s: float,
        margin_s: NDArray[np.float64],
    ) -> LcPlan:
        """The plan of arrivals that entered one cluster, with what is left of each request's time counted in (`within_budget`)."""
        m, is_called = len(arrivals), isinstance(arrivals, CalledArrivals)
        entry = int(arrivals.entry_cluster[0])
        kept = self._arrange(rule, seen, settings, entry)
        if rule.policy.observes:
            kept = kept._replace(belief=with_answers(kept.belief, seen))
        to = new_choices(m)
        batch = BatchColumns(
            row=np.arange(m),
            service=arrivals.service,
            due_s=arrivals.due_s,
            target_s=arrivals.target_s,
            patience_s=arrivals.patience_s if isinstance(arrivals, CalledArrivals) else np.full(m, np.inf),
            turn=arrivals.request_id + arrivals.epoch,
            shed=np.zeros(m, np.bool_),
        )
        now = Now(
            entry=entry,
            now_s=now_s,
            keep_late=settings.keep_late,
            scales_work=not is_called,
            margin_s=margin_s,
            in_flight=seen.in_flight,
            be_cores=be_cores(seen),
        )
        plan_batch(rule.traits, now, batch, kept, to, NO_NOISE)
        return LcPlan(node=to.node, late=to.late, shed=batch.shed, expected_s=to.expected_s, policy=rule.name)

    def _arrange(self, rule: LcRule, seen: FleetSnapshot, settings: LcSettings, entry: int) -> Kept:
        """Arrange anew what follows from arrays that are others than the last time. Snapshots share them until something is published."""
        services = seen.services
        terrain_of = (services, seen.rtt_ms, seen.bandwidth_mbit_per_s, seen.node_cluster, rule, settings, entry)
        belief_of_these = (
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
        kept = self._kept
        belief = kept.belief if kept is not None and _are(belief_of_these, self._belief_of) else belief_of(seen)
        if kept is None or not _are(terrain_of, self._terrain_of):
            kept = Kept(
                work_s=np.array([s.cpu_work_s for s in services]),
                target_s=np.array([(s.target_ms or np.inf) / 1e3 for s in services]),
                shed_after_targets=np.array([s.shed_after_targets for s in services]),
                scale=np.ones(len(services)),
                arrived=np.zeros(len(services)),
                terrain=new_terrain(
                    services,
                    rtt_ms=seen.rtt_ms,
                    bandwidth_mbit_per_s=seen.bandwidth_mbit_per_s,
                    node_cluster=seen.node_cluster,
                    weights=rule.weights(settings),
                    entries=np.array([entry], np.int32),
                ),
                belief=belief,
                sent=np.zeros((len(services), len(seen.clusters))),
            )
        elif belief is not kept.belief:
            kept = kept._replace(belief=belief)
        self._terrain_of, self._belief_of, self._kept = terrain_of, belief_of_these, kept
        return kept


def _are(these: tuple[object, ...], those: tuple[object, ...]) -> bool:
    """Whether these are the very same objects."""
    return len(these) == len(those) and all(this is that for this, that in zip(these, those, strict=True))
