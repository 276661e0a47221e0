"""The QoS bound: the largest share of LC requests that any schedule with LC alone on the fleet could answer in time.

Relaxations: requests are fluid; all CPU that a request can reach is one pool; arrivals move to the start of their bucket and deadlines to
the end of theirs. `docs/bound.md` has the programme and the proof. `_candidates` finds the requests that could be in time at all and where,
`_at_risk` those of them that compete, and `_programme` is the linear programme for these.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import MEASURED_FROM, MeasuredSpan
from tango.bound.columns import Floats, Ints, spread, totals
from tango.bound.packing import Packing
from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.services import ServiceClass

BUCKETS_PER_TARGET = 4
"""Buckets in the shortest target, to begin with: moving arrivals and deadlines to edges then adds at most half of a target."""
MOST_BUCKETS = 100_000
"""Most buckets of a pool; a longer run begins with longer buckets."""
MOST_COLUMNS = 300_000
"""Most columns; a larger programme is built again with buckets of twice the length. HiGHS solves this many in about a second."""
STEPS = 16
"""Pieces of the piecewise linear curve below a group's least work; exact for groups of no more requests."""
TOLERANCE_S = 1e-10
"""Tolerance of times. A request that needs exactly its target can meet it. Buckets are longer by this at both ends, so that an arrival
or a deadline on an edge does not open the next bucket."""
TOLERANCE_REQUESTS = 1e-6
"""Tolerance of the programme's value before it is rounded down to whole requests."""


class QosBound(NamedTuple):
    """The bound and the length of the buckets that it was found with."""

    rate: float | None
    """0 to 1; None if no LC request arrived in the measured span."""
    bucket_s: float


class _Candidates(NamedTuple):
    """LC requests of the measured span that could be in time on an idle fleet, shape (n,), and the pools of CPU that they can reach."""

    kind: Ints
    """Row of `reach`; requests of one kind can reach the same pools."""
    earliest_s: Floats
    """Earliest time at which the request could reach a node."""
    latest_s: Floats
    """Latest time at which a node must have finished it."""
    work_s: Floats
    reach: NDArray[np.bool_]
    """Which pools a kind can reach, shape (kinds, pools)."""
    pool_cores: Floats
    """Cores of each pool, shape (pools,)."""

    def sole_pool(self) -> Ints:
        """The only pool that a kind reaches, if only such kinds reach that pool, else -1; shape (kinds,)."""
        shared = self.reach[self.reach.sum(axis=1) > 1].any(axis=0)
        pool = self.reach.argmax(axis=1)
        return np.where((self.reach.sum(axis=1) == 1) & ~shared[pool], pool, -1)

    def relaxed(self) -> list[_Candidates]:
        """The candidates with pools merged until each kind reaches one; and unmerged too, if that differs and is small enough."""
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
    """Groups of requests of one kind with the same first and last bucket; arrays but `work_s` have shape (groups,)."""

    kind: Ints
    first: Ints
    """First bucket in which the requests may be worked on."""
    last: Ints
    """Last such bucket."""
    begin: Ints
    """Index of the group's first request in `work_s`."""
    size: Ints
    """Number of requests."""
    work_s: Floats
    """CPU-seconds of each request, ascending within a group."""


def qos_of(fleet: Fleet, requests: NewRequests, *, span_s: float, bucket_s: float | None = None) -> QosBound:
    """The bound; `bucket_s` None: a length that keeps the programme small."""
    measured = MeasuredSpan(MEASURED_FROM * span_s, span_s)
    counted = (requests.service_class == ServiceClass.LC) & measured.holds(requests.due_s)
    arrived = int(np.count_nonzero(counted))
    shortest_s = float(requests.target_s[counted].min(initial=math.inf))
    length_s = bucket_s or max(min(shortest_s / BUCKETS_PER_TARGET, span_s or 1.0), span_s / MOST_BUCKETS)
    if not arrived:
        return QosBound(None, length_s)
    candidates = _candidates(fleet, requests, counted)
    if not len(candidates.kind):
        return QosBound(0.0, length_s)
    # Each is a valid bound, so the lower one counts: merged pools allow shorter buckets, separate pools keep who can reach what.
    met, length_s = min(_most_met(c, length_s, fixed=bucket_s is not None) for c in candidates.relaxed())
    return QosBound(met / arrived, length_s)


def _most_met(candidates: _Candidates, bucket_s: float, *, fixed: bool) -> tuple[int, float]:
    """(most requests in time, bucket length). The length is doubled, unless `fixed`, until the programme is small enough."""
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


def _candidates(fleet: Fleet, requests: NewRequests, counted: NDArray[np.bool_]) -> _Candidates:
    rtt_s = fleet.rtt_ms() / 1000.0
    rows = {cluster.name: row for row, cluster in enumerate(fleet.clusters)}
    entry = np.array([rows[name] for name in requests.clusters], np.int64)[requests.cluster[counted]]
    work_s, target_s, due_s = requests.cpu_work_s[counted], requests.target_s[counted], requests.due_s[counted]
    largest_cores = max(node.cpu_millicores for node in fleet.nodes) / 1000.0
    spare_s = target_s - work_s / min(1.0, largest_cores) + TOLERANCE_S
    nearest_s = rtt_s.min(axis=1)[entry]
    able = spare_s >= nearest_s

    # A relaxation: all requests of one service and entry cluster can reach what the one with the most time to spare can reach.
    origin, row = np.unique(entry[able] * len(requests.services) + requests.service[counted][able], return_inverse=True)
    most_spare_s = np.full(len(origin), -math.inf)
    np.maximum.at(most_spare_s, row, spare_s[able])
    reach = rtt_s[origin // len(requests.services)] <= most_spare_s[:, None]
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
    """Connected component of each pool, shape (pools,); two pools are connected if some kind reaches both."""
    component = np.arange(reach.shape[1])
    while True:
        least = np.where(reach, component, reach.shape[1]).min(axis=1)
        pulled = np.where(reach, least[:, None], reach.shape[1]).min(axis=0)
        pulled = np.minimum(component, pulled)
        if (pulled == component).all():
            return np.unique(component, return_inverse=True)[1].ravel()
        component = pulled


def _buckets(candidates: _Candidates, bucket_s: float) -> tuple[Ints, Ints]:
    """(first, last) bucket in which each request may be worked on, shape (n,) each."""
    first = np.floor((candidates.earliest_s + TOLERANCE_S) / bucket_s).astype(np.int64)
    last = np.ceil((candidates.latest_s - TOLERANCE_S) / bucket_s).astype(np.int64) - 1
    begin = int(first.min())
    return first - begin, np.maximum(first, last) - begin


def _capacity_s(candidates: _Candidates, bucket_s: float) -> Floats:
    """CPU-seconds of a bucket in each pool, shape (pools,)."""
    return candidates.pool_cores * (bucket_s + 2.0 * TOLERANCE_S)


def _at_risk(candidates: _Candidates, first: Ints, last: Ints, bucket_s: float) -> NDArray[np.bool_]:
    """Mask of the requests that may have to give way, shape (n,); all others can be met whatever is chosen among these.

    Let a pool work whenever it has work (work-conserving), on late requests too. When it runs empty, everything that arrived before is
    done, in whatever order. So a request that may still be worked on at such a time can be served last: no other gives way to it, and it
    is done in time (`docs/bound.md`, "Who is met anyway").
    """
    at_risk = np.ones(len(first), bool)
    pool, capacity_s = candidates.sole_pool()[candidates.kind], _capacity_s(candidates, bucket_s)
    for p in np.unique(pool[pool >= 0]):
        mine = pool == p
        buckets = int(last[mine].max()) + 1
        surplus_s = np.cumsum(totals(first[mine], candidates.work_s[mine], buckets) - capacity_s[p])
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
    """The linear programme of `docs/bound.md`, "QoS bound".

    Rows: one for each group, whose chosen requests get their work; one for each used bucket of a pool, its CPU.
    Columns: requests met, by piece of a group's curve of least work; work, by arc.
    """
    step_group, step_length, step_slope_s = _least_work(groups)
    arc_group, arc_pool, arc_bucket = _arcs(candidates, groups)
    buckets = int(groups.last.max()) + 1
    place, slot = np.unique(arc_pool * buckets + arc_bucket, return_inverse=True)
    place_capacity_s = _capacity_s(candidates, bucket_s)[place // buckets]
    total_s = totals(step_group, step_length * step_slope_s, len(groups.kind))
    steps, arcs = len(step_group), len(arc_group)
    ones = np.ones(arcs)
    return Packing(
        gain=np.concatenate((np.ones(steps), np.zeros(arcs))),
        upper=np.concatenate((step_length, np.minimum(total_s[arc_group], place_capacity_s[slot]))),
        capacity=np.concatenate((np.zeros(len(groups.kind)), place_capacity_s)),
        row=np.concatenate((step_group, arc_group, len(groups.kind) + slot)),
        column=np.concatenate((np.arange(steps), steps + np.arange(arcs), steps + np.arange(arcs))),
        value=np.concatenate((step_slope_s, -ones, ones)),
    )


def _arcs(candidates: _Candidates, groups: _Groups) -> tuple[Ints, Ints, Ints]:
    """(group, pool, bucket) of every place in which a group may be worked on, shape (arcs,) each."""
    kind_of_pair, pool_of_pair = np.nonzero(candidates.reach)
    pairs = np.bincount(kind_of_pair, minlength=len(candidates.reach))
    group, nth = spread(pairs[groups.kind])
    pool = pool_of_pair[(np.cumsum(pairs) - pairs)[groups.kind[group]] + nth]
    arc, offset = spread((groups.last - groups.first + 1)[group])
    return group[arc], pool[arc], groups.first[group[arc]] + offset


def _least_work(groups: _Groups) -> tuple[Ints, Floats, Floats]:
    """(group, length in requests, slope in CPU-seconds per request) of each piece of a convex curve below the least work of y requests.

    The least work of y requests of a group is that of its y shortest (L_g(y) of `docs/bound.md`). Tangents at up to STEPS + 1 points,
    the last at all requests, lie below it and touch it there; the curve is their maximum. The points are closer among the longest
    requests, where works differ most and where the answer lies if nearly all can be met.
    """
    pieces = np.minimum(groups.size, STEPS)
    group, nth = spread(pieces + 1)
    above = pieces[group] - nth
    at = groups.size[group] - np.maximum(above, groups.size[group] * above**2 // pieces[group] ** 2)
    running_s = np.concatenate(([0.0], np.cumsum(groups.work_s)))
    done_s = running_s[groups.begin[group] + at] - running_s[groups.begin[group]]
    slope_s = groups.work_s[groups.begin[group] + np.maximum(at, 1) - 1]
    intercept_s = done_s - slope_s * at
    # The abscissa at which the tangent of one point meets that of the next.
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
