"""Advantage actor-critic for the placement network.

Source: Mnih et al., "Asynchronous methods for deep reinforcement learning", ICML 2016 (A3C), in its synchronous form, with generalised
advantage estimation (Schulman et al., ICLR 2016, equation 16). Departures, each for less variance: the reward is taken against a twin
world (see `rollouts`); the first updates imitate `load-greedy` on the states that the network itself reaches (Ross, Gordon, Bagnell,
"A reduction of imitation learning and structured prediction to no-regret online learning", AISTATS 2011).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tango.learning.network import PlacementNetwork, batch_graphs
from tango.training.devices import moved
from tango.training.rollouts import Tick
from tango.training.teacher import least_loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class A2cSettings:
    """Hyper-parameters; a tick is half a second."""

    discount: float = 0.93
    gae: float = 0.9
    learning_rate: float = 7e-4
    value_weight: float = 0.5
    entropy_weight: float = 2e-3
    most_gradient: float = 0.5


def advantages(
    rewards: NDArray[np.float32], values: NDArray[np.float32], last: NDArray[np.float32], settings: A2cSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generalised advantages and returns, both (worlds, ticks), of rewards and values of that shape and last values (worlds,)."""
    gained = np.zeros_like(rewards)
    following = np.zeros(len(rewards), np.float32)
    after = last
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + settings.discount * after - values[:, t]
        following = delta + settings.discount * settings.gae * following
        gained[:, t] = following
        after = values[:, t]
    return gained, gained + values


def update(
    network: PlacementNetwork,
    optimizer: torch.optim.Optimizer,
    played: list[list[Tick]],
    last: NDArray[np.float32],
    settings: A2cSettings,
    *,
    imitate: bool,
    device: str = "cpu",
) -> dict[str, float]:
    """One step of gradient descent on a rollout, on the network's device; give its figures."""
    ticks = [tick for world in played for tick in world]
    rewards = np.array([[tick.reward for tick in world] for world in played], np.float32)
    values = np.array([[tick.value for tick in world] for world in played], np.float32)
    # Rewards are differences of percents; a fixed scale brings them near 1 for the critic.
    gained, returns = advantages(rewards * REWARD_SCALE, values, last, settings)
    batch = moved(batch_graphs([tick.graph for tick in ticks]), device)
    node, cluster = network.encode(batch)
    wanted = torch.from_numpy(returns.reshape(-1)).to(device)
    value_loss = functional.mse_loss(network.value(node, cluster, batch), wanted)
    held = decisions(ticks)
    if held is None:
        return {"reward": float(rewards.mean()), "decisions": 0.0}
    rows, kind, pair, allowed, chosen, tick_of = moved(held, device)
    logits = network.scores(node[rows], kind[:, None, :], pair).masked_fill(~allowed, -torch.inf)
    log_p = torch.log_softmax(logits, dim=1)
    entropy = -(log_p.exp() * log_p.masked_fill(~allowed, 0.0)).sum(1).mean()
    if imitate:
        teacher = least_loaded(pair, allowed)
        policy_loss = functional.nll_loss(log_p, teacher)
        loss = policy_loss
    else:
        flat = torch.from_numpy(gained.reshape(-1)).to(device)
        advantage = ((flat - flat.mean()) / (flat.std() + 1e-6))[tick_of]
        policy_loss = -(log_p.gather(1, chosen[:, None]).squeeze(1) * advantage).mean()
        loss = policy_loss - settings.entropy_weight * entropy
    optimizer.zero_grad()
    (loss + settings.value_weight * value_loss).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.most_gradient)
    optimizer.step()
    return {
        "reward": float(rewards.mean()),
        "policy_loss": float(policy_loss.detach()),
        "value_loss": float(value_loss.detach()),
        "entropy": float(entropy.detach()),
        "decisions": float(len(chosen)),
    }


REWARD_SCALE = 20.0


def decisions(ticks: list[Tick]) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor] | None:
    """All choices made in some ticks, in order, fleets padded to the widest: rows, kinds, pairs, mask, choice, and the tick of each."""
    widest = max(len(tick.graph.node) for tick in ticks)
    rows, kind, pair, allowed, chosen, tick_of = [], [], [], [], [], []
    first = 0
    for at, tick in enumerate(ticks):
        n = len(tick.graph.node)
        made = np.flatnonzero(tick.chosen >= 0)
        if len(made):
            padding = widest - n
            rows.append(np.broadcast_to(np.pad(np.arange(first, first + n), (0, padding), mode="edge"), (len(made), widest)))
            kind.append(tick.kind[made])
            pair.append(np.pad(tick.pair[made], ((0, 0), (0, padding), (0, 0))))
            allowed.append(np.pad(tick.allowed[made], ((0, 0), (0, padding))))
            chosen.append(tick.chosen[made].astype(np.int64))
            tick_of.append(np.full(len(made), at))
        first += n
    if not chosen:
        return None
    return (
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(kind)),
        torch.from_numpy(np.concatenate(pair)),
        torch.from_numpy(np.concatenate(allowed)),
        torch.from_numpy(np.concatenate(chosen)),
        torch.from_numpy(np.concatenate(tick_of)),
    )
