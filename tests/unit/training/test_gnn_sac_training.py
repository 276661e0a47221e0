"""Training of `gnn-sac`: how placements follow one another, that it can be repeated, and that what is shipped is worth having."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tango.domain.seeds import TEST
from tango.errors import CheckpointError
from tango.learning.assignment import PAIRS
from tango.learning.checkpoint import load_checkpoint
from tango.learning.network import PlacementNetwork
from tango.learning.policy import NetworkBePolicy
from tango.learning.shipped import shipped_path
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings
from tango.training.be_agent import PlacementActor, PlacementCritics, TickReplay
from tango.training.be_rollouts import Placing, Rollout, Tick
from tango.training.curriculum import Curriculum
from tango.training.engine_episodes import advantage, draw_be_episode, run_be_episode
from tango.training.learner import paired
from tango.training.teacher import LEFT_OVER
from tests.fakes.be_experience import at_random, rollouts
from tests.fakes.be_worlds import be_world


def _with(tick: Tick, placements: int, *, reward: float, discount: float = 0.9) -> Tick:
    """The tick with so many placements, all on node 0, and a reward."""
    nodes = len(tick.graph.node)
    return replace(
        tick,
        kind=np.full((placements, 3), reward, np.float32),
        pair=np.zeros((placements, nodes, PAIRS), np.float32),
        allowed=np.ones((placements, nodes), np.bool_),
        chosen=np.zeros(placements, np.int32),
        reward=reward,
        discount=discount,
    )


def _run(*ticks: Tick, after: Tick | None = None) -> Rollout:
    return Rollout(ticks=list(ticks), after=after)


def _tick() -> Tick:
    return rollouts(3)[0].ticks[0]


def test_placements_follow_one_another_within_a_tick_and_into_the_next_that_has_any() -> None:
    """Three placements, a tick without, one placement: chained at discount 1, 1 and 0.9 squared, the empty tick's reward counted in."""
    base = _tick()
    replay = TickReplay(capacity=10)

    replay.add([_run(_with(base, 3, reward=0.3), _with(base, 0, reward=0.1, discount=0.8), _with(base, 1, reward=0.5))])
    drawn = replay.sample(1, np.random.default_rng(0), teach=False)

    assert len(replay) == 1
    np.testing.assert_allclose(drawn.discount, [1.0, 1.0, 0.72], rtol=1e-6)
    np.testing.assert_allclose(drawn.reward, np.full(3, (0.3 + 0.9 * 0.1) / 3), rtol=1e-5)
    following = drawn.states.choices
    np.testing.assert_allclose(following.kind[drawn.following, 0], [0.3, 0.3, 0.5], rtol=1e-6)
    assert following.tick[drawn.following].tolist() == [0, 0, 1]


def test_the_last_placements_of_a_run_are_followed_by_those_after_the_window_or_left_out() -> None:
    """Runs do not follow one another; what is first placed after the window is what follows the last tick in it."""
    base = _tick()
    replay = TickReplay(capacity=10)

    replay.add([_run(_with(base, 1, reward=0.1)), _run(_with(base, 1, reward=0.2), after=_with(base, 2, reward=0.3))])

    assert len(replay) == 1
    drawn = replay.sample(1, np.random.default_rng(0), teach=False)
    assert drawn.seen.choices.kind[0, 0] == pytest.approx(0.2)
    assert drawn.states.choices.kind[drawn.following[0], 0] == pytest.approx(0.3)


def test_the_teacher_is_best_fit() -> None:
    """It points at the allowed node with the least left over, of those with enough."""
    replay = TickReplay(capacity=500)
    replay.add(rollouts(3))

    drawn = replay.sample(16, np.random.default_rng(0), teach=True)

    assert drawn.teacher is not None
    left = np.where(drawn.allowed, drawn.seen.choices.pair[:, :, LEFT_OVER], np.inf)
    enough = np.where(left >= 0, left, np.inf)
    some = np.isfinite(enough).any(axis=1)
    assert some.any()
    np.testing.assert_array_equal(enough[some, drawn.teacher[some]], enough[some].min(axis=1))


def test_a_batch_is_of_fleets_of_one_size_and_every_tick_is_as_likely() -> None:
    """Padding a small fleet to a large one costs time for nothing; sizes are met as often as they are held."""
    runs = [run for seed in range(6) for run in rollouts(seed)]
    nodes = [len(run.ticks[0].graph.node) for run in runs]
    small, large = runs[int(np.argmin(nodes))], runs[int(np.argmax(nodes))]
    sizes = [min(nodes), max(nodes)]
    assert sizes[1] > 2 * sizes[0]
    replay = TickReplay(capacity=500)
    replay.add([small, large])
    steps = [sum(len(tick.chosen) > 0 for tick in (*run.ticks, *([run.after] if run.after else []))) - 1 for run in (small, large)]
    held = steps[0] / sum(steps)

    widths = [replay.sample(2, np.random.default_rng(k), teach=False).allowed.shape[1] for k in range(200)]

    assert set(widths) == set(sizes)
    assert np.mean(np.array(widths) == sizes[0]) == pytest.approx(held, abs=0.1)


def test_every_placement_of_a_batch_is_scored_as_its_tick_alone() -> None:
    """Fleets side by side, padded, do not mix: actor and critics give each placement what they give it alone."""
    torch.manual_seed(1)
    actor, critics = PlacementActor(PlacementNetwork(8)), PlacementCritics(8)
    replay = TickReplay(capacity=500)
    replay.add(rollouts(5))
    many = replay.sample(8, np.random.default_rng(2), teach=False)
    first = replay.sample(1, np.random.default_rng(2), teach=False)  # draws the first tick of the eight

    count, width = first.allowed.shape
    torch.testing.assert_close(actor(many.seen)[:count, :width], actor(first.seen), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(critics(many.seen)[:, :count, :width], critics(first.seen), atol=1e-5, rtol=1e-4)


def test_what_is_decided_is_the_beginning_of_all_states() -> None:
    """The critics' step sees the decisions and their fleets alone, and finds there what it would find among all states."""
    torch.manual_seed(1)
    critics = PlacementCritics(8)
    replay = TickReplay(capacity=500)
    replay.add(rollouts(5))

    drawn = replay.sample(8, np.random.default_rng(2), teach=False)

    count = len(drawn.chosen)
    assert drawn.seen.fleets.graphs == 8 < drawn.states.fleets.graphs
    assert len(drawn.states_allowed) == count + 8
    assert int(drawn.following.max()) < len(drawn.states_allowed)
    torch.testing.assert_close(critics(drawn.states)[:, :count], critics(drawn.seen), atol=1e-6, rtol=1e-5)


def test_a_replay_comes_back_from_its_state() -> None:
    """The same steps in the same order: the same batches. Graphs that ticks share are still shared."""
    replay, back = TickReplay(capacity=8), TickReplay(capacity=8)
    replay.add(rollouts(3)[:1])
    state = replay.state()

    back.restore(state)

    drawn, again = (held.sample(6, np.random.default_rng(1), teach=True) for held in (replay, back))
    assert len(back) == len(replay) == 8
    assert len(state["graphs"]["node"]["shapes"]) < 2 * 8
    for name in ("chosen", "reward", "discount", "allowed", "states_allowed", "following", "teacher"):
        assert torch.equal(getattr(drawn, name), getattr(again, name))
    assert torch.equal(drawn.states.choices.pair, again.states.choices.pair)
    assert torch.equal(drawn.states.fleets.node, again.states.fleets.node)


def test_the_shipped_network_places_better_than_chance() -> None:
    """On episodes of the test seeds its reward is above that of any node that fits, with the whole 95 % interval."""
    network = load_checkpoint(shipped_path("gnn-sac"), "gnn-sac").network
    episodes = [draw_be_episode(seed, Curriculum(episode_s=30.0)) for seed in TEST[:36]]
    gains = [advantage(run_be_episode(e, Placing(network)), run_be_episode(e, at_random())) for e in episodes]

    gain, margin = paired(np.array(gains), np.zeros(len(gains)))

    assert gain - margin > 0


def test_the_shipped_network_decides_under_its_own_name_and_no_other() -> None:
    """The policy names itself in its plans, and its file is not taken for that of `dcg-be`."""
    pending, snapshot = be_world(4)

    plan = NetworkBePolicy("gnn-sac", "", fallback=place_load_greedy)(pending, snapshot, BeSettings())

    assert (plan.policy, plan.fallback_reason) == ("gnn-sac", "")
    with pytest.raises(CheckpointError, match="of policy 'gnn-sac', expected one of 'dcg-be'"):
        load_checkpoint(shipped_path("gnn-sac"))
