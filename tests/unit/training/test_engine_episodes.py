"""Episodes of BE placement on the engine: drawn by one seed, judged fairly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tango.fleets import load_fleet
from tango.learning.features import PAIR_FEATURES
from tango.learning.network import PlacementNetwork
from tango.training import engine_episodes
from tango.training.be_rollouts import Placing, Recorder
from tango.training.curriculum import Curriculum
from tango.training.engine_episodes import (
    EpisodeOutcome,
    accrued,
    advantage,
    advantage_by_interval,
    draw_be_episode,
    outcome_of,
    run_be_episode,
    simulate_be_episode,
)
from tango.training.evolution_learner import evolving, flat, put_flat
from tango.training.imitation import imitate
from tango.training.teacher import LEFT_OVER, best_fit


def _short(**given: object) -> Curriculum:
    return Curriculum(episode_s=12.0, **given)  # type: ignore[arg-type]


def test_a_seed_draws_all_of_an_episode() -> None:
    """Equal seeds, equal episodes; other seeds, other fleets and loads."""
    assert draw_be_episode(7, _short()) == draw_be_episode(7, _short())
    episodes = [draw_be_episode(seed, _short()) for seed in range(12)]
    assert len({e.workload.load for e in episodes}) == 12
    assert len({len(e.fleet.clusters) for e in episodes}) > 4
    assert {e.settings.sim.beta for e in episodes} == {0.0, 0.3, 1.0}


def test_every_drawn_pod_fits_some_node() -> None:
    """Sizes are drawn so that nothing waits for ever: beside LC a node of the smallest machine has space for any of them."""
    for seed in range(40):
        fleet = draw_be_episode(seed, _short()).fleet
        lc = [s for s in fleet.services if s.target_ms]
        node = max((n for c in fleet.clusters for n in c.nodes), key=lambda n: n.memory_mib)
        for service in (s for s in fleet.services if not s.target_ms):
            assert service.cpu_request_millicores <= node.cpu_millicores - sum(s.cpu_request_millicores for s in lc)
            assert service.memory_mib <= node.memory_mib - sum(s.instance_memory_mib for s in lc)


def test_named_fleets_and_patterns_are_met() -> None:
    """What a training names is what it is played on."""
    curriculum = _short(fleets=(load_fleet("testbed"),), drawn_share=0.0, patterns=("p2",), loads=(0.9, 0.9))
    episode = draw_be_episode(3, curriculum)
    assert (episode.fleet.name, episode.workload.lc, episode.workload.be, episode.workload.load) == (
        "testbed",
        ("p2",),
        ("p2",),
        0.9,
    )


def test_what_one_has_over_the_other_is_what_the_other_lacks() -> None:
    """More BE work, fewer misses and less waste count for a policy, in one unit."""
    base = EpisodeOutcome(be_cpu_seconds_per_s=100.0, missed=0.01, wasted_per_s=1.0, ticks=9)
    more = EpisodeOutcome(be_cpu_seconds_per_s=101.0, missed=0.01, wasted_per_s=1.0, ticks=9)
    late = EpisodeOutcome(be_cpu_seconds_per_s=100.0, missed=0.02, wasted_per_s=1.0, ticks=9)
    waste = EpisodeOutcome(be_cpu_seconds_per_s=100.0, missed=0.01, wasted_per_s=2.0, ticks=9)
    assert advantage(more, base) == pytest.approx(1.0, rel=0.01)
    assert advantage(base, more) == -advantage(more, base)
    assert advantage(late, base) == pytest.approx(-1.0)
    assert advantage(waste, base) == pytest.approx(-0.1)


@pytest.mark.parametrize("seed", [3, 11])
def test_the_rewards_of_ticks_add_up_to_that_of_the_run(seed: int) -> None:
    """Learners by ticks and by runs learn for the same reward: however a run is cut into intervals, the parts are the whole."""
    episode = draw_be_episode(seed, Curriculum(episode_s=20.0, loads=(1.2, 1.2)))
    torch.manual_seed(seed)
    own, other = (
        simulate_be_episode(episode, policy) for policy in (Recorder(PlacementNetwork(4), np.random.default_rng(1)), None)
    )
    whole = advantage(outcome_of(own), outcome_of(other))

    for instants in ([0.0, 20.0], [0.0, 1.5, 2.0, 7.25, 19.0, 20.0], np.linspace(0.0, 20.0, 41)):
        parts = advantage_by_interval(accrued(own, np.array(instants)), accrued(other, np.array(instants)))
        assert len(parts) == len(instants) - 1
        assert parts.sum() == pytest.approx(whole, abs=1e-9)
    assert abs(whole) > 0.1


def test_work_misses_and_waste_accrue_when_they_come_about() -> None:
    """Nothing before the window, all of it after, and never less than before."""
    run = simulate_be_episode(draw_be_episode(4, Curriculum(episode_s=20.0, loads=(1.2, 1.2))), None)
    found = accrued(run, np.array([0.0, 2.0, 6.0, 12.0, 20.0, 500.0]))
    outcome = outcome_of(run)

    for series, total in (
        (found.be_cpu_seconds_per_s, outcome.be_cpu_seconds_per_s),
        (found.missed, outcome.missed),
        (found.wasted_per_s, outcome.wasted_per_s),
    ):
        assert (np.diff(series) >= 0).all()
        assert series[0] == 0.0
        assert series[-2] == series[-1] == pytest.approx(total)
    assert found.be_cpu_seconds_per_s[1] == 0.0
    assert 0.0 < found.be_cpu_seconds_per_s[2] < found.be_cpu_seconds_per_s[3]


def test_an_episode_is_the_same_each_time_and_a_policy_changes_it() -> None:
    """Bit for bit, also with a network that remembers what LC took."""
    torch.manual_seed(1)
    network = PlacementNetwork(4)
    episode = draw_be_episode(5, _short())
    greedy = run_be_episode(episode, None)
    own = [run_be_episode(episode, Placing(network)) for _ in range(2)]
    assert own[0] == own[1] != greedy
    assert greedy.ticks > 0
    assert greedy.be_cpu_seconds_per_s > 0


def test_the_teacher_takes_the_fullest_node_with_space_and_else_the_least_lacking() -> None:
    """Three nodes: with much left, with little left, and with less than nothing."""
    pair = torch.zeros((2, 3, len(PAIR_FEATURES)))
    pair[0, :, LEFT_OVER] = torch.tensor([1.5, 0.2, -0.1])
    pair[1, :, LEFT_OVER] = torch.tensor([-2.0, -0.3, -0.9])
    everywhere = torch.ones((2, 3), dtype=torch.bool)
    assert best_fit(pair, everywhere).tolist() == [1, 1]
    assert best_fit(pair, torch.tensor([[True, False, True], [True, False, True]])).tolist() == [0, 2]


def test_imitation_brings_a_network_to_its_teacher() -> None:
    """On ticks of a run, more and more choices are the teacher's."""
    torch.manual_seed(2)
    network = PlacementNetwork(16)
    recorder = Recorder(network, np.random.default_rng(1))
    run_be_episode(draw_be_episode(3, _short()), recorder)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = imitate(network, optimizer, recorder.ticks, 1, np.random.default_rng(0))["as_teacher"]
    imitate(network, optimizer, recorder.ticks, 150, np.random.default_rng(1))
    after = imitate(network, optimizer, recorder.ticks, 1, np.random.default_rng(0))["as_teacher"]
    assert after > before + 0.2


def test_only_the_actor_evolves_unless_asked() -> None:
    """And what is written into a network is what is read from it."""
    network = PlacementNetwork(4)
    assert all(name.startswith("actor") for name in evolving(network, encoder=False))
    names = evolving(network, encoder=True)
    assert not any(name.startswith("critic") for name in names)
    assert any(name.startswith("node_in") for name in names)
    weights = np.arange(len(flat(network, names)), dtype=np.float32)
    put_flat(network, names, weights)
    assert np.array_equal(flat(network, names), weights)


def test_work_that_is_spread_evenly_is_summed_up_as_one_by_one() -> None:
    """By its definition, at every instant; works without length are done at their end, at the very instant too."""
    rng = np.random.default_rng(4)
    began_s, work_s = rng.uniform(10.0, 90.0, 300), rng.uniform(0.1, 9.0, 300)
    ended_s = began_s + np.where(rng.uniform(size=300) < 0.2, 0.0, rng.uniform(0.0, 40.0, 300))
    at_s = np.sort(np.concatenate((rng.uniform(0.0, 140.0, 60), ended_s[:20])))

    found = engine_episodes._spread_up_to(at_s, work_s, began_s, ended_s)

    def done(at: float, k: int) -> float:
        if ended_s[k] == began_s[k]:
            return float(work_s[k]) * (at >= ended_s[k])
        return float(work_s[k]) * min(1.0, max(0.0, (at - began_s[k]) / (ended_s[k] - began_s[k])))

    np.testing.assert_allclose(found, [sum(done(at, k) for k in range(300)) for at in at_s.tolist()], rtol=1e-9, atol=1e-9)
    assert engine_episodes._spread_up_to(at_s, work_s[:0], began_s[:0], ended_s[:0]).tolist() == [0.0] * len(at_s)
