"""The QoS bound: the largest share of LC requests that any schedule could answer in time, had it the fleet to itself.

Requests are fluid, all CPU that a request can reach is one pool, arrivals move to the start and deadlines to the end of their bucket.
`docs/bound.md` has the programme and why it is a relaxation. The parts: `_candidates` (who could make it at all, and where), `_at_risk`
(who needs a programme at all), `_programme` (for them).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import WINDOW_FROM, Window
from tango.bound.columns import Floats, Ints, spread, totals
from tango.bound.packing import Packing
from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass

BUCKETS_PER_TARGET = 4
"""The first bucket is this part of the shortest target: a burst then cannot be spread over much more than its own deadline."""
MOST_BUCKETS = 100_000
"""Of a pool; a longer run starts with longer buckets."""
MOST_COLUMNS = 300_000
"""A programme with more is built again with buckets twice as long: HiGHS solves this many in about a second."""
STEPS = 16
"""Slopes with which a group's least work is drawn from below; a group of no more requests is exact."""
TOLERANCE_S = 1e-10
"""Rounding of times: a request that needs exactly its target can make it, and every bucket is longer by this at both ends, so that an
arrival or a deadline on its edge need not open the next one."""
TOLERANCE_REQUESTS = 1e-6
"""What rounding may take from the programme's value before it is cut to a whole number of requests."""


class QosBound(NamedTuple):
    """The bound and the bucket it was found with."""

    rate: float | None
    """None where no LC request arrived in the window."""
    bucket_s: float


class _Candidates(NamedTuple):
    """LC requests of the window that could be in time on an idle fleet, one element each, and the pools they can reach."""

    kind: Ints
    """Row of `reach`: requests that can reach the same pools."""
    earliest_s: Floats
    """First instant at which a node could have it."""
    latest_s: Floats
    """Last instant at which a node could be done with it."""
    work_s: Floats
    reach: NDArray[np.bool_]
    """(kinds, pools)."""
    pool_cores: Floats

    def sole_pool(self) -> Ints:
        """(kinds,) the pool of a kind that can reach one pool which only such kinds reach, else -1."""
        shared = self.reach[self.reach.sum(axis=1) > 1].any(axis=0)
        pool = self.reach.argmax(axis=1)
        return np.where((self.reach.sum(axis=1) == 1) & ~shared[pool], pool, -1)

    def relaxed(self) -> list[_Candidates]:
        """These with pools joined until each kind reaches one, and as they are where that differs and is not too large."""
        if (self.reach.sum(axis=1) == 1).all():
            return [self]
        least_columns = STEPS * len(self.reach) + int(self.reach.sum())
        return [self._joined(), self] if least_columns <= MOST_COLUMNS // 4 else [self._joined()]

    def _joined(self) -> _Candidates:
        component = _components(self.reach)
        pools = int(component.max()) + 1
        kind = component[self.reach.argmax(axis=1)][self.kind]
        return self._replace(kind=kind, reach=np.eye(pools, dtype=bool), pool_cores=totals(component, self.pool_cores, pools))


class _Groups(NamedTuple):
    """Requests of one kind with the same first and last bucket, one element each; their works sorted in `work_s`."""

    kind: Ints
    first: Ints
    last: Ints
    begin: Ints
    """Where a group's works begin in `work_s`."""
    size: Ints
    work_s: Floats


def qos_of(fleet: Fleet, requests: NewRequests, *, span_s: float, bucket_s: float | None = None) -> QosBound:
    """The bound, with a bucket of choice or one that keeps the programme small."""
    window = Window(WINDOW_FROM * span_s, span_s)
    judged = (requests.service_class == ServiceClass.LC) & window.holds(requests.due_s)
    arrived = int(np.count_nonzero(judged))
    shortest_s = float(requests.target_s[judged].min(initial=math.inf))
    length_s = bucket_s or max(min(shortest_s / BUCKETS_PER_TARGET, span_s or 1.0), span_s / MOST_BUCKETS)
    if not arrived:
        return QosBound(None, length_s)
    candidates = _candidates(fleet, requests, judged)
    if not len(candidates.kind):
        return QosBound(0.0, length_s)
    # Each is a relaxation, so the lower one holds: pools joined allow short buckets, pools apart keep who reaches what.
    met, length_s = min(_most_met(c, length_s, fixed=bucket_s is not None) for c in candidates.relaxed())
    return QosBound(met / arrived, length_s)


def _most_met(candidates: _Candidates, bucket_s: float, *, fixed: bool) -> tuple[int, float]:
    """Requests that can be met at most, and the bucket length from `bucket_s` on with which the programme is small enough."""
    while True:
        first, last = _buckets(candidates, bucket_s)
        at_risk = _at_risk(candidates, first, last, bucket_s)
        groups = _groups(candidates, first, last, at_risk)
        if fixed or _columns(candidates, groups) <= MOST_COLUMNS:
            break
        bucket_s *= 2.0
    elsewhere = int(np.count_nonzero(~at_risk))
    if not len(groups.kind):
        return elsewhere, bucket_s
    return min(len(at_risk), elsewhere + math.floor(_programme(candidates, groups, bucket_s).most() + TOLERANCE_REQUESTS)), bucket_s


def _candidates(fleet: Fleet, requests: NewRequests, judged: NDArray[np.bool_]) -> _Candidates:
    rtt_s = fleet.rtt_ms() / 1000.0
    rows = {cluster.name: row for row, cluster in enumerate(fleet.clusters)}
    entry = np.array([rows[name] for name in requests.clusters], np.int64)[requests.cluster[judged]]
    work_s, target_s, due_s = requests.cpu_work_s[judged], requests.target_s[judged], requests.due_s[judged]
    largest_cores = max(node.cpu_millicores for node in fleet.nodes) / 1000.0
    room_s = target_s - work_s / min(1.0, largest_cores) + TOLERANCE_S
    nearest_s = rtt_s.min(axis=1)[entry]
    able = room_s >= nearest_s

    # Requests of one service that enter at one cluster reach what the one with most room reaches.
    origin, row = np.unique(entry[able] * len(requests.services) + requests.service[judged][able], return_inverse=True)
    most_room_s = np.full(len(origin), -math.inf)
    np.maximum.at(most_room_s, row, room_s[able])
    reach = rtt_s[origin // len(requests.services)] <= most_room_s[:, None]
    kinds, kind_of = np.unique(reach, axis=0, return_inverse=True)
    pools, pool_of = np.unique(kinds, axis=1, return_inverse=True)
    cores = np.array([sum(node.cpu_millicores for node in cluster.nodes) / 1000.0 for cluster in fleet.clusters])
    return _Candidates(
        kind=kind_of.ravel()[row],
        earliest_s=(due_s + nearest_s / 2.0)[able],
        latest_s=(due_s + target_s - nearest_s / 2.0)[able],
        work_s=work_s[able],
        reach=pools,
        pool_cores=totals(pool_of.ravel(), cores, pools.shape[1]),
    )


def _components(reach: NDArray[np.bool_]) -> Ints:
    """(pools,) component of each pool, pools being joined by kinds that reach both."""
    component = np.arange(reach.shape[1])
    while True:
        least = np.where(reach, component, reach.shape[1]).min(axis=1)
        pulled = np.where(reach, least[:, None], reach.shape[1]).min(axis=0)
        pulled = np.minimum(component, pulled)
        if (pulled == component).all():
            return np.unique(component, return_inverse=True)[1].ravel()
        component = pulled


def _buckets(candidates: _Candidates, bucket_s: float) -> tuple[Ints, Ints]:
    """(n,) first and last bucket in which each request may be worked on."""
    first = np.floor((candidates.earliest_s + TOLERANCE_S) / bucket_s).astype(np.int64)
    last = np.ceil((candidates.latest_s - TOLERANCE_S) / bucket_s).astype(np.int64) - 1
    begin = int(first.min())
    return first - begin, np.maximum(first, last) - begin


def _room_s(candidates: _Candidates, bucket_s: float) -> Floats:
    """(pools,) CPU-seconds of a bucket."""
    return candidates.pool_cores * (bucket_s + 2.0 * TOLERANCE_S)


def _at_risk(candidates: _Candidates, first: Ints, last: Ints, bucket_s: float) -> NDArray[np.bool_]:
    """(n,) who may have to give way; all others are met beside whatever choice of these.

    Let a pool work whenever it has work, late or not. Once it has nothing left, all that came before is done, whatever the order. So who
    may still be worked on when that happens can come last: no other gives way to it, and it is done by then.
    """
    at_risk = np.ones(len(first), bool)
    pool, room_s = candidates.sole_pool()[candidates.kind], _room_s(candidates, bucket_s)
    for p in np.unique(pool[pool >= 0]):
        mine = pool == p
        buckets = int(last[mine].max()) + 1
        surplus_s = np.cumsum(totals(first[mine], candidates.work_s[mine], buckets) - room_s[p])
        left_s = surplus_s - np.minimum.accumulate(np.minimum(surplus_s, 0.0))
        empty = np.where(left_s > TOLERANCE_S, buckets, np.arange(buckets))
        next_empty = np.minimum.accumulate(empty[::-1])[::-1]
        at_risk[mine] = last[mine] < next_empty[first[mine]]
    return at_risk


def _groups(candidates: _Candidates, first: Ints, last: Ints, chosen: NDArray[np.bool_]) -> _Groups:
    kind, first, last, work_s = candidates.kind[chosen], first[chosen], last[chosen], candidates.work_s[chosen]
    order = np.lexsort((work_s, last, first, kind))
    kind, first, last = kind[order], first[order], last[order]
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(kind) != 0) | (np.diff(first) != 0) | (np.diff(last) != 0)
    begin = np.flatnonzero(new)
    size = np.diff(np.append(begin, len(order)))
    return _Groups(kind[begin], first[begin], last[begin], begin, size, work_s[order])


def _columns(candidates: _Candidates, groups: _Groups) -> int:
    arcs = (groups.last - groups.first + 1) * candidates.reach.sum(axis=1)[groups.kind]
    return int(arcs.sum() + np.minimum(groups.size, STEPS).sum())


def _programme(candidates: _Candidates, groups: _Groups, bucket_s: float) -> Packing:
    """Rows: a group's work is done (one each), a pool's bucket is not overrun (one each in use)."""
    step_group, step_length, step_slope_s = _least_work(groups)
    arc_group, arc_pool, arc_bucket = _arcs(candidates, groups)
    buckets = int(groups.last.max()) + 1
    place, slot = np.unique(arc_pool * buckets + arc_bucket, return_inverse=True)
    place_room_s = _room_s(candidates, bucket_s)[place // buckets]
    total_s = totals(step_group, step_length * step_slope_s, len(groups.kind))
    steps, arcs = len(step_group), len(arc_group)
    ones = np.ones(arcs)
    return Packing(
        gain=np.concatenate((np.ones(steps), np.zeros(arcs))),
        upper=np.concatenate((step_length, np.minimum(total_s[arc_group], place_room_s[slot]))),
        room=np.concatenate((np.zeros(len(groups.kind)), place_room_s)),
        row=np.concatenate((step_group, arc_group, len(groups.kind) + slot)),
        column=np.concatenate((np.arange(steps), steps + np.arange(arcs), steps + np.arange(arcs))),
        value=np.concatenate((step_slope_s, -ones, ones)),
    )


def _arcs(candidates: _Candidates, groups: _Groups) -> tuple[Ints, Ints, Ints]:
    """Group, pool and bucket of every place where a group may be worked on."""
    kind_of_pair, pool_of_pair = np.nonzero(candidates.reach)
    pairs = np.bincount(kind_of_pair, minlength=len(candidates.reach))
    group, nth = spread(pairs[groups.kind])
    pool = pool_of_pair[(np.cumsum(pairs) - pairs)[groups.kind[group]] + nth]
    arc, offset = spread((groups.last - groups.first + 1)[group])
    return group[arc], pool[arc], groups.first[group[arc]] + offset


def _least_work(groups: _Groups) -> tuple[Ints, Floats, Floats]:
    """Group, length in requests and slope of each straight piece of a convex curve below the least work of y requests.

    The least work of y requests is that of the y shortest. Tangents at up to STEPS + 1 points, all requests among them, lie below it and
    touch it there; their maximum is the curve. The points lie closer among the longest requests, where works differ most and where
    the answer lies when nearly all can be met.
    """
    pieces = np.minimum(groups.size, STEPS)
    group, nth = spread(pieces + 1)
    above = pieces[group] - nth
    at = groups.size[group] - np.maximum(above, groups.size[group] * above**2 // pieces[group] ** 2)
    running_s = np.concatenate(([0.0], np.cumsum(groups.work_s)))
    done_s = running_s[groups.begin[group] + at] - running_s[groups.begin[group]]
    slope_s = groups.work_s[groups.begin[group] + np.maximum(at, 1) - 1]
    intercept_s = done_s - slope_s * at
    # Where the tangent of one point meets that of the next.
    steeper_s = np.diff(slope_s)
    meets = np.where(steeper_s > 0.0, -np.diff(intercept_s) / np.where(steeper_s > 0.0, steeper_s, 1.0), at[1:])
    meets = np.clip(meets, at[:-1], at[1:])
    begins = np.concatenate(([0.0], meets))
    begins[nth == 0] = 0.0
    ends = np.append(meets, 0.0)
    final = nth == pieces[group]
    ends[final] = groups.size[group[final]]
    kept = ends > begins
    return group[kept], (ends - begins)[kept], slope_s[kept]
