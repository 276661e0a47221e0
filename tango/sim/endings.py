"""Requests and pods that end well, and LC answers on their way home. Compiled."""

from __future__ import annotations

from tango.compiled import inlined
from tango.scheduling.lc.seen_answers import note_answer, note_failure
from tango.sim import lifecycle
from tango.sim.accounts import count_out_placed, count_out_running
from tango.sim.codes import NO_REASON
from tango.sim.state import EngineState


@inlined
def lc_ends(state: EngineState, node: int, request: int, started_s: float, finished_s: float) -> None:
    """The node has served an LC request; its answer goes back to the cluster where the request entered."""
    clock, progress, lists = state.clock[0], state.progress[request], state.lists
    service, entry = state.arrivals.service[request], state.arrivals.entry[request]
    lifecycle.move(lifecycle.SUCCEED, request, state.clock[0], state.arrivals, state.progress)
    progress.reason = NO_REASON
    progress.started_s = started_s
    clock.in_nodes -= 1
    clock.terminal += 1
    clock.moved += 1
    if state.rules.settle_s > 0.0:
        lists.settling_request[clock.settling] = request
        lists.settling_s[clock.settling] = finished_s + state.rules.settle_s
        clock.settling += 1
    else:
        state.truth.in_flight[service, node] -= 1.0
    if state.terrain.cluster_of[node] == entry:
        progress.finished_s = finished_s + 0.5 * state.terrain.rtt_s[entry, entry]
        remember_latency(state, service, node, request, finished_s)
        observe_answer(state, request, finished_s)
    else:
        progress.finished_s = finished_s  # until the answer has had its turn on the link
        lists.abroad_request[clock.abroad] = request
        lists.abroad_s[clock.abroad] = finished_s
        clock.abroad += 1


@inlined
def settle(state: EngineState, now_s: float) -> None:
    """Count the LC requests out whose end has become known by now."""
    clock, lists = state.clock[0], state.lists
    kept = 0
    for k in range(clock.settling):
        request = lists.settling_request[k]
        if lists.settling_s[k] <= now_s:
            state.truth.in_flight[state.arrivals.service[request], state.progress[request].node] -= 1.0
        else:
            lists.settling_request[kept], lists.settling_s[kept] = request, lists.settling_s[k]
            kept += 1
    clock.settling = kept


@inlined
def send_answers(state: EngineState) -> None:
    """Send this window's answers from other clusters home, in order of time, one after another over each cluster's link.

    At the window's end and not as they arise: nodes are run one after another, so answers do not come in order of time, while a link
    serves them in that order.
    """
    clock, terrain = state.clock[0], state.terrain
    requests, times = state.lists.abroad_request, state.lists.abroad_s
    count = clock.abroad
    # Insertion sort: each node gives a run of rising times, so few answers move far.
    for k in range(1, count):
        request, at_s = requests[k], times[k]
        j = k - 1
        while j >= 0 and (times[j] > at_s or (times[j] == at_s and requests[j] > request)):
            requests[j + 1], times[j + 1] = requests[j], times[j]
            j -= 1
        requests[j + 1], times[j + 1] = request, at_s
    for k in range(count):
        request = requests[k]
        progress = state.progress[request]
        service, entry, node = state.arrivals.service[request], state.arrivals.entry[request], progress.node
        cluster = terrain.cluster_of[node]
        # Half of the payload goes out with the request, half comes back with the answer; likewise the round trip.
        transfer_s = 0.5 * terrain.payload_kib[service] * terrain.s_per_kib[entry, cluster]
        free_s = max(state.links.outward_s[cluster], times[k]) + transfer_s
        state.links.outward_s[cluster] = free_s
        progress.finished_s = free_s + 0.5 * terrain.rtt_s[entry, cluster]
        remember_latency(state, service, node, request, times[k])
        observe_answer(state, request, times[k])
    clock.abroad = 0


@inlined
def remember_latency(state: EngineState, service: int, node: int, request: int, at_s: float) -> None:
    """Note the latency of a request whose answer has come home for the tail of its (service, node); the oldest of the ring gives way."""
    tails = state.tails
    ring = service * len(state.sites) + node
    head = tails.head[ring]
    tails.at_s[ring, head] = at_s
    arrived_s, waited_s = state.arrivals.due_s[request], state.arrivals.waited_s[request]
    tails.latency_s[ring, head] = state.progress[request].finished_s - arrived_s + waited_s
    tails.head[ring] = (head + 1) % tails.at_s.shape[1]


@inlined
def observe_answer(state: EngineState, request: int, served_s: float) -> None:
    """Let the entry cluster of a request that was served at `served_s` note its answer, for policies that go by that.

    It is noted as the answer sets out, and so up to half a round trip before it is there.
    """
    if state.rules.lc_policy.observes:
        sent = state.progress[request]
        service, entry = state.arrivals.service[request], state.arrivals.entry[request]
        services, nodes = state.belief.price.shape
        row = (entry * services + service) * nodes + sent.node
        note_answer(state.belief.answers, row, sent.finished_s, sent.finished_s - sent.sent_s, served_s - sent.started_s)


@inlined
def observe_failure(state: EngineState, request: int, node: int, at_s: float) -> None:
    """Let the entry cluster of an LC request note that an attempt on a node came to nothing, for policies that go by that."""
    if state.rules.lc_policy.observes:
        services, nodes = state.belief.price.shape
        first = (state.arrivals.entry[request] * services + state.arrivals.service[request]) * nodes
        note_failure(state.belief.answers, first + node, first, nodes, at_s)


@inlined
def pod_ends(state: EngineState, node: int, request: int, started_s: float, finished_s: float) -> None:
    """A BE pod has done its work; the centre knows at once."""
    progress = state.progress[request]
    lifecycle.move(lifecycle.SUCCEED, request, state.clock[0], state.arrivals, state.progress)
    progress.reason = NO_REASON
    progress.started_s = started_s
    progress.finished_s = finished_s
    state.clock[0].terminal += 1
    state.clock[0].moved += 1
    count_out_running(state, request, node)
    count_out_placed(state, request, node)
