"""Advantage actor-critic for the placement network.

Source: Mnih et al., "Asynchronous methods for deep reinforcement learning", ICML 2016 (A3C), section 4, in its synchronous form, with
generalised advantage estimation (Schulman et al., "High-dimensional continuous control using generalized advantage estimation", ICLR
2016, equation 16). Departures, each for less variance: the reward is taken against another run of the same episode (`be_rollouts`);
ticks are not evenly spaced, so each has a discount of its own; the critic reads the encoder and does not change it, because a reward
that is mostly noise would wash out what imitation has taught; and a running average of the network is what is validated and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tango.learning.network import PlacementNetwork, batch_graphs
from tango.training.be_rollouts import Rollout, choices_of, scores_of
from tango.training.devices import moved


@dataclass(frozen=True, slots=True, kw_only=True)
class A2cSettings:
    """Hyper-parameters of A2C."""

    discount_per_s: float = 0.97
    """Discount of a reward per second: one that comes half a minute later counts 0.4. Most of a placement's effect lies within a minute."""
    gae: float = 0.95
    learning_rate: float = 7e-4
    value_weight: float = 0.5
    entropy_weight: float = 1e-3
    max_grad_norm: float = 0.5
    average_rate: float = 0.1
    """Share by which the averaged weights, which are validated and kept, follow in an iteration."""
    miss_price: float = 1.0
    """Penalty per percentage point of LC requests that missed their target (`engine_episodes.advantage`)."""
    waste_price: float = 0.1
    """Penalty per per cent of work thrown away by evictions (`engine_episodes.advantage`)."""


def advantages(
    rewards: NDArray[np.float32], values: NDArray[np.float32], discounts: NDArray[np.float32], last: float, *, gae: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Generalised advantages and returns (t,) of the ticks of one run; `last` is the value of what comes after the last of them.

    Source: Schulman et al. 2016, equation 16, summed up from the end, with the discount of each tick in place of one for all.
    """
    gained = np.zeros_like(rewards)
    following, after = 0.0, last
    for t in range(len(rewards) - 1, -1, -1):
        delta = float(rewards[t]) + float(discounts[t]) * after - float(values[t])
        following = delta + float(discounts[t]) * gae * following
        gained[t] = following
        after = float(values[t])
    return gained, gained + values


def update(
    network: PlacementNetwork,
    optimizer: torch.optim.Optimizer,
    runs: Sequence[Rollout],
    settings: A2cSettings,
    *,
    device: str = "cpu",
) -> dict[str, float]:
    """One step of gradient descent on some runs, on the network's device; give its figures.

    Source: Mnih et al. 2016, section 4: policy gradient by the advantage, squared error of the value, and an entropy bonus.
    """
    runs = [run for run in runs if run.ticks]
    found = [_advantages_of(run, settings) for run in runs]
    of_made = [np.repeat(gained, _kept(run)) for run, (gained, _) in zip(runs, found, strict=True)]
    made = np.concatenate([np.zeros(0, np.float32), *of_made])
    if not len(made):
        return {"decisions": 0.0}
    mean, spread = float(made.mean()), float(made.std()) + 1e-6
    ticks = sum(len(run.ticks) for run in runs)
    sums = torch.zeros(3, device=device)
    optimizer.zero_grad()
    # Run by run: the fleets of two runs differ in size, and side by side the small one would be padded to the large one.
    for run, (gained, returns) in zip(runs, found, strict=True):
        batch = moved(batch_graphs([tick.graph for tick in run.ticks]), device)
        node, cluster = network.encode(batch)
        value = network.value(node.detach(), cluster.detach(), batch)
        value_loss = functional.mse_loss(value, torch.from_numpy(returns).to(device), reduction="sum") / ticks
        loss = settings.value_weight * value_loss
        policy_loss, entropy = value_loss.new_zeros(()), value_loss.new_zeros(())
        held = choices_of(run.ticks)
        if held is not None:
            held = moved(held, device)
            logits = scores_of(network, node, held).masked_fill(~held.allowed, -torch.inf)
            log_p = torch.log_softmax(logits, dim=1)
            entropy = -(log_p.exp() * log_p.masked_fill(~held.allowed, 0.0)).sum() / len(made)
            advantage = ((torch.from_numpy(gained).to(device) - mean) / spread)[held.tick]
            policy_loss = -(log_p.gather(1, held.chosen[:, None]).squeeze(1) * advantage).sum() / len(made)
            loss = loss + policy_loss - settings.entropy_weight * entropy
        loss.backward()  # type: ignore[no-untyped-call]
        sums += torch.stack((policy_loss, value_loss, entropy)).detach()
    torch.nn.utils.clip_grad_norm_(network.parameters(), settings.max_grad_norm)
    optimizer.step()
    names = ("policy_loss", "value_loss", "entropy")
    return {**dict(zip(names, sums.tolist(), strict=True)), "advantage": spread, "decisions": float(len(made))}


def _advantages_of(run: Rollout, settings: A2cSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rewards, values, discounts = (
        np.array([getattr(tick, name) for tick in run.ticks], np.float32) for name in ("reward", "value", "discount")
    )
    return advantages(rewards, values, discounts, run.after.value if run.after else 0.0, gae=settings.gae)


def _kept(run: Rollout) -> NDArray[np.int64]:
    return np.array([len(tick.chosen) for tick in run.ticks], np.int64)


def follow(slow: PlacementNetwork, fast: PlacementNetwork, rate: float) -> None:
    """Move the one's weights a share of the way to the other's."""
    with torch.no_grad():
        weight: Tensor
        for held, weight in zip(slow.parameters(), fast.parameters(), strict=True):
            held.lerp_(weight.to(held.device), rate)
