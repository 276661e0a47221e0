"""The learners: what they learn in a world whose optimum is known, that their trainings can be resumed, that processes change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tango.domain.seeds import TRAINING
from tango.errors import UsageError
from tango.learning.checkpoint import load_checkpoint
from tango.training.config import TrainingConfig
from tango.training.files import TrainingFiles
from tango.training.learners import LEARNERS, configured, learner_of
from tango.training.loop import Limits, TrainingResult, train

TINY: dict[tuple[str, str], dict[str, Any]] = {
    ("dcg-be", "evolution"): {"episodes": 3, "fleets": ("testbed",)},
    ("dcg-be", "a2c"): {"episodes": 2, "updates": 2, "fleets": ("testbed",)},
    ("gnn-sac", "sac"): {"episodes": 2, "updates": 2},
    ("dsaco", "sac"): {"episodes": 2, "updates": 5, "fleets": ("testbed",), "drawn_share": 0.0},
}
SHORT = (("dcg-be", "evolution"), ("dsaco", "sac"))
"""One for each side of scheduling, where every learner does the same by one function."""
KINDS = pytest.mark.parametrize("kind", list(TINY), ids="-".join)


def _tiny(kind: tuple[str, str], **given: Any) -> TrainingConfig:
    small = {"hidden": 4, "episode_s": 8.0, "validation_episodes": 2, "validate_every": 2, "seed": 5}
    if kind[0] != "dsaco":
        small |= {"imitation": 1, "imitation_updates": 2}
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
    """Stopped after the second iteration of three: the same checkpoint and the same learner's state, bit for bit."""
    _train(_tiny(kind), tmp_path / "whole", 3)

    stopped = _train(_tiny(kind), tmp_path / "parts", 3, stop_after=3)
    _train(_tiny(kind), tmp_path / "parts", 3, resume=True)

    assert (stopped.interrupted, stopped.iterations) == (True, 2)
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


@pytest.mark.parametrize("kind", [pytest.param(k, marks=() if k in SHORT else pytest.mark.long, id="-".join(k)) for k in TINY])
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


def test_all_learners_of_be_placement_begin_alike_and_are_judged_alike(tmp_path: Path) -> None:
    """After imitation they have the same actor and the same score: what they differ in later is what they learn by."""
    kinds = [kind for kind in LEARNERS if kind[0] != "dsaco"]
    learners = [learner_of(_tiny(kind, episodes=2, updates=1, imitation=2, fleets=("testbed",))) for kind in kinds]
    scores = []
    for learner in learners:
        for iteration in range(2):
            learner.step(iteration)
        scores.append(learner.validate(lambda: None))
        learner.save(tmp_path / f"{len(scores)}", {})
        learner.close()

    kept = [load_checkpoint(tmp_path / f"{k + 1}", kind[0]).network for k, kind in enumerate(kinds)]
    assert len(kinds) == 3
    assert scores[0] == scores[1] == scores[2]
    for other in kept[1:]:
        for (name, one), (_, two) in zip(kept[0].named_parameters(), other.named_parameters(), strict=True):
            assert torch.equal(one, two), name


def test_learners_of_be_placement_share_all_that_is_not_of_the_algorithm() -> None:
    """Episodes, warm start and validation are the same by default: none of them is given less."""
    configs = [configured(*kind) for kind in LEARNERS if kind[0] != "dsaco"]
    for name in (
        "episode_s",
        "drawn_share",
        "imitation",
        "imitation_updates",
        "validation_episodes",
        "hidden",
        "loads",
        "patterns",
    ):
        assert len({getattr(config, name) for config in configs}) == 1, name


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
    with pytest.raises(UsageError, match="dcg-be by a2c has no option temperature, expected some of discount_per_s"):
        learner_of(_tiny(("dcg-be", "a2c"), options={"temperature": 1.0}))
    with pytest.raises(UsageError, match="option gae is 'much', expected a number"):
        learner_of(_tiny(("dcg-be", "a2c"), options={"gae": "much"}))
