"""The rule that a fresh network imitates before it learns by what comes of its choices, and the ticks that it does so on.

Best fit by what LC mostly leaves: the fullest node on which the pod may still use all that its limit allows, so that whole nodes stay
free for large pods; where no node has that much, the one that lacks least. It is imitated on the states that the network itself reaches
(Ross, Gordon, Bagnell, "A reduction of imitation learning and structured prediction to no-regret online learning", AISTATS 2011).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tango.domain.plans import BePlan
from tango.domain.requests import BePending
from tango.domain.snapshot import FleetSnapshot
from tango.learning.features import PAIR_FEATURES
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.recent import RecentLc
from tango.settings import BeSettings
from tango.training.a2c import decisions
from tango.training.rollouts import Tick, sample

LEFT_OVER = next(k for k, name in enumerate(PAIR_FEATURES) if name.startswith("(CPU that LC mostly leaves"))
MOST_REQUESTS = 32
"""Of a tick that is imitated; what was seen of each is kept for every node."""
TICKS_A_STEP = 16
_FITS = 100.0
"""Any node with room comes before any without."""


def best_fit(pair: Tensor, allowed: Tensor) -> Tensor:
    """(b,) the teacher's node; `pair` (b, n, PAIRS), `allowed` (b, n)."""
    left = pair[:, :, LEFT_OVER]
    score = torch.where(left >= 0, _FITS - left, left)
    return score.masked_fill(~allowed, -torch.inf).argmax(1)


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
