"""Discrete soft actor-critic on problems whose optimum can be worked out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tango.training.sac import DiscreteSac, SacSettings, Transitions, entropy_of, log_policy

EVERY = torch.ones(3, dtype=torch.bool)


class Table(nn.Module):
    """A number for each of s states and a actions; what is seen is the state's index."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(shape))

    def forward(self, seen: Tensor) -> Tensor:
        """(..., b, a)"""
        return self.values[..., seen, :]


def _trained(
    reward: list[list[float]], leads_to: list[list[int]], *, discount: float, settings: SacSettings, allowed: Tensor | None = None
) -> tuple[DiscreteSac, Tensor]:
    """A table trained on even draws of (state, action) of a small decision process, and which actions are allowed."""
    gains, after = torch.tensor(reward), torch.tensor(leads_to)
    states, actions = gains.shape
    may = allowed if allowed is not None else torch.ones(states, actions, dtype=torch.bool)
    torch.manual_seed(0)
    agent = DiscreteSac(Table(states, actions), Table(2, states, actions), settings)
    pairs = torch.tensor([(s, a) for s in range(states) for a in range(actions) if may[s, a]])
    for _ in range(400):
        state, chosen = pairs[torch.randint(len(pairs), (32,))].T
        following = after[state, chosen]
        agent.update(
            Transitions(
                seen=state,
                allowed=may[state],
                chosen=chosen,
                reward=gains[state, chosen],
                discount=torch.full((32,), discount),
                states=torch.cat((state, following)),
                states_allowed=may[torch.cat((state, following))],
                following=torch.arange(32, 64),
            )
        )
    return agent, may


FAST = SacSettings(learning_rate=3e-2, temperature_rate=3e-2, target_rate=0.08, entropy_share=0.1, temperature=0.1)


def test_the_better_arm_is_chosen_and_its_value_found() -> None:
    """Three arms of 0.2, 1.0 and 0.5: the second is chosen, and the critics know what each is worth."""
    agent, may = _trained([[0.2, 1.0, 0.5]], [[0, 0, 0]], discount=0.0, settings=FAST)

    p = log_policy(agent.actor(torch.tensor([0])), may).exp()
    assert p.argmax() == 1
    assert p[0, 1] > 0.9
    torch.testing.assert_close(agent.critics(torch.tensor([0]))[:, 0], torch.tensor([[0.2, 1.0, 0.5]] * 2), atol=0.05, rtol=0)


def test_a_small_loss_now_is_taken_for_a_gain_later() -> None:
    """In state 0, action 0 gives 0.3 and stays, action 1 gives nothing and leads to state 1, which gives 1 for ever."""
    agent, may = _trained([[0.3, 0.0], [1.0, 1.0]], [[0, 1], [1, 1]], discount=0.8, settings=FAST)

    p = log_policy(agent.actor(torch.tensor([0])), may[:1]).exp()[0]
    value = agent.critics(torch.tensor([0, 1])).detach().amin(0)
    assert p[1] > 0.9
    # 1 / (1 - 0.8) = 5 in state 1, and what the entropy held there is worth; 0.8 times that one step before.
    assert 4.7 < value[1].mean() < 5.7
    assert float(value[0, 1]) == pytest.approx(0.8 * float(value[1].mean()), abs=0.3)


def test_short_sight_takes_the_gain_now() -> None:
    """The same process without a future."""
    agent, may = _trained([[0.3, 0.0], [1.0, 1.0]], [[0, 1], [1, 1]], discount=0.0, settings=FAST)

    p = log_policy(agent.actor(torch.tensor([0])), may[:1]).exp()[0]
    assert p[0] > 0.9


@pytest.mark.parametrize("share", [pytest.param(0.2, marks=pytest.mark.long), 0.6])
def test_the_temperature_holds_the_entropy_that_was_asked_for(share: float) -> None:
    """Among arms of different worth, the policy's entropy comes to the asked share of log 4."""
    settings = replace(FAST, entropy_share=share, temperature=0.5)
    agent, may = _trained([[0.0, 0.3, 0.6, 1.0]], [[0] * 4], discount=0.0, settings=settings)

    found = entropy_of(log_policy(agent.actor(torch.tensor([0])), may), may).detach()
    assert float(found) == pytest.approx(share * float(np.log(4)), abs=0.12)


def test_an_update_is_that_of_the_equations_written_out() -> None:
    """Each term with a pass of its own, as the paper has it: what is shared between them changes no weight beyond rounding."""
    torch.manual_seed(2)
    agent = DiscreteSac(Table(6, 4), Table(2, 6, 4), FAST)
    for module in (agent.actor, agent.critics, agent._targets):
        torch.nn.init.normal_(module.values)
    may = torch.rand(6, 4) < 0.7
    may[:, 0] = True
    state, following = torch.randint(6, (2, 16))
    chosen = torch.multinomial(may[state].float(), 1).squeeze(1)
    reward, discount = torch.randn(16), torch.full((16,), 0.8)
    actor, critics, targets = (deepcopy(module) for module in (agent.actor, agent.critics, agent._targets))
    temperature = agent.temperature

    agent.update(
        Transitions(
            seen=state,
            allowed=may[state],
            chosen=chosen,
            reward=reward,
            discount=discount,
            states=torch.cat((state, following)),
            states_allowed=may[torch.cat((state, following))],
            following=torch.arange(16, 32),
        )
    )

    optimizers = [torch.optim.Adam(module.parameters(), lr=FAST.learning_rate) for module in (critics, actor)]
    with torch.no_grad():
        log_p = log_policy(actor(following), may[following])
        worth = ((targets(following).amin(0) - temperature * log_p) * log_p.exp()).masked_fill(~may[following], 0.0).sum(1)
    found = critics(state).gather(2, chosen.expand(2, -1)[:, :, None]).squeeze(2)
    functional.mse_loss(found, (reward + discount * worth).expand(2, -1)).backward()
    torch.nn.utils.clip_grad_norm_(critics.parameters(), FAST.max_grad_norm)
    optimizers[0].step()
    log_p = log_policy(actor(state), may[state])
    value = critics(state).detach().amin(0)
    (log_p.exp() * (temperature * log_p - value)).masked_fill(~may[state], 0.0).sum(1).mean().backward()
    torch.nn.utils.clip_grad_norm_(actor.parameters(), FAST.max_grad_norm)
    optimizers[1].step()
    torch.testing.assert_close(agent.critics.values, critics.values, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(agent.actor.values, actor.values, atol=1e-6, rtol=1e-5)


def test_what_is_not_allowed_is_neither_chosen_nor_hoped_for() -> None:
    """The best arm is forbidden: its probability is 0, and the value of the state is that of the best that is allowed."""
    may = torch.tensor([[True, True, False]])
    agent, _ = _trained([[0.2, 0.4, 9.0]], [[0, 0, 0]], discount=0.5, settings=FAST, allowed=may)

    log_p = log_policy(agent.actor(torch.tensor([0])), may)
    assert log_p.exp()[0, 1] > 0.9
    assert log_p[0, 2] == 0.0
    assert float(agent.critics(torch.tensor([0])).detach().amin(0)[0, 1]) < 1.2


def test_a_taught_actor_imitates_whatever_the_critics_say() -> None:
    """With a teacher the actor goes where it points, against the reward; the critics learn the reward all the same."""
    torch.manual_seed(0)
    agent = DiscreteSac(Table(1, 3), Table(2, 1, 3), FAST)
    rng = np.random.default_rng(0)
    state, may = torch.zeros(32, dtype=torch.long), EVERY.expand(32, 3)
    for _ in range(300):
        chosen = torch.from_numpy(rng.integers(0, 3, 32))
        agent.update(
            Transitions(
                seen=state,
                allowed=may,
                chosen=chosen,
                reward=(chosen == 1).float(),
                discount=torch.zeros(32),
                states=state,
                states_allowed=may,
                following=torch.arange(32),
                teacher=torch.full((32,), 2),
            )
        )

    assert log_policy(agent.actor(state[:1]), may[:1]).exp()[0, 2] > 0.9
    torch.testing.assert_close(agent.critics(state[:1])[:, 0], torch.tensor([[0.0, 1.0, 0.0]] * 2), atol=0.05, rtol=0)


@pytest.mark.parametrize("divergence", [pytest.param(0.05, marks=pytest.mark.long), 0.3])
def test_an_actor_that_is_held_goes_as_far_from_what_it_was_taught_as_was_asked_for(divergence: float) -> None:
    """It was taught the third arm; the critics know that the second one is better. Their divergence comes to what the settings say, and
    goes towards the better arm; the policy that it was taught stays what it was."""
    torch.manual_seed(0)
    agent = DiscreteSac(Table(1, 3), Table(2, 1, 3), replace(FAST, divergence=divergence))
    with torch.no_grad():
        agent.actor.values.copy_(torch.tensor([[0.0, 0.0, 2.0]]))
    taught = log_policy(agent.actor(torch.tensor([0])), EVERY[None]).detach()
    agent.hold()

    figures = {}
    for _ in range(800):
        figures = agent.update(_bandit(torch.randint(3, (32,))))

    found = log_policy(agent.actor(torch.tensor([0])), EVERY[None]).detach()
    apart = float((found.exp() * (found - taught)).sum())
    assert apart == pytest.approx(divergence, rel=0.3)
    assert figures["divergence"] == pytest.approx(apart, rel=0.1)
    assert found[0, 1] > taught[0, 1]


def test_noise_of_the_critics_moves_an_actor_that_is_held_no_further_than_asked_for() -> None:
    """Arms of equal worth under a reward that is nothing but noise: one that is held keeps what it was taught, one that is not loses it."""
    kept = {}
    for held in (True, False):
        torch.manual_seed(1)
        agent = DiscreteSac(Table(1, 3), Table(2, 1, 3), replace(FAST, entropy_share=0.9))
        with torch.no_grad():
            agent.actor.values.copy_(torch.tensor([[0.0, 0.0, 3.0]]))
        if held:
            agent.hold()
        for _ in range(600):
            agent.update(replace(_bandit(torch.randint(3, (32,))), reward=0.1 * torch.randn(32)))
        kept[held] = float(log_policy(agent.actor(torch.tensor([0])), EVERY[None]).detach().exp()[0, 2])
    assert kept[True] > 0.75
    assert kept[False] < 0.7


def test_a_training_that_goes_on_is_held_near_the_same_policy() -> None:
    """What `state` gave holds what was taught; an agent that goes on from it makes the same updates, bit for bit."""
    torch.manual_seed(3)
    agent = DiscreteSac(Table(1, 3), Table(2, 1, 3), FAST)
    agent.hold()
    for _ in range(20):
        agent.update(_bandit(torch.tensor([0, 1, 2])))
    again = DiscreteSac(Table(1, 3), Table(2, 1, 3), FAST)
    again.restore(deepcopy(agent.state()))

    figures = [one.update(_bandit(torch.tensor([2, 1, 1]))) for one in (agent, again)]
    assert figures[0] == figures[1]
    assert "divergence" in figures[0]
    torch.testing.assert_close(again.actor.values, agent.actor.values, atol=0, rtol=0)


def _bandit(chosen: Tensor) -> Transitions:
    """One state with three arms, of which the second gives 1 and the others nothing."""
    state, may = torch.zeros(len(chosen), dtype=torch.long), EVERY.expand(len(chosen), 3)
    return Transitions(
        seen=state,
        allowed=may,
        chosen=chosen,
        reward=(chosen == 1).float(),
        discount=torch.zeros(len(chosen)),
        states=state,
        states_allowed=may,
        following=torch.arange(len(chosen)),
    )


def test_the_averaged_actor_follows_the_actor_slowly() -> None:
    """After one update it has gone the asked share of the way; after many it prefers what the actor prefers."""
    torch.manual_seed(0)
    agent = DiscreteSac(Table(1, 3), Table(2, 1, 3), replace(FAST, average_rate=0.25))
    state, may = torch.zeros(1, dtype=torch.long), EVERY.expand(1, 3)
    batch = Transitions(
        seen=state,
        allowed=may,
        chosen=torch.ones(1, dtype=torch.long),
        reward=torch.ones(1),
        discount=torch.zeros(1),
        states=state,
        states_allowed=may,
        following=torch.zeros(1, dtype=torch.long),
        teacher=torch.full((1,), 2),
    )

    agent.update(batch)
    once = agent.averaged.values.clone()
    assert agent.actor.values.abs().max() > 0
    torch.testing.assert_close(once, 0.25 * agent.actor.values.detach())
    for _ in range(50):
        agent.update(batch)
    assert agent.averaged.values[0].argmax() == agent.actor.values[0].argmax() == 2
