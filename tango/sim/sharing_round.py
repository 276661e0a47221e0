"""One round of sharing in the engine: measure tails, apply the rule, let resizes take their time. Compiled."""

from __future__ import annotations

import numpy as np

from tango.compiled import in_place
from tango.node_model import kernel
from tango.scheduling.sharing_step import CERES, evicts, share
from tango.sim.codes import EVICTED, PUSHED_OUT, RESIZE, RESIZED
from tango.sim.happenings import evict, set_limits
from tango.sim.heap import push
from tango.sim.state import Engine, Rules, Tails


@in_place
def share_out(e: Engine, now_s: float) -> None:
    """One round at `now_s`."""
    rows, nodes = len(e.places.row_service), len(e.sites)
    columns, shares = e.sharing.instances, e.sharing.shares
    for n in range(nodes):
        e.sites[n].slack = 1.0
    for s in range(e.truth.in_flight.shape[0]):
        if e.places.first_row[s] == e.places.first_row[s + 1]:
            continue
        for n in range(nodes):
            measure(e.rules, e.tails, s * nodes + n, now_s)
            if e.tails.samples[s * nodes + n] >= e.sharing.tuning.min_samples:
                slack = 1.0 - e.tails.tail_ms[s * nodes + n] / e.sharing.declared.target_ms[s]
                e.sites[n].slack = min(e.sites[n].slack, slack)
    for n in range(nodes):
        e.sharing.capacities.be_request_millicores[n] = e.sites[n].placed_request
        for i in range(rows):
            at = n * rows + i
            place = e.places.row_service[i] * nodes + n
            columns.tail_ms[at] = e.tails.tail_ms[place]
            columns.samples[at] = e.tails.samples[place]
            columns.since_resize_s[at] = now_s - e.sharing.changed_s[at]
    _list_evictable(e, now_s)
    share(e.sharing.tuning, columns, e.sharing.capacities, e.sharing.declared, shares)
    for k in range(e.sharing.capacities.first_evictable[nodes]):
        if shares.evict[k]:
            r = e.sharing.evictable[k]
            _note(e, now_s, PUSHED_OUT, e.progress[r].node, e.arrivals.service[r], np.nan, np.nan, np.nan)
            evict(e, r, EVICTED, now_s)
    for at in range(len(columns.limit_millicores)):
        if (
            shares.limit_millicores[at] == columns.limit_millicores[at]
            and shares.request_millicores[at] == columns.request_millicores[at]
        ):
            continue
        n, s = at // rows, e.places.row_service[at % rows]
        _note(e, now_s, RESIZED, n, s, columns.limit_millicores[at], shares.limit_millicores[at], shares.slack[at])
        e.sites[n].lc_request += shares.request_millicores[at] - columns.request_millicores[at]
        e.sites[n].lc_limit += shares.limit_millicores[at] - columns.limit_millicores[at]
        columns.limit_millicores[at] = shares.limit_millicores[at]
        columns.request_millicores[at] = shares.request_millicores[at]
        e.sharing.changed_s[at] = now_s
        set_limits(e, n)
        push(e.heap, e.heap_counts, now_s + e.rules.actuation_s, RESIZE, at, 0, shares.limit_millicores[at])
    if e.sharing.tuning.rule == CERES:
        for n in range(nodes):
            _scale_pods(e, n, now_s)


@in_place
def measure(rules: Rules, tails: Tails, place: int, now_s: float) -> None:
    """Tail latency of one (service, node) over the window: the quantile, linear between ranks, as PostgreSQL's `percentile_cont`."""
    ranked = tails.sorted_s
    count = 0
    held = tails.at_s.shape[1]
    since_s = now_s - rules.tail_window_s
    newest = tails.head[place] - 1
    for back in range(held):
        at_s = tails.at_s[place, (newest - back) % held]
        if at_s <= since_s:
            # Answers come in order of time but for those from abroad, which are noted at the end of their window.
            if at_s <= since_s - rules.window_s:
                break
            continue
        value = tails.latency_s[place, (newest - back) % held]
        j = count
        while j > 0 and ranked[j - 1] > value:
            ranked[j] = ranked[j - 1]
            j -= 1
        ranked[j] = value
        count += 1
    tails.samples[place] = count
    if count == 0:
        tails.tail_ms[place] = np.nan
        return
    rank = rules.tail_quantile * (count - 1)
    low = int(rank)
    high = min(low + 1, count - 1)
    tails.tail_ms[place] = (ranked[low] + (rank - low) * (ranked[high] - ranked[low])) * 1e3


@in_place
def _list_evictable(e: Engine, now_s: float) -> None:
    """The BE pods of nodes that are short of slack, least work lost first."""
    first, keys, done = e.sharing.capacities.first_evictable, e.sharing.evictable, e.sharing.evictable_done_s
    count = 0
    for n in range(len(e.sites)):
        first[n] = count
        if not evicts(e.sharing.tuning.rule) or e.sites[n].slack >= e.sharing.tuning.grow_below:
            continue
        kernel.integrate(e.states, n, now_s)
        for p in range(e.states.nodes[n].pods):
            pod = e.states.pods[n, p]
            work_s = pod.work_s - pod.remaining_s
            j = count
            while j > first[n] and (done[j - 1] > work_s or (done[j - 1] == work_s and keys[j - 1] > pod.key)):
                done[j], keys[j] = done[j - 1], keys[j - 1]
                j -= 1
            done[j], keys[j] = work_s, pod.key
            count += 1
        for k in range(first[n], count):
            e.sharing.capacities.evictable_millicores[k] = e.be.request[e.arrivals.service[keys[k]]]
    first[len(e.sites)] = count


@in_place
def _scale_pods(e: Engine, n: int, now_s: float) -> None:
    """Let the limits of a node's BE pods follow its share. All move by one factor, so that their order by limit / weight stays."""
    wanted = e.sharing.shares.be_share[n]
    changed = False
    for p in range(e.states.nodes[n].pods):
        pod = e.states.pods[n, p]
        limit_cores = e.be.limit[e.arrivals.service[pod.key]] / 1e3 * wanted
        if pod.limit_cores != limit_cores:
            if not changed:
                kernel.integrate(e.states, n, now_s)
            pod.limit_cores = limit_cores
            changed = True
    if changed:
        kernel.refresh(e.states, n)


@in_place
def _note(e: Engine, at_s: float, kind: int, n: int, s: int, before: float, after: float, slack: float) -> None:
    row = e.lists.scalings[e.clock[0].scalings]
    row.at_s = at_s
    row.kind = kind
    row.node = n
    row.service = s
    row.before = before
    row.after = after
    row.slack = slack
    e.clock[0].scalings += 1
    e.clock[0].moved += 1
