"""One round of the sharing rule in the engine: measure tails, apply the rule, let resizes take their time. Compiled."""

from __future__ import annotations

import numpy as np

from tango.compiled import in_place, inlined
from tango.domain.resource_axis import CPU
from tango.domain.slack import slack_of
from tango.node_model import kernel
from tango.scheduling.sharing_step import CERES, evicts, share
from tango.sim.be_events import evict
from tango.sim.codes import PUSHED_OUT, RESIZE, RESIZED
from tango.sim.heap import push
from tango.sim.node_events import set_limits
from tango.sim.scaling_log import note
from tango.sim.state import AnswerRings, EngineState, Rules

_slack_of = inlined(slack_of)


@in_place
def share_out(state: EngineState, now_s: float) -> None:
    """One round at `now_s`: BE pods are evicted first, so that what a grown instance requests fits on its node."""
    _measure_all(state, now_s)
    _fill_columns(state, now_s)
    _list_evictable(state, now_s)
    sharing = state.sharing
    share(sharing.tuning, sharing.instances, sharing.capacities, sharing.declared, sharing.shares)
    for k in range(sharing.capacities.first_evictable[len(state.sites)]):
        if sharing.shares.evict[k]:
            request = sharing.evictable[k]
            node, service = state.progress[request].node, state.arrivals.service[request]
            note(state, now_s, PUSHED_OUT, node, service, np.nan, np.nan, np.nan)
            evict(state, request, now_s)
    for instance in range(len(sharing.instances.node)):
        _resize(state, instance, now_s)
    if sharing.tuning.rule == CERES:
        for node in range(len(state.sites)):
            _scale_pods(state, node, now_s)


@in_place
def is_at_rest(state: EngineState) -> bool:
    """Whether the next round, too, would change nothing, if this one did not and nobody answers or is placed meanwhile: nothing is
    measured any more, and every hold after a resize is over. Not for `CERES`, whose shares of BE go on from round to round."""
    tuning, instances, tails = state.sharing.tuning, state.sharing.instances, state.tails
    if tuning.rule == CERES:
        return False
    for ring in range(len(tails.samples)):
        if tails.samples[ring] > 0:
            return False
    for instance in range(len(instances.since_resize_s)):
        if instances.since_resize_s[instance] < max(tuning.hold_s, tuning.shrink_hold_s):
            return False
    return True


@in_place
def _measure_all(state: EngineState, now_s: float) -> None:
    """The tail of each (service, node), and the least slack of each node."""
    nodes, tails = len(state.sites), state.tails
    for node in range(nodes):
        state.sites[node].slack = 1.0
    for service in range(state.truth.in_flight.shape[0]):
        if state.places.first_row[service] == state.places.first_row[service + 1]:
            continue
        for node in range(nodes):
            ring = service * nodes + node
            measure(state.rules, tails, ring, now_s)
            if tails.samples[ring] >= state.sharing.tuning.min_samples:
                slack = _slack_of(tails.tail_ms[ring], state.sharing.declared.target_ms[service])
                state.sites[node].slack = min(state.sites[node].slack, slack)


@in_place
def _fill_columns(state: EngineState, now_s: float) -> None:
    """What the rule sees of nodes and instances. BE by the centre's accounts: a pod on its way will need its CPU too."""
    nodes, rows = len(state.sites), len(state.places.row_service)
    instances = state.sharing.instances
    for node in range(nodes):
        state.sharing.capacities.be_request_millicores[node] = state.holdings.placed[CPU, node]
        for row in range(rows):
            at = node * rows + row
            ring = state.places.row_service[row] * nodes + node
            instances.tail_ms[at] = state.tails.tail_ms[ring]
            instances.samples[at] = state.tails.samples[ring]
            instances.since_resize_s[at] = now_s - state.sharing.changed_s[at]
            instances.asked[at] = state.tails.samples[ring] > 0 or state.truth.in_flight[state.places.row_service[row], node] > 0.0


@in_place
def _resize(state: EngineState, instance: int, now_s: float) -> None:
    """Decide what the rule gave an instance, where that is something new; it takes effect after the actuation delay."""
    instances, shares = state.sharing.instances, state.sharing.shares
    limit_before, limit_after = instances.limit_millicores[instance], shares.limit_millicores[instance]
    request_before, request_after = instances.request_millicores[instance], shares.request_millicores[instance]
    if limit_after == limit_before and request_after == request_before:
        return
    rows = len(state.places.row_service)
    node, service = instance // rows, state.places.row_service[instance % rows]
    note(state, now_s, RESIZED, node, service, limit_before, limit_after, shares.slack[instance])
    state.holdings.lc[CPU, node] += request_after - request_before
    state.sites[node].lc_limit += limit_after - limit_before
    instances.limit_millicores[instance] = limit_after
    instances.request_millicores[instance] = request_after
    state.sharing.changed_s[instance] = now_s
    set_limits(state, node)
    push(state.heap, state.heap_counts, now_s + state.rules.actuation_s, RESIZE, instance, 0, limit_after)


@in_place
def measure(rules: Rules, tails: AnswerRings, ring: int, now_s: float) -> None:
    """Tail latency of one (service, node) over the lookback: the quantile, linear between ranks, as PostgreSQL's `percentile_cont`."""
    ranked = tails.sorted_s
    count = 0
    held = tails.at_s.shape[1]
    since_s = now_s - rules.tail_window_s
    newest = tails.head[ring] - 1
    for back in range(held):
        at_s = tails.at_s[ring, (newest - back) % held]
        if at_s <= since_s:
            # Answers come in order of time but for those from abroad, which are noted at the end of their window.
            if at_s <= since_s - rules.window_s:
                break
            continue
        value = tails.latency_s[ring, (newest - back) % held]
        j = count
        while j > 0 and ranked[j - 1] > value:
            ranked[j] = ranked[j - 1]
            j -= 1
        ranked[j] = value
        count += 1
    tails.samples[ring] = count
    if count == 0:
        tails.tail_ms[ring] = np.nan
        return
    rank = rules.tail_quantile * (count - 1)
    low = int(rank)
    high = min(low + 1, count - 1)
    tails.tail_ms[ring] = (ranked[low] + (rank - low) * (ranked[high] - ranked[low])) * 1e3


@in_place
def _list_evictable(state: EngineState, now_s: float) -> None:
    """The BE pods of nodes that are short of slack, least work lost first; the request settles ties."""
    sharing = state.sharing
    first, requests, done = sharing.capacities.first_evictable, sharing.evictable, sharing.evictable_done_s
    count = 0
    for node in range(len(state.sites)):
        first[node] = count
        if not evicts(sharing.tuning.rule) or state.sites[node].slack >= sharing.tuning.grow_below:
            continue
        kernel.integrate(state.states, node, now_s)
        for row in range(state.states.nodes[node].pods):
            pod = state.states.pods[node, row]
            done_s = pod.work_s - pod.remaining_s
            j = count
            while j > first[node] and (done[j - 1] > done_s or (done[j - 1] == done_s and requests[j - 1] > pod.key)):
                done[j], requests[j] = done[j - 1], requests[j - 1]
                j -= 1
            done[j], requests[j] = done_s, pod.key
            count += 1
        for k in range(first[node], count):
            sharing.capacities.evictable_millicores[k] = state.be.requests[CPU, state.arrivals.service[requests[k]]]
    first[len(state.sites)] = count


@in_place
def _scale_pods(state: EngineState, node: int, now_s: float) -> None:
    """Let the limits of a node's BE pods follow its share. All move by one factor, so that their order by limit / weight stays."""
    share_of_limit = state.sharing.shares.be_share[node]
    changed = False
    for row in range(state.states.nodes[node].pods):
        pod = state.states.pods[node, row]
        limit_cores = state.be.limit[state.arrivals.service[pod.key]] / 1e3 * share_of_limit
        if pod.limit_cores != limit_cores:
            if not changed:
                kernel.integrate(state.states, node, now_s)
            pod.limit_cores = limit_cores
            changed = True
    if changed:
        kernel.refresh(state.states, node)
