"""Training of `gnn-sac`: how placements follow one another, that it can be repeated, and that what is shipped is worth having."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tango.errors import CheckpointError
from tango.learning.checkpoint import load_checkpoint
from tango.learning.network import PlacementNetwork
from tango.learning.policy import NetworkBePolicy
from tango.learning.shipped import shipped_path
from tango.scheduling.be_policies import place_load_greedy
from tango.settings import BeSettings
from tango.training.a2c import REWARD_SCALE
from tango.training.be_agent import PlacementActor, PlacementCritics, TickReplay
from tango.training.curriculum import Curriculum
from tango.training.evaluation import TEST_SEEDS, at_random, by_network, evaluate
from tango.training.learner import paired
from tango.training.rollouts import Tick, play, units_of
from tests.fakes.be_worlds import be_world


def _ticks(count: int) -> list[Tick]:
    """Ticks of one world, the first of an episode first."""
    torch.manual_seed(0)
    [unit] = units_of(Curriculum(), [3], PlacementNetwork(8), ticks=count)
    return play(unit).ticks[0]


def _with(tick: Tick, placements: int, *, reward: float, begins: bool = False) -> Tick:
    """The tick with so many placements, all on node 0, and a reward."""
    nodes = len(tick.graph.node)
    return replace(
        tick,
        kind=np.full((placements, 3), reward, np.float32),
        pair=np.zeros((placements, nodes, 6), np.float32),
        allowed=np.ones((placements, nodes), np.bool_),
        chosen=np.zeros(placements, np.int32),
        reward=reward,
        begins=begins,
    )


def test_placements_follow_one_another_within_a_tick_and_into_the_next_that_has_any() -> None:
    """Three placements, a tick without, one placement: chained at discount 1, 1 and 0.9 squared, the empty tick's reward counted in."""
    base = _ticks(1)[0]
    replay = TickReplay(room=10, discount=0.9)

    replay.add([[_with(base, 3, reward=0.3, begins=True), _with(base, 0, reward=0.1), _with(base, 1, reward=0.5)]])
    drawn = replay.sample(1, np.random.default_rng(0), teach=False)

    assert len(replay) == 1
    np.testing.assert_allclose(drawn.discount, [1.0, 1.0, 0.81], rtol=1e-6)
    np.testing.assert_allclose(drawn.reward, np.full(3, (0.3 + 0.9 * 0.1) * REWARD_SCALE / 3), rtol=1e-5)
    np.testing.assert_allclose(drawn.seen_next.kind[:, 0], [0.3, 0.3, 0.5], rtol=1e-6)
    assert drawn.seen_next.fleet.tolist() == [0, 0, 1]


def test_an_episode_that_ends_leaves_its_last_placements_out() -> None:
    """What begins anew is not what followed."""
    base = _ticks(1)[0]
    replay = TickReplay(room=10, discount=0.9)

    replay.add([[_with(base, 1, reward=0.1, begins=True), _with(base, 1, reward=0.2, begins=True), _with(base, 1, reward=0.3)]])

    assert len(replay) == 1
    assert replay.sample(1, np.random.default_rng(0), teach=False).seen.kind[0, 0] == pytest.approx(0.2)


def test_placements_that_were_not_made_are_no_decisions() -> None:
    """Of two requests one fits nowhere: the tick has one decision, which chose what was allowed."""
    ticks = [_with(tick, 2, reward=0.0, begins=k == 0) for k, tick in enumerate(_ticks(2))]
    ticks[0].chosen[0] = -1
    ticks[0].allowed[0] = False
    replay = TickReplay(room=10, discount=0.9)

    replay.add([ticks])
    drawn = replay.sample(1, np.random.default_rng(0), teach=False)

    assert len(drawn.chosen) == 1
    assert drawn.allowed[0, drawn.chosen[0]]
    assert drawn.allowed_next.any(1).all()


def test_the_teacher_is_load_greedy() -> None:
    """It points at the allowed node with the least BE for what LC leaves."""
    replay = TickReplay(room=500, discount=0.9)
    replay.add([_ticks(30)])

    drawn = replay.sample(16, np.random.default_rng(0), teach=True)

    assert drawn.teacher is not None
    crowd = np.where(drawn.allowed, drawn.seen.pair[:, :, 0], np.inf)
    np.testing.assert_array_equal(crowd[np.arange(len(crowd)), drawn.teacher], crowd.min(axis=1))


def test_every_placement_of_a_batch_is_scored_as_its_tick_alone() -> None:
    """Fleets side by side, padded, do not mix: actor and critics give each placement what they give it alone."""
    torch.manual_seed(1)
    actor, critics = PlacementActor(PlacementNetwork(8)), PlacementCritics(8)
    replay = TickReplay(room=500, discount=0.9)
    [unit] = units_of(Curriculum(), [5, 6], PlacementNetwork(8), ticks=12)
    replay.add(play(unit).ticks)
    many = replay.sample(8, np.random.default_rng(2), teach=False)
    first = replay.sample(1, np.random.default_rng(2), teach=False)  # draws the first tick of the eight

    count, width = first.allowed.shape
    torch.testing.assert_close(actor(many.seen)[:count, :width], actor(first.seen), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(critics(many.seen)[:, :count, :width], critics(first.seen), atol=1e-5, rtol=1e-4)


def test_a_replay_comes_back_from_its_state() -> None:
    """The same steps in the same order: the same batches. Graphs that ticks share are still shared."""
    replay, back = TickReplay(room=12, discount=0.9), TickReplay(room=12, discount=0.9)
    replay.add([_ticks(20)])
    state = replay.state()

    back.restore(state)

    drawn, again = (held.sample(6, np.random.default_rng(1), teach=True) for held in (replay, back))
    assert len(back) == len(replay) == 12
    assert len(state["graphs"]["node"]["shapes"]) < 2 * 12
    for name in ("chosen", "reward", "discount", "allowed", "allowed_next", "teacher"):
        assert torch.equal(getattr(drawn, name), getattr(again, name))
    assert torch.equal(drawn.seen.pair, again.seen.pair)
    assert torch.equal(drawn.seen_next.fleets.node, again.seen_next.fleets.node)


def test_the_shipped_network_places_better_than_chance() -> None:
    """On worlds of the test seeds its reward is above that of any node that fits, with the whole 95 % interval."""
    seeds = TEST_SEEDS[:24]
    network = load_checkpoint(shipped_path("gnn-sac"), "gnn-sac").network
    gain, margin = paired(evaluate(by_network(network), seeds).reward, evaluate(at_random(), seeds).reward)
    assert gain - margin > 0


def test_the_shipped_network_decides_under_its_own_name_and_no_other() -> None:
    """The policy names itself in its plans, and its file is not taken for that of `dcg-be`."""
    pending, snapshot = be_world(4)

    plan = NetworkBePolicy("gnn-sac", "", fallback=place_load_greedy)(pending, snapshot, BeSettings())

    assert (plan.policy, plan.fallback_reason) == ("gnn-sac", "")
    with pytest.raises(CheckpointError, match="of policy 'gnn-sac', expected one of 'dcg-be'"):
        load_checkpoint(shipped_path("gnn-sac"))
