"""Imitation of the teacher (`teacher.best_fit`) on ticks of whole runs, on the states that the network itself reaches.

Source: Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret online learning", AISTATS 2011.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.recent import RecentLc
from tango.settings import BeSettings
from tango.training.a2c import decisions
from tango.training.rollouts import Tick, sample
from tango.training.teacher import best_fit

MOST_REQUESTS = 32
"""Of a tick that is imitated; what was seen of each is kept for every node."""
TICKS_A_STEP = 16


class Recorder:
    """A BE policy that samples from a network and keeps what it saw."""

    def __init__(self, network: PlacementNetwork, noise: np.random.Generator, *, memory: bool = True) -> None:
        self.ticks: list[Tick] = []
        self._network, self._noise, self._recent, self._memory = network, noise, RecentLc(), memory

    def __call__(self, pending: BePending, snapshot: FleetSnapshot, settings: BeSettings) -> BePlan:
        """Place by a sample of the softmax."""
        seen = self._recent.added(snapshot) if self._memory else snapshot
        (tick,) = sample(self._network, [(pending, seen)], self._noise)
        self.ticks.append(tick)
        return BePlan(node=tick.chosen, policy="dcg-be")


def imitate(
    network: PlacementNetwork, optimizer: torch.optim.Optimizer, ticks: list[Tick], steps: int, rng: np.random.Generator
) -> dict[str, float]:
    """Steps of gradient descent on ticks drawn evenly; give the loss, and how often the network chooses as the teacher."""
    losses, alike = [], []
    for _ in range(steps):
        chosen = [ticks[k] for k in rng.integers(0, len(ticks), TICKS_A_STEP).tolist()]
        held = decisions(chosen)
        if held is None:
            continue
        rows, kind, pair, allowed, _, _ = held
        node, _ = network.encode(batch_graphs([tick.graph for tick in chosen]))
        logits = network.scores(node[rows], kind[:, None, :], pair).masked_fill(~allowed, -torch.inf)
        teacher = best_fit(pair, allowed)
        loss = functional.cross_entropy(logits, teacher)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        alike.append(float((logits.argmax(1) == teacher).float().mean()))
    return {"imitation_loss": float(np.mean(losses or [0.0])), "as_teacher": float(np.mean(alike or [0.0]))}
