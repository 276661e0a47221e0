"""Experience of `dsaco`: whole runs of the simulator's engine, in which the layer samples by noise and notes what it saw.

Every cluster is an agent of its own with what it sees itself; the layer is the same for all. An agent's next state is that of its next
request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.outcomes import STATE_CODE, RunOutcomes
from tango.domain.requests import RequestState
from tango.domain.seeds import TRAINING
from tango.domain.services import ServiceClass
from tango.fleets import FleetRecipe, edge_machines, load_fleet
from tango.fleets.recipes import expand
from tango.scheduling.lc import dsaco
from tango.scheduling.lc.columns import Exploration
from tango.scheduling.lc.dsaco import CANDIDATES, LEARNED_FEATURES, ScoredLayer
from tango.scheduling.lc.rule import LcRule
from tango.settings import SimSettings, SimulationSettings
from tango.sim.decision_costs import DecisionCosts
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import system
from tango.traces.workloads import Workload, draw_requests
from tango.training.curriculum import Curriculum, Episode
from tango.training.packing import packed, unpacked
from tango.training.sac import Transitions

LATENCY_PRICE = 0.1
"""Reward of a request = whether it met its target, less this times latency over target (at most `MOST_LATENCY`)."""
MOST_LATENCY = 4.0
LOADS = (0.5, 1.2)
LC_SHARES = (0.3, 0.6)
"""LC's share of the offered load, from and to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experience:
    """m decisions of LC dispatch, as columns."""

    seen: NDArray[np.float32]
    """(m, CANDIDATES, LEARNED_FEATURES); 0 where there was no offer"""
    allowed: NDArray[np.bool_]
    """(m, CANDIDATES)"""
    chosen: NDArray[np.int64]
    reward: NDArray[np.float32]
    following: NDArray[np.int64]
    """row of the same agent's next decision; the row itself where there is none"""

    def __len__(self) -> int:
        return len(self.chosen)


def draw_episode(rng: np.random.Generator, curriculum: Curriculum) -> Episode:
    """A fleet, a pattern, a load, interference and staleness, all drawn; the seed is one of training's.

    A named fleet's interference is drawn like any other.
    """
    fleet = curriculum.named_fleet(rng) or _draw_fleet(rng)
    pattern = str(rng.choice(curriculum.patterns or ("p1", "p2", "p3")))
    load, share = float(rng.uniform(*(curriculum.loads or LOADS))), float(rng.uniform(*LC_SHARES))
    sim = SimSettings(
        beta=float(rng.choice((0.0, 0.3, 1.0))),
        staleness_s=float(rng.choice((0.2, 1.0, 1.0, 5.0))),
        stuck_after_s=1e6,  # one long pod may be all that runs in the end
    )
    return Episode(
        fleet=fleet,
        workload=Workload(lc=(pattern,), be=(pattern,), duration_s=curriculum.episode_s, load=load, lc_load_share=share),
        settings=SimulationSettings(sim=sim),
        seed=int(rng.integers(TRAINING.start, TRAINING.stop)),
    )


def _draw_fleet(rng: np.random.Generator) -> Fleet:
    kind = int(rng.integers(4))
    if kind < 2:
        return load_fleet(("testbed", "demo")[kind])
    recipe = FleetRecipe(
        clusters=int(rng.integers(10, 21)),
        nodes_min=2,
        nodes_max=6,
        area_km=float(rng.uniform(100, 1000)),
        seed=int(rng.integers(TRAINING.start, TRAINING.stop)),
        machines=edge_machines((1, 2, 1)),
    )
    return replace(load_fleet("testbed"), name="drawn", clusters=expand(recipe), links=())


def run_episode(episode: Episode, lc: LcRule, explore: Exploration | None = None) -> SimulatedRun:
    """The run, with the other parts of `dsaco`; the LC policy is given. Decisions take no time."""
    requests = draw_requests(episode.workload, episode.fleet, episode.seed)
    return simulate(
        episode.fleet,
        requests,
        system("dsaco"),
        episode.settings,
        seed=episode.seed,
        span_s=episode.workload.duration_s,
        given=Given(costs=DecisionCosts([]), lc=lc, explore=explore),
    )


def play(episode: Episode, learned: ScoredLayer, rng: np.random.Generator) -> Experience:
    """Run an episode by samples of the layer's softmax."""
    count = len(draw_requests(episode.workload, episode.fleet, episode.seed))
    explore = Exploration(
        rng.gumbel(size=(count, CANDIDATES)).astype(np.float32),
        np.full((count, CANDIDATES, LEARNED_FEATURES), np.nan, np.float32),
        np.full(count, -1, np.int32),
    )
    run = run_episode(episode, LcRule(dsaco.POLICY, learned.weights()), explore)
    rows = np.flatnonzero(explore.chosen >= 0)
    there = ~np.isnan(explore.seen[rows, :, 0])
    return Experience(
        seen=np.where(there[:, :, None], explore.seen[rows], np.float32(0)),
        allowed=there,
        chosen=explore.chosen[rows].astype(np.int64),
        reward=rewards(run.outcomes)[rows],
        following=_next_of_the_same(run.outcomes.entry_cluster[rows]),
    )


def rewards(outcomes: RunOutcomes) -> NDArray[np.float32]:
    """(n,) reward of every request; a request that was never answered counts as the latest that is told apart."""
    answered = outcomes.state == STATE_CODE[RequestState.SUCCEEDED]
    ratio = np.where(answered, (outcomes.finished_s - outcomes.due_s) / outcomes.target_s, MOST_LATENCY)
    return ((ratio <= 1.0) - LATENCY_PRICE * np.minimum(ratio, MOST_LATENCY)).astype(np.float32)


def qos_rate(outcomes: RunOutcomes) -> float:
    """Share of the LC requests that met their target, all of the run."""
    lc = outcomes.service_class == ServiceClass.LC
    answered = outcomes.state == STATE_CODE[RequestState.SUCCEEDED]
    return float((answered & (outcomes.finished_s - outcomes.due_s <= outcomes.target_s))[lc].mean())


def _next_of_the_same(agent: NDArray[np.int32]) -> NDArray[np.int64]:
    """(m,) row of the next decision of the same agent."""
    order = np.argsort(agent, kind="stable")
    following = np.arange(len(agent))
    same = agent[order[:-1]] == agent[order[1:]]
    following[order[:-1][same]] = order[1:][same]
    return following


class ReplayBuffer:
    """The last episodes, at most `capacity` decisions, one after another."""

    def __init__(self, capacity: int, discount: float) -> None:
        self._capacity, self._discount = capacity, discount
        self._kept: list[Experience] = []
        self._all = joined([])

    def add(self, experience: Experience) -> None:
        """Add an episode, and drop the oldest ones where there would be too many."""
        self._kept.append(experience)
        while sum(len(e) for e in self._kept[1:]) >= self._capacity:
            self._kept.pop(0)
        self._all = joined(self._kept)  # a copy of it all takes milliseconds, once an episode; drawing then is one look-up

    def sample(self, count: int, rng: np.random.Generator) -> Transitions:
        """`count` decisions, drawn uniformly with replacement."""
        e = self._all
        rows = rng.integers(0, len(e), count)
        after = e.following[rows]
        both = np.concatenate((rows, after))
        seen, allowed = torch.from_numpy(e.seen[both]), torch.from_numpy(e.allowed[both])
        return Transitions(
            seen=(seen[:count], allowed[:count]),
            allowed=allowed[:count],
            chosen=torch.from_numpy(e.chosen[rows]),
            reward=torch.from_numpy(e.reward[rows]),
            discount=torch.from_numpy(np.where(after != rows, self._discount, 0.0).astype(np.float32)),
            states=(seen, allowed),
            states_allowed=allowed,
            following=torch.arange(count, 2 * count),
        )

    def state(self) -> dict[str, Any]:
        """The episodes that are held, column by column."""
        return {f.name: packed([getattr(e, f.name) for e in self._kept]) for f in fields(Experience)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the content by what `state` gave."""
        names = [f.name for f in fields(Experience)]
        columns = zip(*(unpacked(state[name]) for name in names), strict=True)
        self._kept = [Experience(**dict(zip(names, arrays, strict=True))) for arrays in columns]
        self._all = joined(self._kept)


def joined(parts: list[Experience]) -> Experience:
    """The experiences of episodes, one after another, as one; `following` is shifted to the new rows."""
    first = np.cumsum([0, *(len(e) for e in parts)])
    nothing = Experience(
        seen=np.zeros((0, CANDIDATES, LEARNED_FEATURES), np.float32),
        allowed=np.zeros((0, CANDIDATES), np.bool_),
        chosen=np.zeros(0, np.int64),
        reward=np.zeros(0, np.float32),
        following=np.zeros(0, np.int64),
    )
    moved = [replace(e, following=e.following + begin) for e, begin in zip(parts, first, strict=False)]
    return Experience(**{f.name: np.concatenate([getattr(e, f.name) for e in (nothing, *moved)]) for f in fields(Experience)})
