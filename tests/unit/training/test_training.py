"""Training: the worlds conserve work, the advantages are right, and the shipped network is better than chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from tango.learning.checkpoint import load_checkpoint
from tango.learning.network import PlacementNetwork, batch_graphs
from tango.learning.shipped import shipped_path
from tango.training.a2c import A2cSettings, advantages, decisions, update
from tango.training.curriculum import Curriculum
from tango.training.devices import moved
from tango.training.evaluation import TEST_SEEDS, at_random, by_network, evaluate
from tango.training.learner import paired
from tango.training.rollouts import play, units_of
from tango.training.worlds import TICK_S, World, draw_world


def test_a_world_never_does_more_than_its_cpu_and_counts_what_it_holds() -> None:
    """BE work done in a tick is at most the fleet's CPU; when all pods have ended, nothing is held."""
    rng = np.random.default_rng(5)
    world = World(draw_world(rng), rng)
    for tick in range(400):
        node = np.full(world.pending_count, -1, np.int32)
        if tick < 40:
            node[:] = rng.integers(0, len(world.spec.cpu_cores), world.pending_count)
        done, missed, arrivals = world.step(node)
        assert 0 <= done <= world.spec.cpu_cores.sum() * TICK_S + 1e-9
        assert 0 <= missed <= arrivals + 2000
    held = world.snapshot()
    assert held.be_pods.sum() == 0
    assert abs(held.be_cpu_request.sum()) < 1e-6


def test_the_same_seed_gives_the_same_world() -> None:
    """Arrivals do not depend on what the policy did, so twins see the same input."""
    done = []
    for _ in range(2):
        rng = np.random.default_rng(9)
        world = World(draw_world(rng), rng)
        done.append([world.step(np.zeros(world.pending_count, np.int32)) for _ in range(30)])
    assert done[0] == done[1]


def test_be_requests_come_in_waves_where_the_world_has_them() -> None:
    """At the wave's crest there are many times those at its trough; without waves about as many."""
    spec = replace(draw_world(np.random.default_rng(2)), lc_period_s=8.0, lc_burst=0.0)
    spec = replace(spec, lc_swing=np.zeros(len(spec.cpu_cores)), be_rate=np.full(len(spec.be_rate), 2.0))

    def came(swing: float, at_s: float) -> int:
        counts = 0
        for seed in range(40):
            world = World(replace(spec, be_swing=swing), np.random.default_rng(seed))
            world.now_s, before = at_s, world.pending_count
            world.arrive()
            counts += world.pending_count - before
        return counts

    assert came(0.8, 2.0) > 3 * came(0.8, 6.0)
    assert came(0.0, 2.0) < 1.5 * came(0.0, 6.0)


def test_generalised_advantages_equal_their_definition() -> None:
    """Sum of discounted temporal differences, written out."""
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(3, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)
    last = rng.normal(size=3).astype(np.float32)
    settings = A2cSettings(discount=0.9, gae=0.8)
    gained, returns = advantages(rewards, values, last, settings)
    following = np.concatenate((values[:, 1:], last[:, None]), axis=1)
    delta = rewards + 0.9 * following - values
    for t in range(5):
        wanted = sum((0.9 * 0.8) ** k * delta[:, t + k] for k in range(5 - t))
        np.testing.assert_allclose(gained[:, t], wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(returns, gained + values, rtol=1e-6)


def test_imitation_brings_a_fresh_network_to_its_teacher() -> None:
    """Thirty updates on worlds that are new each time lower the loss against load-greedy's choices well below that of an even choice."""
    torch.manual_seed(0)
    network = PlacementNetwork(16)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
    ratios = []
    for k in range(30):
        played = [play(unit) for unit in units_of(Curriculum(), range(4 * k, 4 * k + 4), network, ticks=20)]
        ticks, last = [world for unit in played for world in unit.ticks], np.concatenate([unit.last for unit in played])
        found = decisions([tick for world in ticks for tick in world])
        assert found is not None
        even = float(found[3].sum(1).log().mean())  # of the nodes that were allowed
        ratios.append(update(network, optimizer, ticks, last, A2cSettings(), imitate=True)["policy_loss"] / even)
    assert ratios[0] > 0.9  # before the first step: the loss is that of the network as it came
    assert np.mean(ratios[-3:]) < 0.65


def test_the_shipped_network_places_better_than_chance() -> None:
    """On worlds of the test seeds its reward is above that of any node that fits, with the whole 95 % interval."""
    seeds = TEST_SEEDS[:24]
    network = load_checkpoint(shipped_path()).network
    gain, margin = paired(evaluate(by_network(network), seeds).reward, evaluate(at_random(), seeds).reward)
    assert gain - margin > 0


def test_no_tensor_of_an_update_stays_behind_on_the_cpu() -> None:
    """The networks compute on whatever device what they see has been moved to: PyTorch's `meta` stands for a GPU here, without values."""
    network = PlacementNetwork(8)
    [unit] = units_of(Curriculum(), [1, 2], network, ticks=10)
    ticks = [tick for world in play(unit).ticks for tick in world]
    away, batch = network.to("meta"), moved(batch_graphs([tick.graph for tick in ticks]), "meta")
    found = decisions(ticks)
    assert found is not None
    rows, kind, pair, allowed, _, _ = moved(found, "meta")

    node, cluster = away.encode(batch)
    values, logits = away.value(node, cluster, batch), away.scores(node[rows], kind[:, None, :], pair)

    assert (values.device.type, tuple(values.shape)) == ("meta", (20,))
    assert logits.shape == allowed.shape
