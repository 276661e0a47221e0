"""The networks of `gnn-sac` and its experience, placement by placement.

Requests of a tick are placed one after another, so each placement is a decision whose next state is that of the next placement: in the
same tick at once, after the last of a tick in the next tick that has any, discounted by the ticks in between.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tango.learning.features import FleetGraph
from tango.learning.network import GraphBatch, PlacementNetwork, batch_graphs
from tango.training.be_rollouts import ChosenPlacements, Rollout, Tick, choices_of, scores_of
from tango.training.packing import packed, unpacked
from tango.training.sac import Transitions
from tango.training.teacher import best_fit


@dataclass(frozen=True, slots=True, kw_only=True)
class Placements:
    """b placements as the networks see them."""

    fleets: GraphBatch
    choices: ChosenPlacements


class PlacementActor(nn.Module):
    """The placement network as an actor: the network that is shipped."""

    def __init__(self, network: PlacementNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Placements) -> Tensor:
        """(b, a) logits."""
        node, _ = self.network.encode(seen.fleets)
        return scores_of(self.network, node, seen.choices)


class PlacementCritics(nn.Module):
    """Twin graph networks of the same kind: value of the fleet's state plus what the node adds."""

    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.twins = nn.ModuleList(PlacementNetwork(hidden) for _ in range(2))

    def forward(self, seen: Placements) -> Tensor:
        """(2, b, a)"""
        found = []
        for twin in self.twins:
            assert isinstance(twin, PlacementNetwork)
            node, cluster = twin.encode(seen.fleets)
            state = twin.value(node, cluster, seen.fleets).index_select(0, seen.choices.tick)
            found.append(state[:, None] + scores_of(twin, node, seen.choices))
        return torch.stack(found)


@dataclass(slots=True)
class _Step:
    """A tick with placements, what it brought, and the next such tick of its run."""

    tick: Tick
    reward: float
    discount: float
    following: Tick


class TickReplay:
    """Replay buffer of the last ticks with placements, at most `capacity`."""

    def __init__(self, *, capacity: int) -> None:
        self._steps: deque[_Step] = deque(maxlen=capacity)
        self._sizes = np.zeros(0, np.int64)
        """(steps,) of each step's fleet, in powers of two; worked out once for all batches between two changes."""

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, runs: Sequence[Rollout]) -> None:
        """Take in runs. The last placements of a run are left out where nothing was placed after them: what followed was not seen."""
        for run in runs:
            held: tuple[Tick, float, float] | None = None
            for tick in (*run.ticks, *([run.after] if run.after else [])):
                if len(tick.chosen):
                    if held is not None:
                        self._steps.append(_Step(held[0], held[1], held[2], _first_of(tick)))
                    held = tick, tick.reward, tick.discount
                elif held is not None:
                    held = held[0], held[1] + held[2] * tick.reward, held[2] * tick.discount
        self._note_sizes()

    def sample(self, count: int, rng: np.random.Generator, *, teach: bool) -> Transitions:
        """The placements of ticks drawn evenly; a tick's reward is shared evenly by its placements.

        One is drawn among all, the others among fleets of about its size, since fleets are padded to the widest: each is as likely as any.
        """
        alike = np.flatnonzero(self._sizes == self._sizes[rng.integers(len(self._sizes))])
        steps = [self._steps[k] for k in alike[rng.integers(0, len(alike), count)].tolist()]
        ticks = [step.tick for step in steps]
        made = np.array([len(tick.chosen) for tick in ticks])
        found = choices_of(ticks + [step.following for step in steps])
        assert found is not None  # every tick kept has a placement
        graphs = [tick.graph for tick in ticks]
        decided = int(made.sum())
        last = np.cumsum(made) - 1
        following = np.arange(1, decided + 1)
        following[last] = decided + np.arange(count)  # of the tick that follows one placement is held, its first
        discount = np.ones(decided, np.float32)
        discount[last] = [step.discount for step in steps]
        reward = np.repeat(np.array([step.reward for step in steps], np.float32) / made, made)
        chosen = found.of_first(count)
        return Transitions(
            seen=Placements(fleets=batch_graphs(graphs), choices=chosen),
            allowed=chosen.allowed,
            chosen=chosen.chosen,
            reward=torch.from_numpy(reward.astype(np.float32)),
            discount=torch.from_numpy(discount),
            states=Placements(fleets=batch_graphs(graphs + [step.following.graph for step in steps]), choices=found),
            states_allowed=found.allowed,
            following=torch.from_numpy(following),
            teacher=best_fit(chosen.pair, chosen.allowed) if teach else None,
        )

    def state(self) -> dict[str, Any]:
        """The steps as few tensors; a graph that several ticks share stands there once."""
        ticks = [tick for step in self._steps for tick in (step.tick, step.following)]
        graphs = {id(tick.graph): tick.graph for tick in ticks}
        place = {key: k for k, key in enumerate(graphs)}
        return {
            "graphs": {name: packed([getattr(graph, name) for graph in graphs.values()]) for name in _GRAPH},
            "ticks": {name: packed([getattr(tick, name) for tick in ticks]) for name in _TICK},
            "graph_of": torch.tensor([place[id(tick.graph)] for tick in ticks], dtype=torch.int64),
            "reward": torch.tensor([step.reward for step in self._steps], dtype=torch.float64),
            "discount": torch.tensor([step.discount for step in self._steps], dtype=torch.float64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Hold what `state` gave, in its order, in place of what is held."""
        columns = zip(*(unpacked(state["graphs"][name]) for name in _GRAPH), strict=True)
        graphs = [FleetGraph(**dict(zip(_GRAPH, arrays, strict=True))) for arrays in columns]
        rows = zip(*(unpacked(state["ticks"][name]) for name in _TICK), strict=True)
        ticks = [
            Tick(graph=graphs[k], pooled=_NOTHING, **dict(zip(_TICK, arrays, strict=True)))
            for k, arrays in zip(state["graph_of"].tolist(), rows, strict=True)
        ]
        self._steps.clear()
        figures = zip(state["reward"].tolist(), state["discount"].tolist(), strict=True)
        for k, (reward, discount) in enumerate(figures):
            self._steps.append(_Step(ticks[2 * k], reward, discount, ticks[2 * k + 1]))
        self._note_sizes()

    def _note_sizes(self) -> None:
        self._sizes = np.array([len(step.tick.graph.node).bit_length() for step in self._steps], np.int64)


_GRAPH = tuple(f.name for f in fields(FleetGraph))
_TICK = ("kind", "pair", "allowed", "chosen")
_NOTHING = np.zeros(0, np.float32)
"""In place of what only the critic of A2C reads."""


def _first_of(tick: Tick) -> Tick:
    """The tick with only the first of its placements."""
    return replace(tick, kind=tick.kind[:1], pair=tick.pair[:1], allowed=tick.allowed[:1], chosen=tick.chosen[:1])
