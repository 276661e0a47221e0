"""What the built-in LC policies weigh for one request: the price of every node, with what it is made of.

The requests of the batch before it are dispatched once more by the compiled step, so that its prices are those that it met. It is asked
beside decisions, for few requests, and no policy depends on it. Tests hold both to the same choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.candidates import BE_LOSES, REQUESTS, SECONDS, TURNS, Weighing
from tango.domain.requests import LcArrivals
from tango.domain.snapshot import FleetSnapshot
from tango.scheduling.lc import c3, prequal
from tango.scheduling.lc.columns import NO_NOISE, Ask, Asks, Belief, Terrain, be_cores, belief_of, new_choices, new_terrain
from tango.scheduling.lc.dispatch import dispatch, see_home, set_prices
from tango.scheduling.lc.dsaco import CANDIDATES, LEARNED_FEATURES
from tango.scheduling.lc.replicas import DRAWN
from tango.scheduling.lc.rule import LcRule
from tango.scheduling.lc.scoring import FREE_CPU, FREE_MEMORY, NEAR, QUEUE
from tango.scheduling.work_scale import work_at_scale_s
from tango.settings.decisions import LcSettings

MOST_MORE = 1024
"""Further requests of a node within the target up to which they are counted."""
SOONEST = "the least expected time to the answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """One request, and the nodes as they were when it was its turn."""

    rule: LcRule
    terrain: Terrain
    belief: Belief
    ask: Ask
    sent: NDArray[np.float64]
    """(s, c) what the batch had given to each link."""

    @property
    def link_s(self) -> NDArray[np.float64]:
        """(n,) round trip and transfer to each node."""
        terrain, entry = self.terrain, self.ask.entry
        to_cluster = terrain.rtt_s[entry] + terrain.payload_kib[self.ask.service] * terrain.s_per_kib[entry]
        found: NDArray[np.float64] = to_cluster[terrain.cluster_of]
        return found

    @property
    def in_flight(self) -> NDArray[np.float64]:
        """(n,) of its service."""
        found: NDArray[np.float64] = self.belief.in_flight[self.ask.service]
        return found

    @property
    def cores(self) -> NDArray[np.float64]:
        """(n,) CPU of its service's ready instances."""
        found: NDArray[np.float64] = self.belief.limit_cores[self.ask.service]
        return found

    @property
    def offered(self) -> NDArray[np.float64]:
        """(n,) the policy's own price of each node, infinity without an instance."""
        found: NDArray[np.float64] = self.belief.price[self.ask.service]
        return found

    @property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """What is told of each node whatever the policy."""
        return {"requests in flight there": self.in_flight, "cores of its instances": self.cores}

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """(n,) the replicas among which the policy has drawn for it: it is dispatched once more, on copies."""
        ask, belief = self.ask, Belief._make(column.copy() for column in self.belief)
        asks = Asks(np.array([ask.service], np.int32), np.array([ask.budget_s]), np.array([ask.turn]))
        alone, to = np.zeros(1, np.int64), new_choices(1)
        dispatch(self.rule.traits, ask.entry, alone, asks, self.terrain, belief, self.sent.copy(), to, NO_NOISE)
        found = np.zeros(len(self.cores), np.bool_)
        found[belief.scratch[DRAWN : DRAWN + int(belief.scratch[0])].astype(int)] = True
        return found

    def within(self, clusters: float) -> NDArray[np.bool_]:
        """(n,) nodes with an instance in so many clusters, the nearest ones, the entry cluster first."""
        near = self.terrain.near[self.ask.entry]
        order = np.concatenate(([self.ask.entry], near[near != self.ask.entry]))
        found: NDArray[np.bool_] = np.isin(self.terrain.cluster_of, order[: int(clusters)]) & (self.cores > 0.0)
        return found

    @property
    def seen_s(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(n,) answer and service as the entry cluster has seen them; where it has seen none, of an idle node."""
        seen = self.belief.answers.reshape(self.belief.price.shape)[self.ask.service]
        work_s, known = float(self.terrain.work_s[self.ask.service]), seen["answers"] > 0
        return np.where(known, seen["answer_s"], self.link_s + work_s), np.where(known, seen["served_s"], work_s)

    def alone_s(self, in_flight: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) `expected_time.time_alone_s` of one more request beside so many."""
        work_s, cores = self.terrain.work_s[self.ask.service], np.where(self.cores > 0, self.cores, np.nan)
        most_held = np.maximum(1.0, self.belief.places[self.ask.service])
        service_s = work_s * np.maximum(1.0, np.minimum(in_flight + 1.0, most_held) / cores)
        found: NDArray[np.float64] = service_s + np.maximum(0.0, in_flight + 1.0 - most_held) * work_s / cores
        return found

    def crowding(self, in_flight: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) `expected_time.crowding` beside so many."""
        belief = self.belief
        demand = belief.demand - np.minimum(self.in_flight, self.cores) + np.minimum(in_flight + 1.0, self.cores)
        is_crowded = belief.demand + (in_flight - self.in_flight) + 1.0 > belief.cores
        found: NDArray[np.float64] = np.where(is_crowded, np.maximum(1.0, demand / belief.cores), 1.0)
        return found

    @property
    def taken_from_be(self) -> NDArray[np.float64]:
        """(n,) `expected_time.taken_from_be`, a whole core where the entry cluster does not know."""
        belief = self.belief
        found: NDArray[np.float64] = np.clip(belief.be_limit + belief.demand + 1.0 - belief.cores, 0.0, 1.0)
        return found

    def more_in_time(self) -> NDArray[np.float64]:
        """(n,) how many more requests each node could take within the target, counted up to `MOST_MORE`: the capacity of its arc."""
        counts_crowding, link_s = self.rule.traits.counts_crowding, self.link_s

        def in_time(more: NDArray[np.float64]) -> NDArray[np.bool_]:
            beside = self.in_flight + more
            time_s = self.alone_s(beside) * (self.crowding(beside) if counts_crowding else 1.0)
            found: NDArray[np.bool_] = link_s + time_s <= self.ask.budget_s
            return found

        # Times never fall as more are there, so that halving finds the first that is late.
        least, most = np.zeros(len(link_s)), np.full(len(link_s), float(MOST_MORE))
        while (least < most).any():
            middle = np.floor((least + most) / 2)
            fits = in_time(middle)
            least, most = np.where(fits, middle + 1, least), np.where(fits, most, middle)
        return least


def weigh_lc(rule: LcRule, arrivals: LcArrivals, snapshot: FleetSnapshot, settings: LcSettings, row: int) -> Weighing:
    """What a built-in policy weighed for the request of a row, when it decided on this snapshot, which stays as it is."""
    entry = int(arrivals.entry_cluster[row])
    terrain = new_terrain(
        snapshot.services,
        rtt_ms=snapshot.rtt_ms,
        bandwidth_mbit_per_s=snapshot.bandwidth_mbit_per_s,
        node_cluster=snapshot.node_cluster,
        weights=rule.weights(settings),
        work_s=work_at_scale_s(arrivals, snapshot.services),
        entries=np.array([entry], np.int32),
    )
    belief, traits = belief_of(snapshot, observes=rule.policy.observes), rule.traits
    set_prices(traits, terrain, belief)
    see_home(traits, terrain, belief, entry, be_cores(snapshot))
    sent, turn = np.zeros((len(snapshot.services), len(snapshot.clusters))), arrivals.request_id + arrivals.epoch
    before = np.flatnonzero(arrivals.entry_cluster[:row] == entry)
    asks = Asks(arrivals.service, arrivals.target_s, turn)
    dispatch(traits, entry, before, asks, terrain, belief, sent, new_choices(len(arrivals)), NO_NOISE)
    ask = Ask(entry, int(arrivals.service[row]), float(arrivals.target_s[row]), int(turn[row]), row)
    return _BY_POLICY[rule.name](_Turn(rule=rule, terrain=terrain, belief=belief, ask=ask, sent=sent))


def _timed(turn: _Turn, rule: str, among: NDArray[np.bool_], takes: NDArray[np.bool_]) -> Weighing:
    """Prices that are seconds: the way there, its own work, what waits there already, and that others of the node want its CPU too."""
    link_s, cores = turn.link_s, np.where(turn.cores > 0, turn.cores, np.nan)
    own_s = turn.terrain.work_s[turn.ask.service] * np.maximum(1.0, 1.0 / cores)
    alone_s = turn.alone_s(turn.in_flight)
    parts = {"link": link_s, "its own work": own_s, "work already there": alone_s - own_s}
    figures = {**turn.figures, "more it could take in time": turn.more_in_time()}
    if turn.rule.traits.counts_crowding:
        parts["crowding"] = turn.offered - alone_s
        figures[BE_LOSES] = turn.taken_from_be
    return Weighing(
        policy=turn.rule.name,
        rule=rule,
        price=np.where(among, link_s + turn.offered, np.inf),
        takes=takes & among & np.isfinite(turn.offered),
        unit=SECONDS,
        limit=turn.ask.budget_s,
        parts=parts,
        figures=figures,
    )


def _dss_lc(turn: _Turn) -> Weighing:
    ask, terrain = turn.ask, turn.terrain
    wanted_s = (turn.sent[ask.service] + 1.0) * terrain.payload_kib[ask.service] * terrain.s_per_kib[ask.entry]
    carried = (wanted_s <= terrain.target_s[ask.service])[terrain.cluster_of]
    in_time = turn.link_s + turn.offered <= ask.budget_s
    everywhere = np.ones(len(carried), np.bool_)
    # Where none is in time over a link that carries one more, what costs least is taken, late.
    return _timed(turn, SOONEST, everywhere, carried if (carried & in_time).any() else everywhere)


def _load_greedy(turn: _Turn) -> Weighing:
    everywhere = np.ones(len(turn.offered), np.bool_)
    return _timed(turn, SOONEST, everywhere, everywhere)


def _ceres(turn: _Turn) -> Weighing:
    at_home = turn.terrain.cluster_of == turn.ask.entry
    return _timed(turn, f"{SOONEST} in its entry cluster", at_home, at_home)


def _round_robin(turn: _Turn) -> Weighing:
    has_turn = (turn.terrain.cluster_of == turn.ask.entry) & (turn.cores > 0.0)
    to_go = np.full(len(has_turn), np.inf)
    if count := int(np.count_nonzero(has_turn)):
        to_go[has_turn] = (np.arange(count) - turn.ask.turn) % count
    return Weighing(
        policy=turn.rule.name,
        rule="its turn among the instances of its entry cluster",
        price=to_go,
        takes=has_turn,
        unit=TURNS,
        figures=turn.figures,
    )


def _scoring(turn: _Turn) -> Weighing:
    terrain, belief, ask, link_s = turn.terrain, turn.belief, turn.ask, turn.link_s
    farthest = terrain.near[ask.entry, -1]
    scale = max(
        1e-9, float(terrain.rtt_s[ask.entry, farthest] + terrain.payload_kib[ask.service] * terrain.s_per_kib[ask.entry, farthest])
    )
    weights = terrain.weights[0]
    near = weights[NEAR] * link_s / scale
    queue = turn.in_flight / np.where(turn.cores > 0, turn.cores, np.nan) / belief.longest_queue[ask.service]
    return Weighing(
        policy=turn.rule.name,
        rule="the least weighted sum of link and queue, less free CPU and memory",
        price=near + turn.offered,
        takes=np.isfinite(turn.offered),
        parts={
            "link": near,
            "queue": weights[QUEUE] * queue,
            "free CPU": -weights[FREE_CPU] * belief.free_cpu,
            "free memory": -weights[FREE_MEMORY] * belief.free_memory,
        },
        figures=turn.figures,
    )


def _dsaco(turn: _Turn) -> Weighing:
    terrain, belief, ask = turn.terrain, turn.belief, turn.ask
    offers = belief.best_node[ask.service][terrain.near[ask.entry]]
    offers = offers[offers >= 0][:CANDIDATES]
    score = np.full(len(turn.offered), -np.inf)
    features = np.array(
        [
            np.minimum(4.0, turn.link_s / ask.budget_s),
            np.minimum(4.0, turn.alone_s(turn.in_flight) / ask.budget_s),
            terrain.cluster_of == ask.entry,
            np.minimum(
                4.0, turn.in_flight * terrain.work_s[ask.service] / np.where(turn.cores > 0, turn.cores, np.nan) / ask.budget_s
            ),
            1.0 - belief.free_cpu,
            np.maximum(-4.0, belief.slack),
        ]
    )[:, offers]
    layer, bias, head = (
        terrain.weights[:, :LEARNED_FEATURES],
        terrain.weights[:, LEARNED_FEATURES],
        terrain.weights[:, LEARNED_FEATURES + 1],
    )
    held = np.maximum(0.0, layer @ features + bias[:, None])
    score[offers] = head @ held
    return Weighing(
        policy=turn.rule.name,
        rule="the highest score of the learned layer among the offers of the nearest clusters",
        price=score,
        takes=np.isfinite(score),
        highest_wins=True,
        figures={
            **turn.figures,
            "link, ms": turn.link_s * 1e3,
            "expected time there, ms": np.nan_to_num(turn.alone_s(turn.in_flight)) * 1e3,
        },
    )


def _of_drawn(turn: _Turn, rule: str) -> Weighing:
    """Policies that draw some replicas, and take the one with the fewest requests in flight."""
    return Weighing(
        policy=turn.rule.name,
        rule=rule,
        price=np.where(turn.cores > 0.0, turn.in_flight, np.inf),
        takes=turn.drawn,
        unit=REQUESTS,
        parts={"requests in flight there": turn.in_flight},
        figures={"cores of its instances": turn.cores, "link, ms": turn.link_s * 1e3},
    )


def _least_request(turn: _Turn) -> Weighing:
    return _of_drawn(turn, "the fewest requests in flight of those drawn in its entry cluster")


def _locality(turn: _Turn) -> Weighing:
    return _of_drawn(turn, "the fewest requests in flight of those drawn in the nearest cluster by health")


def _waterfall(turn: _Turn) -> Weighing:
    return _of_drawn(turn, "the fewest requests in flight of those drawn in the nearest cluster below its load")


def _l3(turn: _Turn) -> Weighing:
    return _of_drawn(turn, "the fewest requests in flight of those drawn in the cluster that its weights gave")


def _prequal(turn: _Turn) -> Weighing:
    weights, drawn, answer_s = turn.terrain.weights[0], turn.drawn, turn.seen_s[0]
    pool = turn.within(weights[prequal.REACH])
    fewer = (turn.in_flight[pool][None, :] < turn.in_flight[:, None]).sum(axis=1)
    cold = drawn & (fewer < weights[prequal.QUANTILE] * np.count_nonzero(pool))
    if cold.any():
        price, unit, takes, rule = answer_s, SECONDS, cold, "the least latency of the cold ones among those probed"
    else:
        price, unit, takes, rule = (
            turn.in_flight,
            REQUESTS,
            drawn,
            "the fewest requests in flight of those probed, which are all hot",
        )
    return Weighing(
        policy=turn.rule.name,
        rule=rule,
        price=np.where(pool, price, np.inf),
        takes=takes,
        unit=unit,
        parts={"latency as seen" if cold.any() else "requests in flight there": price},
        figures={**turn.figures, "latency as seen, ms": answer_s * 1e3},
    )


def _c3(turn: _Turn) -> Weighing:
    weights, (answer_s, served_s) = turn.terrain.weights[0], turn.seen_s
    pool = turn.within(weights[c3.REACH])
    queue = turn.in_flight / np.where(pool, turn.cores, 1.0)
    waiting_s = (1.0 + queue) ** weights[c3.EXPONENT] * served_s
    return Weighing(
        policy=turn.rule.name,
        rule="the least score, which rises with the cube of the queue",
        price=np.where(pool, answer_s - served_s + waiting_s, np.inf),
        takes=pool,
        unit=SECONDS,
        parts={"answer less service, as seen": answer_s - served_s, "queue": waiting_s},
        figures=turn.figures,
    )


_BY_POLICY: Mapping[str, Callable[[_Turn], Weighing]] = {
    "dss-lc": _dss_lc,
    "load-greedy": _load_greedy,
    "ceres": _ceres,
    "round-robin": _round_robin,
    "scoring": _scoring,
    "dsaco": _dsaco,
    "least-request": _least_request,
    "locality": _locality,
    "waterfall": _waterfall,
    "l3": _l3,
    "prequal": _prequal,
    "c3": _c3,
}
WEIGHED_LC = tuple(_BY_POLICY)
"""Policies that tell their prices here."""
