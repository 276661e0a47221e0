"""Training of `dsaco`: what is learned from, that it can be repeated, and that what is shipped is worth having."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tango.domain.seeds import TRAINING
from tango.fleets import load_fleet
from tango.learning.lc_layer import shipped_lc_policy
from tango.scheduling.lc import dsaco
from tango.scheduling.lc.columns import Exploration
from tango.scheduling.lc.dsaco import CANDIDATES, LEARNED_FEATURES
from tango.scheduling.lc.rule import LcRule, lc_rule
from tango.settings import Settings
from tango.traces.workloads import Workload, draw_requests
from tango.training.curriculum import Curriculum, Episode
from tango.training.lc_agent import OfferActor, OfferCritics
from tango.training.lc_rollouts import (
    LATENCY_PRICE,
    MOST_LATENCY,
    Experience,
    ReplayBuffer,
    draw_episode,
    play,
    qos_rate,
    rewards,
    run_episode,
)


def _episode(*, load: float = 0.8, seed: int = 2_500_000) -> Episode:
    workload = Workload(lc=("p3",), be=("p3",), duration_s=20.0, load=load)
    return Episode(fleet=load_fleet("testbed"), workload=workload, settings=Settings(), seed=seed)


def _actor(seed: int) -> OfferActor:
    torch.manual_seed(seed)
    return OfferActor(8)


def test_the_compiled_layer_chooses_what_the_torch_actor_would() -> None:
    """Without noise, every decision of a run is the actor's highest logit over what the decision saw."""
    episode, actor = _episode(), _actor(2)
    count = len(draw_requests(episode.workload, episode.fleet, episode.seed))
    explore = Exploration(
        np.zeros((count, CANDIDATES), np.float32),
        np.full((count, CANDIDATES, LEARNED_FEATURES), np.nan, np.float32),
        np.full(count, -1, np.int32),
    )

    run_episode(episode, LcRule(dsaco.POLICY, actor.scored_layer().weights()), explore)

    made = explore.chosen >= 0
    there = torch.from_numpy(~np.isnan(explore.seen[made, :, 0]))
    with torch.no_grad():
        logits = actor((torch.from_numpy(np.nan_to_num(explore.seen[made])), there)).masked_fill(~there, -torch.inf).numpy()
    assert made.sum() > 500
    assert len(np.unique(explore.chosen[made])) > 1
    np.testing.assert_allclose(logits[np.arange(len(logits)), explore.chosen[made]], logits.max(axis=1), atol=1e-5)


def test_noise_of_zero_changes_nothing_and_noise_does() -> None:
    """A run that notes what it saw is the same run; one that samples is another."""
    episode, learned = _episode(), _actor(2).scored_layer()
    rule = LcRule(dsaco.POLICY, learned.weights())
    count = len(draw_requests(episode.workload, episode.fleet, episode.seed))
    features = np.zeros((count, CANDIDATES, LEARNED_FEATURES), np.float32)

    def digest(noise: np.ndarray) -> str:
        return run_episode(episode, rule, Exploration(noise, features, np.zeros(count, np.int32))).digest

    assert digest(np.zeros((count, CANDIDATES), np.float32)) == run_episode(episode, rule).digest
    assert digest(np.random.default_rng(0).gumbel(size=(count, CANDIDATES)).astype(np.float32)) != run_episode(episode, rule).digest


def test_equal_seeds_give_equal_runs_of_the_shipped_policy() -> None:
    """Digests, bit for bit; another seed is another run."""
    policy = shipped_lc_policy("dsaco")

    assert run_episode(_episode(), policy).digest == run_episode(_episode(), policy).digest
    assert run_episode(_episode(), policy).digest != run_episode(_episode(seed=2_500_001), policy).digest


def test_a_request_is_rewarded_for_its_target_and_charged_for_its_latency() -> None:
    """Met at half the target: 1 - 0.05. Answered at twice the target: -0.2. Never answered: the highest charge."""
    outcomes = run_episode(_episode(), lc_rule("load-greedy")).outcomes
    rows = np.flatnonzero(np.isfinite(outcomes.target_s))[:3]
    target = outcomes.target_s[rows]
    finished, state = outcomes.finished_s.copy(), outcomes.state.copy()
    finished[rows] = outcomes.due_s[rows] + target * (0.5, 2.0, 1.0)
    state[rows[2]] = 0

    found = rewards(replace(outcomes, finished_s=finished, state=state))[rows]

    np.testing.assert_allclose(found, [1 - 0.5 * LATENCY_PRICE, -2 * LATENCY_PRICE, -MOST_LATENCY * LATENCY_PRICE], atol=1e-5)


def test_the_next_state_is_that_of_the_same_clusters_next_request() -> None:
    """Rows follow one another within a cluster, the last of each ends its chain, and no row follows two."""
    found = play(_episode(), _actor(1).scored_layer(), np.random.default_rng(0))

    after = found.following
    ends = after == np.arange(len(found))
    assert ends.sum() == 4
    assert (after[~ends] > np.flatnonzero(~ends)).all()
    assert len(np.unique(after[~ends])) == (~ends).sum()
    assert found.allowed[np.arange(len(found)), found.chosen].all()


def test_a_replay_keeps_the_last_episodes_and_their_chains() -> None:
    """Of three episodes of ten decisions in a capacity of 15 two are kept; what follows a row is of its own episode."""

    def episode(mark: float) -> Experience:
        return Experience(
            seen=np.full((10, CANDIDATES, LEARNED_FEATURES), mark, np.float32),
            allowed=np.ones((10, CANDIDATES), np.bool_),
            chosen=np.zeros(10, np.int64),
            reward=np.full(10, mark, np.float32),
            following=np.minimum(np.arange(10) + 1, 9),
        )

    replay = ReplayBuffer(15, discount=0.7)
    for mark in (1.0, 2.0, 3.0):
        replay.add(episode(mark))
    drawn = replay.sample(400, np.random.default_rng(0))

    assert set(drawn.reward.tolist()) == {2.0, 3.0}
    torch.testing.assert_close(drawn.states[0][drawn.following], drawn.seen[0])
    np.testing.assert_allclose(np.unique(drawn.discount), [0.0, 0.7], rtol=1e-6)


def test_the_critics_do_not_mind_the_order_of_the_offers() -> None:
    """Offers in another order get the same values in that order; offers that are not there count for nothing."""
    torch.manual_seed(0)
    critics = OfferCritics(8)
    there = torch.tensor([[True, True, True, False]])
    features = torch.randn(1, 4, LEARNED_FEATURES) * there[:, :, None]
    order = torch.tensor([2, 0, 1, 3])

    torch.testing.assert_close(
        critics((features[:, order], there[:, order]))[:, :, :3], critics((features, there))[:, :, order][:, :, :3]
    )
    torch.testing.assert_close(critics((features[:, :3], there[:, :3])), critics((features, there))[:, :, :3])


def test_episodes_are_drawn_with_seeds_of_training() -> None:
    """Also where a fleet is named, which then is the one."""
    named = Curriculum(fleets=(load_fleet("paper"),), drawn_share=0.0, patterns=("p2",), loads=(0.7, 0.7), episode_s=5.0)
    drawn = [draw_episode(np.random.default_rng(k), curriculum) for curriculum in (Curriculum(), named) for k in range(20)]

    assert {episode.seed for episode in drawn} <= set(TRAINING)
    assert {episode.fleet.name for episode in drawn[20:]} == {"paper"}
    assert {(episode.workload.lc, episode.workload.load, episode.workload.duration_s) for episode in drawn[20:]} == {
        (("p2",), 0.7, 5.0)
    }
    assert len({episode.fleet.name for episode in drawn[:20]}) == 3


def test_a_replay_comes_back_from_its_state() -> None:
    """The same episodes, so the same batches."""
    replay, back = ReplayBuffer(500, discount=0.7), ReplayBuffer(500, discount=0.7)
    for k in range(2):
        replay.add(play(_episode(seed=2_500_000 + k), _actor(1).scored_layer(), np.random.default_rng(k)))

    back.restore(replay.state())

    drawn, again = (held.sample(64, np.random.default_rng(2)) for held in (replay, back))
    for name in ("chosen", "reward", "discount", "allowed", "states_allowed", "following"):
        assert torch.equal(getattr(drawn, name), getattr(again, name))
    assert torch.equal(drawn.seen[0], again.seen[0])


@pytest.mark.parametrize("load", [0.8, 1.1])
def test_the_shipped_layer_is_far_better_than_round_robin_and_close_to_load_greedy(load: float) -> None:
    """QoS rate on the testbed, mean of three seeds no training has seen."""
    policy = shipped_lc_policy("dsaco")
    learned, greedy, in_turn = (
        np.mean([qos_rate(run_episode(_episode(load=load, seed=seed), rule).outcomes) for seed in range(2_500_000, 2_500_003)])
        for rule in (policy, lc_rule("load-greedy"), lc_rule("round-robin"))
    )

    assert learned > in_turn + 0.05
    assert learned > greedy - 0.03
