"""Soft actor-critic (SAC) over discrete actions, the algorithm of `dsaco` and `gnn-sac`.

Source: Haarnoja et al., "Soft actor-critic", ICML 2018, and "Soft actor-critic algorithms and applications", arXiv:1812.05905, section 5
(the temperature that holds an entropy); Christodoulou, "Soft actor-critic for discrete action settings", arXiv:1910.07207, equations 10
to 12 (expectations over the actions in place of samples). Departures: the entropy held is a share of that of an even choice among the
allowed actions, since their number differs from decision to decision; the paper's 0.98 would keep a scheduler all but random, and
what it does while it learns is what it sees. Every transition has a discount of its own, because decisions are not evenly spaced. Beside
the actor that samples there is a running average of it, which is steadier and is what a training keeps.

An actor that was taught before it improves can be held near what it was taught (`hold`): in place of its entropy stands its divergence
from that policy, in the value of what follows and in the actor's loss, with a temperature that holds the divergence asked for. Without it
an actor follows whatever its critics are wrong by, and loses what it was taught. Source: Wu, Tucker and Nachum, "Behavior regularized
offline reinforcement learning", arXiv:1911.11361, the value penalty with the Kullback-Leibler divergence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from tango.training.devices import moved

Actor = TypeVar("Actor", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class SacSettings:
    """Hyper-parameters of SAC for discrete actions."""

    learning_rate: float = 1e-3
    target_rate: float = 0.01
    """Share by which the target critics follow the critics in an update."""
    average_rate: float = 0.002
    """Share by which the averaged actor follows the actor in an update."""
    entropy_share: float = 0.2
    """Target entropy, as a share of the entropy of a uniform choice among the allowed actions."""
    temperature: float = 0.05
    """Initial temperature, in units of reward; once more when an actor begins to be held near what it was taught."""
    temperature_rate: float = 1e-3
    """Learning rate of the temperature's logarithm."""
    divergence: float = 0.05
    """Mean Kullback-Leibler divergence of an actor that is held near what it was taught from that, in nats of a decision."""
    max_grad_norm: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """b decisions with at most a actions each, and p states, theirs and those that follow; what was seen is whatever the actor and the
    critics take."""

    seen: Any
    allowed: Tensor
    """(b, a)"""
    chosen: Tensor
    """(b,)"""
    reward: Tensor
    """(b,)"""
    discount: Tensor
    """(b,) of what comes after; 0 where an episode ended"""
    states: Any
    """What was seen in p states: those of the decisions, in their order, then those that only follow them"""
    states_allowed: Tensor
    """(p, a); at least one in each row, also where it follows at a discount of 0"""
    following: Tensor
    """(b,) which of the states follows each decision"""
    teacher: Tensor | None = None
    """(b,) what the actor shall imitate in this update, in place of improving by the critics; they learn as ever"""


class DiscreteSac(Generic[Actor]):
    """An actor with its running average `averaged`, twin critics and a temperature.

    `actor(seen)` gives logits (b, a), `critics(seen)` values (2, b, a): two estimates, the lower of which counts.
    """

    def __init__(self, actor: Actor, critics: nn.Module, settings: SacSettings, *, device: str = "cpu") -> None:
        self.actor, self.critics, self.settings = actor.to(device), critics.to(device), settings
        self._device = device
        self.averaged = deepcopy(actor).requires_grad_(False)
        self._targets = deepcopy(critics).requires_grad_(False)
        self._taught: Actor | None = None
        self._log_temperature = torch.tensor(settings.temperature, device=device).log().requires_grad_()
        self._rates = (settings.learning_rate, settings.learning_rate, settings.temperature_rate)
        self._optimizers = [
            torch.optim.Adam(parameters, lr=rate)
            for parameters, rate in zip(
                (actor.parameters(), critics.parameters(), [self._log_temperature]), self._rates, strict=True
            )
        ]

    @property
    def temperature(self) -> float:
        """The temperature alpha: the weight of entropy, in units of reward."""
        return float(self._log_temperature.detach().exp())

    def slow_down(self, factor: float) -> None:
        """Set the learning rates to this share of those in the settings."""
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor

    def hold(self) -> None:
        """From now on hold the actor near what it is now, by their divergence, and no longer to an entropy."""
        self._taught = deepcopy(self.actor).requires_grad_(False)
        with torch.no_grad():
            self._log_temperature.fill_(math.log(self.settings.temperature))

    def update(self, batch: Transitions) -> dict[str, float]:
        """One gradient step of critics, actor and temperature; gives their losses, the entropy and the temperature, and of an actor that
        is held its divergence from what it was taught."""
        batch = moved(batch, self._device)
        temperature = self.temperature
        # One pass of the actor over all states: what follows a decision is mostly a decision itself, and the critics' step leaves the
        # actor as it is.
        log_p_states = log_policy(self.actor(batch.states), batch.states_allowed)
        taught_states = self._log_taught(batch)
        critic_loss = self._critic_loss(batch, log_p_states.detach(), taught_states, temperature)
        self._step(1, critic_loss, self.critics)
        log_p, taught = log_p_states[: len(batch.chosen)], taught_states[: len(batch.chosen)]
        actor_loss = self._actor_loss(batch, log_p, taught, temperature)
        self._step(0, actor_loss, self.actor)
        log_p = log_p.detach()
        entropy = entropy_of(log_p, batch.allowed)
        figures = {
            "critic_loss": float(critic_loss.detach()),
            "actor_loss": float(actor_loss.detach()),
            "entropy": float(entropy.mean()),
            "temperature": temperature,
        }
        if self._taught is None:
            # Source: Christodoulou, equation 11, the entropy held being a share of that of an even choice.
            spare = entropy - self.settings.entropy_share * batch.allowed.sum(1).log()
        else:
            divergence = (log_p.exp() * (log_p - taught)).sum(1)
            figures["divergence"] = float(divergence.mean())
            spare = self.settings.divergence - divergence
        self._step(2, self._log_temperature * spare.mean(), None)
        _follow(self._targets, self.critics, self.settings.target_rate)
        _follow(self.averaged, self.actor, self.settings.average_rate)
        return figures

    def state(self) -> dict[str, Any]:
        """Networks, what the actor was taught, temperature and optimizers."""
        return {
            "networks": [module.state_dict() for module in self._modules()],
            "taught": None if self._taught is None else self._taught.state_dict(),
            "log_temperature": self._log_temperature.detach().clone(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave."""
        for module, weights in zip(self._modules(), state["networks"], strict=True):
            module.load_state_dict(weights)
        self._taught = None if state["taught"] is None else deepcopy(self.actor).requires_grad_(False)
        if self._taught is not None:
            self._taught.load_state_dict(state["taught"])
        with torch.no_grad():
            self._log_temperature.copy_(state["log_temperature"])
        for optimizer, held in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(held)

    def _modules(self) -> tuple[nn.Module, ...]:
        return self.actor, self.critics, self.averaged, self._targets

    @torch.no_grad()
    def _log_taught(self, batch: Transitions) -> Tensor:
        """(p, a) logarithm of the policy that the actor is held near, in all states; 0 where nothing holds it."""
        if self._taught is None:
            return torch.zeros(batch.states_allowed.shape, device=self._device)
        return log_policy(self._taught(batch.states), batch.states_allowed)

    def _actor_loss(self, batch: Transitions, log_p: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """Temperature times log-probability, less what it was taught, less value, in expectation over the allowed actions. Source:
        Christodoulou, equation 12.

        With a teacher the cross-entropy of its choice instead.
        """
        loss: Tensor
        if batch.teacher is not None:
            loss = -log_p.gather(1, batch.teacher[:, None]).mean()
        else:
            with torch.no_grad():
                value = self.critics(batch.seen).amin(0)
            loss = (log_p.exp() * (temperature * (log_p - taught) - value)).masked_fill(~batch.allowed, 0.0).sum(1).mean()
        return loss

    def _critic_loss(self, batch: Transitions, log_p: Tensor, taught: Tensor, temperature: float) -> Tensor:
        """Squared error of both critics against the reward and the soft value of what follows; `log_p` and `taught` (p, a) are of all
        states. Source: Christodoulou, equation 10."""
        with torch.no_grad():
            value = self._targets(batch.states).amin(0) - temperature * (log_p - taught)
            worth = (log_p.exp() * value).masked_fill(~batch.states_allowed, 0.0).sum(1)
            wanted = batch.reward + batch.discount * worth[batch.following]
        found = self.critics(batch.seen).gather(2, batch.chosen.expand(2, -1)[:, :, None]).squeeze(2)
        return functional.mse_loss(found, wanted.expand(2, -1))

    def _step(self, which: int, loss: Tensor, module: nn.Module | None) -> None:
        self._optimizers[which].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if module is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), self.settings.max_grad_norm)
        self._optimizers[which].step()


@torch.no_grad()
def _follow(slow: nn.Module, fast: nn.Module, rate: float) -> None:
    for held, weight in zip(slow.parameters(), fast.parameters(), strict=True):
        held.lerp_(weight, rate)


def log_policy(logits: Tensor, allowed: Tensor) -> Tensor:
    """(b, a) logarithm of the softmax over the allowed actions; 0 in place of minus infinity where an action is not allowed."""
    return torch.log_softmax(logits.masked_fill(~allowed, -torch.inf), dim=1).masked_fill(~allowed, 0.0)


def entropy_of(log_p: Tensor, allowed: Tensor) -> Tensor:
    """(b,) entropy of policies given as `log_policy` gives them."""
    return -(log_p.exp() * log_p).masked_fill(~allowed, 0.0).sum(1)
