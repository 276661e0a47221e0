"""The learners: what they learn in a world whose optimum is known, that their trainings can be resumed, that processes change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tango.domain.seeds import TRAINING
from tango.errors import UsageError
from tango.learning.policy import place_by_network
from tango.training.a2c_learner import A2cLearner
from tango.training.config import TrainingConfig
from tango.training.curriculum import MOST_NODES, Curriculum, curriculum_of, draw_spec
from tango.training.files import TrainingFiles
from tango.training.learners import LEARNERS, configured, learner_of
from tango.training.loop import Limits, TrainingResult, train
from tango.training.worlds import World, WorldSpec

TINY: dict[tuple[str, str], dict[str, Any]] = {
    ("dcg-be", "evolution"): {"episodes": 3, "updates": 2, "imitation": 1, "episode_s": 8.0, "fleets": ("testbed",)},
    ("dcg-be", "a2c"): {"episodes": 3, "imitation": 1},
    ("gnn-sac", "sac"): {"episodes": 3, "updates": 2, "imitation": 1, "episode_s": 8.0},
    ("dsaco", "sac"): {"episodes": 2, "updates": 5, "fleets": ("testbed",), "drawn_share": 0.0},
}
KINDS = pytest.mark.parametrize("kind", list(TINY), ids="-".join)


def _tiny(kind: tuple[str, str], **given: Any) -> TrainingConfig:
    small = {"hidden": 4, "episode_s": 4.0, "validation_episodes": 2, "validate_every": 2, "seed": 5}
    return configured(*kind, **{**small, **TINY[kind], **given})


def _train(config: TrainingConfig, out: Path, iterations: int, *, stop_after: int = 0, resume: bool = False) -> TrainingResult:
    learner = learner_of(config)
    files = TrainingFiles(out=out)
    asked = iter(range(10**6))
    try:
        # Asked before each step and each validation: both count here.
        stop = (lambda: next(asked) == stop_after) if stop_after else (lambda: False)
        return train(learner, config, files, Limits(iterations=iterations), resume=resume, stop=stop)
    finally:
        learner.close()


@KINDS
def test_a_resumed_training_gives_what_an_uninterrupted_one_gives(kind: tuple[str, str], tmp_path: Path) -> None:
    """Stopped after the third iteration of five: the same checkpoint and the same learner's state, bit for bit."""
    _train(_tiny(kind), tmp_path / "whole", 5)

    stopped = _train(_tiny(kind), tmp_path / "parts", 5, stop_after=4)
    _train(_tiny(kind), tmp_path / "parts", 5, resume=True)

    assert (stopped.interrupted, stopped.iterations) == (True, 3)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    states = [TrainingFiles(out=tmp_path / name).read_state()["learner"] for name in ("whole", "parts")]
    _assert_equal(states[0], states[1])


def _assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            _assert_equal(value, other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            _assert_equal(mine, theirs)
    else:
        assert one == other


@KINDS
def test_two_processes_play_what_one_plays(kind: tuple[str, str], tmp_path: Path) -> None:
    """The checkpoint is the same, bit for bit; a resumption may have another number of processes."""
    one = _train(_tiny(kind), tmp_path / "one", 2)
    two = _train(_tiny(kind, jobs=2), tmp_path / "two", 2)

    assert one.best["digest"] == two.best["digest"]
    assert one.env_steps == two.env_steps
    assert _train(_tiny(kind), tmp_path / "two", 3, resume=True).iterations == 3


@KINDS
def test_trainings_of_equal_seeds_are_equal_and_of_others_not(kind: tuple[str, str], tmp_path: Path) -> None:
    """The whole file, digest and all."""
    digests = [_train(_tiny(kind, seed=seed), tmp_path / name, 2).best["digest"] for name, seed in (("a", 5), ("b", 5), ("c", 6))]

    assert digests[0] == digests[1] != digests[2]


@KINDS
def test_the_seeds_of_a_training_are_those_of_training(kind: tuple[str, str]) -> None:
    """Whatever the seed and the iteration, episodes are drawn below a million; a seed beyond is refused."""
    trained = [_tiny(kind, seed=seed, episodes=50) for seed in (0, 7, 999_999)]
    drawn = np.array([config.episode_seeds(k) for config in trained for k in range(40)])

    assert set(drawn.flat) <= set(TRAINING)
    assert len(np.unique(drawn)) > 0.9 * drawn.size
    assert min(_tiny(kind).validation_seeds) > max(TRAINING)
    with pytest.raises(UsageError, match="seed is 1000000, expected 0 to 999999"):
        _tiny(kind, seed=1_000_000)


def _two_nodes(_curriculum: Curriculum, rng: np.random.Generator) -> WorldSpec:
    """One cluster with two nodes of 8 cores; on one of them, which one is drawn, LC takes all: a BE pod there gets nothing."""
    busy = int(rng.integers(2))
    lc_load = np.full(2, 0.05)
    lc_load[busy] = 1.5
    return WorldSpec(
        node_cluster=np.zeros(2, np.int32),
        cpu_cores=np.full(2, 8.0),
        memory_mib=np.full(2, 65536.0),
        beta=0.0,
        rtt_ms=np.full((1, 1), 0.2),
        lc_load=lc_load,
        lc_limit_cores=np.full(2, 8.0),
        lc_swing=np.zeros(2),
        lc_phase=np.zeros(2),
        lc_period_s=20.0,
        sizes=np.array([[10.0, 1000.0, 16.0]]),  # small enough for the busy node to hold any number
        work_s=np.array([1.0]),
        be_rate=np.array([4.0]),
    )


def _share_on_the_free_node(learner: A2cLearner) -> float:
    """Of all placements in worlds that training has not seen."""
    free = total = 0
    for seed in range(2_500_000, 2_500_006):
        spec = _two_nodes(Curriculum(), np.random.default_rng(seed))
        world = World(spec, np.random.default_rng(seed))
        for _ in range(40):
            node = (
                place_by_network(learner.network, world.pending(), world.snapshot())
                if world.pending_count
                else np.zeros(0, np.int32)
            )
            if world.now_s > 2.0:  # by then LC is there
                free += int((spec.lc_load[node] < 1).sum())
                total += len(node)
            world.step(node)
    return free / total


@pytest.mark.parametrize("seed", [1, 2])
def test_actor_critic_finds_the_one_node_that_gives_be_anything(tmp_path: Path, seed: int) -> None:
    """Without a teacher, and from a network that prefers the busy node: in a few seconds it has learned better."""
    own = {"hidden": 16, "episodes": 4, "episode_s": 10.0, "imitation": 0, "validation_episodes": 4, "horizon": 100}
    config = configured("dcg-be", "a2c", seed=seed, **own, options={"learning_rate": 5e-3})
    learner = A2cLearner(config, draw=_two_nodes)
    if _share_on_the_free_node(learner) > 0.5:  # by chance
        with torch.no_grad():
            learner.network.actor_out.weight.neg_()
    before = _share_on_the_free_node(learner)

    train(learner, config, TrainingFiles(out=tmp_path / "tiny.pt"), Limits(iterations=60))

    assert before < 0.2
    assert _share_on_the_free_node(learner) > 0.98


def test_a_named_fleet_is_met_in_parts_with_its_services() -> None:
    """Of `paper` a few clusters near each other, with its pod sizes; the offered work is within the loads that were asked for."""
    config = configured("dcg-be", "a2c", fleets=("paper",), drawn_share=0.0, loads=(0.8, 0.8))
    curriculum = curriculum_of(config)
    fleet = curriculum.fleets[0]

    for seed in range(6):
        spec = draw_spec(curriculum, np.random.default_rng(seed))
        cpu = spec.cpu_cores.sum()
        offered = (spec.lc_load * spec.cpu_cores).sum() + spec.be_rate.sum() * spec.work_s.mean()
        assert len(spec.cpu_cores) <= MOST_NODES
        assert spec.beta == fleet.beta
        assert set(spec.sizes[:, 1]) <= {s.cpu_limit_millicores for s in fleet.services}
        assert offered / cpu == pytest.approx(0.8, rel=0.05)


def test_patterns_say_which_class_comes_in_waves() -> None:
    """P1: LC; P2: BE; P3: none, both by rates that are redrawn."""
    waves = {}
    for pattern in ("p1", "p2", "p3"):
        spec = draw_spec(Curriculum(patterns=(pattern,)), np.random.default_rng(1))
        waves[pattern] = (bool(spec.lc_swing.any()), spec.be_swing > 0, spec.lc_burst > 0)

    assert waves == {"p1": (True, False, False), "p2": (False, True, True), "p3": (False, False, True)}


def test_a_curriculum_that_names_nothing_is_the_drawn_worlds() -> None:
    """So that validation figures can be compared with those of any other training."""
    from tango.training.worlds import draw_world

    one, other = draw_spec(Curriculum(), np.random.default_rng(3)), draw_world(np.random.default_rng(3))

    np.testing.assert_array_equal(one.cpu_cores, other.cpu_cores)
    np.testing.assert_array_equal(one.be_rate, other.be_rate)


def test_configurations_come_back_from_json() -> None:
    """All of it; what is unknown is refused."""
    for kind in LEARNERS:
        config = _tiny(kind, loads=(0.5, 0.9), patterns=("p1",))
        assert TrainingConfig.from_dict(config.as_dict()) == config
        assert TrainingConfig.from_dict(config.recipe()) == config
    with pytest.raises(UsageError, match="no configuration of a training"):
        TrainingConfig.from_dict({**config.as_dict(), "colour": "red"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"policy": "tango"}, "there is no policy 'tango' that learns, expected one of: dcg-be, gnn-sac, dsaco"),
        ({"algorithm": "ppo"}, "dcg-be does not learn by 'ppo', expected one of: evolution, a2c"),
        ({"patterns": ("p9",)}, "there is no pattern 'p9'"),
        ({"loads": (1.0, 0.5)}, "the lower one first"),
        ({"episodes": 0}, "episodes is 0"),
        ({"validation_episodes": 1}, "it takes an interval"),
        ({"device": "tpu"}, "expected cpu or cuda"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_what_can(given: dict[str, Any], message: str) -> None:
    """Each in its own words."""
    with pytest.raises(UsageError, match=message):
        configured(**{"policy": "dcg-be", "algorithm": None, **given})


def test_options_that_an_algorithm_does_not_have_are_refused() -> None:
    """With those that it has."""
    with pytest.raises(UsageError, match="dcg-be by a2c has no option temperature, expected some of discount"):
        learner_of(_tiny(("dcg-be", "a2c"), options={"temperature": 1.0}))
    with pytest.raises(UsageError, match="option gae is 'much', expected a number"):
        learner_of(_tiny(("dcg-be", "a2c"), options={"gae": "much"}))
