"""Advantage actor-critic: the advantages are right, the critic leaves the encoder alone, and it finds what is worth more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tango.domain.seeds import TEST
from tango.learning.checkpoint import load_checkpoint
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.shipped import shipped_path
from tango.training.a2c import A2cSettings, advantages, follow, update
from tango.training.be_rollouts import Placing, Rollout, choices_of, scores_of
from tango.training.curriculum import Curriculum
from tango.training.devices import moved
from tango.training.engine_episodes import advantage, draw_be_episode, run_be_episode
from tango.training.learner import paired
from tests.fakes.be_experience import at_random, rollouts


def test_generalised_advantages_equal_their_definition() -> None:
    """Sum of discounted temporal differences, written out, with a discount for each tick."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=5).astype(np.float32), rng.normal(size=5).astype(np.float32)
    discounts = rng.uniform(0.7, 1.0, 5).astype(np.float32)

    gained, returns = advantages(rewards, values, discounts, 0.7, gae=0.8)

    delta = rewards + discounts * np.append(values[1:], 0.7) - values
    for t in range(5):
        wanted = sum(np.prod(0.8 * discounts[t : t + k]) * delta[t + k] for k in range(5 - t))
        assert gained[t] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(returns, gained + values, rtol=1e-6)


def test_what_one_run_of_an_episode_gains_the_other_lacks() -> None:
    """Rewards are differences of the two: over the window they add up to opposite sums, however differently their ticks lie."""
    one, other = rollouts(3, episode_s=20.0)

    sums = [sum(tick.reward for tick in run.ticks) for run in (one, other)]

    assert abs(sums[0]) > 1e-3
    assert sums[0] == pytest.approx(-sums[1], abs=1e-9)
    assert all(run.steps >= len(run.ticks) > 5 for run in (one, other))
    assert all(tick.at_s < 20.0 and 0 < tick.discount < 1 for run in (one, other) for tick in run.ticks)


def test_what_a_tick_keeps_of_its_placements_is_bounded() -> None:
    """So that a run of a large fleet fits into memory; each that is kept chose what was allowed."""
    for run in rollouts(8):
        for tick in run.ticks:
            assert len(tick.chosen) <= 16
            assert tick.pair.shape[:2] == tick.allowed.shape == (len(tick.chosen), len(tick.graph.node))
            assert tick.allowed[np.arange(len(tick.chosen)), tick.chosen].all()


def _paid_for(runs: list[Rollout], node: int) -> list[Rollout]:
    """The runs with one placement a tick, rewarded by 1 where it went to a node and by -1 elsewhere, at once."""

    def of(run: Rollout) -> Rollout:
        kept = [tick for tick in run.ticks if len(tick.chosen)]
        ticks = [
            replace(
                tick,
                kind=tick.kind[:1],
                pair=tick.pair[:1],
                allowed=tick.allowed[:1],
                chosen=tick.chosen[:1],
                reward=1.0 if tick.chosen[0] == node else -1.0,
                discount=0.0,
            )
            for tick in kept
        ]
        return Rollout(ticks=ticks)

    return [of(run) for run in runs]


def _share_on(network: PlacementNetwork, runs: list[Rollout], node: int) -> float:
    """Mean probability of a node among the placements of some runs."""
    ticks = [tick for run in runs for tick in run.ticks]
    held = choices_of(ticks)
    assert held is not None
    with torch.no_grad():
        embedded, _ = network.encode(batch_graphs([tick.graph for tick in ticks]))
        logits = scores_of(network, embedded, held).masked_fill(~held.allowed, -torch.inf)
    return float(torch.softmax(logits, 1)[:, node].mean())


def test_actor_critic_comes_to_choose_what_is_paid_for() -> None:
    """Without a teacher: a node that is worth more is chosen more often after some steps, in states of other runs as well."""
    torch.manual_seed(3)
    network = PlacementNetwork(16)
    played, others = rollouts(6, episode_s=20.0), rollouts(6, episode_s=15.0)
    counts = np.bincount([int(tick.chosen[0]) for run in played for tick in run.ticks if len(tick.chosen)])
    node = int(np.argmax(counts))
    assert counts[node] >= 2
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = _share_on(network, others, node)

    for _ in range(60):
        figures = update(network, optimizer, _paid_for(played, node), A2cSettings(gae=0.0))

    assert _share_on(network, others, node) > before + 0.3
    assert np.isfinite(list(figures.values())).all()


def test_the_critic_does_not_change_what_the_encoder_sees() -> None:
    """Where all placements are worth the same, only the critic learns: scores are as they were."""
    torch.manual_seed(4)
    network = PlacementNetwork(8)
    runs = rollouts(3)
    for run in runs:
        run.after = None
        for tick in run.ticks:
            tick.value, tick.reward = 0.0, 1.0
            tick.discount = 0.0
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    update(network, torch.optim.SGD(network.parameters(), lr=0.1), runs, A2cSettings(entropy_weight=0.0))

    changed = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("critic") for name in changed)


def test_placements_are_scored_as_one_by_one() -> None:
    """Ticks of several fleets side by side, each node projected once: every placement has the scores that the network gives it alone, and
    the same gradient comes of them."""
    torch.manual_seed(5)
    network = PlacementNetwork(8)
    ticks = [tick for seed in (3, 8) for run in rollouts(seed) for tick in run.ticks if len(tick.chosen)][::4]
    assert len({len(tick.graph.node) for tick in ticks}) > 1
    held = choices_of(ticks)
    assert held is not None

    def gradient(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        network.zero_grad()
        loss.backward()
        return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}

    together = scores_of(network, network.encode(batch_graphs([tick.graph for tick in ticks]))[0], held)
    alone = []
    for tick in ticks:
        node, _ = network.encode(batch_graphs([tick.graph]))
        alone += [network.scores(node, torch.from_numpy(k), torch.from_numpy(p)) for k, p in zip(tick.kind, tick.pair, strict=True)]

    for row, wanted in enumerate(alone):
        torch.testing.assert_close(together[row, : len(wanted)], wanted, atol=1e-5, rtol=1e-4)
    found = gradient(together.masked_fill(~held.allowed, 0.0).square().sum())
    each = gradient(sum(((one * held.allowed[row, : len(one)]).square().sum() for row, one in enumerate(alone)), torch.zeros(())))
    assert found.keys() == each.keys()
    for name, wanted in each.items():
        torch.testing.assert_close(found[name], wanted, atol=1e-3, rtol=1e-3)


def test_the_average_follows_by_a_share() -> None:
    """A tenth of the way at a rate of a tenth."""
    slow, fast = PlacementNetwork(4), PlacementNetwork(4)
    wanted = [0.9 * a + 0.1 * b for a, b in zip(slow.parameters(), fast.parameters(), strict=True)]

    follow(slow, fast, 0.1)

    for weight, want in zip(slow.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight, want)


def test_the_shipped_network_places_better_than_chance() -> None:
    """On episodes of the test seeds its reward is above that of any node that fits, with the whole 95 % interval."""
    network = load_checkpoint(shipped_path()).network
    episodes = [draw_be_episode(seed, Curriculum(episode_s=30.0)) for seed in TEST[:12]]
    gains = [advantage(run_be_episode(e, Placing(network)), run_be_episode(e, at_random())) for e in episodes]

    gain, margin = paired(np.array(gains), np.zeros(len(gains)))

    assert gain - margin > 0


def test_no_tensor_of_an_update_stays_behind_on_the_cpu() -> None:
    """The networks compute on whatever device what they see has been moved to: PyTorch's `meta` stands for a GPU here, without values."""
    network = PlacementNetwork(8)
    ticks = [tick for run in rollouts(3) for tick in run.ticks]
    away, batch = network.to("meta"), moved(batch_graphs([tick.graph for tick in ticks]), "meta")
    found = choices_of(ticks)
    assert found is not None
    found = moved(found, "meta")

    node, cluster = away.encode(batch)
    values = away.value(node, cluster, batch)
    logits = scores_of(away, node, found)

    assert (values.device.type, tuple(values.shape)) == ("meta", (len(ticks),))
    assert logits.shape == found.allowed.shape
