"""The loop around a learner: what is kept, what a resumption gives, what a training that is killed leaves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from tango.errors import CheckpointError, UsageError
from tango.training.config import TrainingConfig
from tango.training.files import TrainingFiles
from tango.training.learner import ENV_STEPS, Score
from tango.training.loop import Limits, Nobody, TrainingResult, train


class Walker:
    """A learner whose network is one number that takes a random step an iteration; the smaller its distance to 3 the better."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self.at = torch.zeros(1, dtype=torch.float64)
        self.steps: list[int] = []
        self.judged: list[str] = []

    def step(self, iteration: int) -> Mapping[str, float]:
        """Walk."""
        self.steps.append(iteration)
        self.at += float(np.random.default_rng((self.config.seed, iteration)).normal())
        return {ENV_STEPS: 10, "loss": float("nan") if iteration == 0 else 1.0}

    def validate_yardstick(self, done_one: Callable[[], None]) -> None:
        """Run the yardstick."""
        self.judged.append("yardstick")

    def validate(self, done_one: Callable[[], None]) -> Score:
        """Judge, in three episodes."""
        self.judged.append("network")
        for _ in range(3):
            done_one()
        gain = -abs(float(self.at) - 3.0)
        return Score(score=gain, gain=gain, margin=0.5, reference="standing", figures={"extra": 1.0})

    def save(self, path: Path, trained: Mapping[str, Any]) -> str:
        """Keep."""
        text = json.dumps({"at": float(self.at), "trained": trained}, sort_keys=True)
        path.write_text(text)
        return hashlib.sha256(text.encode()).hexdigest()

    def state(self) -> dict[str, Any]:
        """Where it stands."""
        return {"at": self.at.clone()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand there again."""
        self.at = state["at"].clone()

    def close(self) -> None:
        """Nothing."""


def _config(**given: Any) -> TrainingConfig:
    return TrainingConfig(**{"policy": "walk", "algorithm": "chance", "seed": 4, "validate_every": 3, **given})


def _train(out: Path, iterations: int, **given: Any) -> TrainingResult:
    stop_at = given.pop("stop_at", None)
    learner = Walker(given.pop("config", _config()))
    given.setdefault("stop", lambda: len(learner.steps) == stop_at)
    return train(learner, learner.config, TrainingFiles(out=out), Limits(iterations=iterations), **given)


def test_the_state_that_validates_best_is_kept(tmp_path: Path) -> None:
    """The checkpoint is that of the highest gain among all validations, and says all of its training."""
    result = _train(tmp_path / "w", 10)

    rows = TrainingFiles(out=tmp_path / "w").rows()
    gains = {row["iteration"]: row["validation_gain"] for row in rows if row["kind"] == "validation"}
    assert list(gains) == [3, 6, 9, 10]
    best = max(gains, key=gains.__getitem__)
    kept = json.loads((tmp_path / "w").read_text())
    assert result.best["iteration"] == kept["trained"]["iterations"] == best
    assert kept["at"] == pytest.approx(3.0 + gains[best]) or kept["at"] == pytest.approx(3.0 - gains[best])
    assert kept["trained"]["config"] == _config().recipe()
    assert kept["trained"]["env_steps"] == 10 * best
    assert kept["trained"]["validation_gain"] == gains[best]


@pytest.mark.parametrize("stop_at", [1, 3, 5, 9])
def test_an_interrupted_training_goes_on_to_the_same_files(tmp_path: Path, stop_at: int) -> None:
    """Whenever it was stopped: the same checkpoint, bit for bit, and the same curve but for the clock's figures."""
    _train(tmp_path / "whole", 10)

    stopped = _train(tmp_path / "parts", 10, stop_at=stop_at)
    result = _train(tmp_path / "parts", 10, resume=True)

    assert stopped.interrupted
    assert not result.interrupted
    assert stopped.iterations == stop_at
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert _untimed(tmp_path / "parts") == _untimed(tmp_path / "whole")


def _untimed(out: Path) -> list[dict[str, Any]]:
    clock = ("wall_s", "cpu_s", "env_steps_per_s_per_core")
    return [{name: value for name, value in row.items() if name not in clock} for row in TrainingFiles(out=out).rows()]


def test_a_training_that_dies_goes_on_from_its_last_state(tmp_path: Path) -> None:
    """Iterations after the state are trained again, and their rows stand once in the curve, though the last of them was cut off."""
    _train(tmp_path / "whole", 8)
    files = TrainingFiles(out=tmp_path / "parts")
    _train(files.out, 8, stop_at=4)
    kept = files.state.read_bytes()
    _train(files.out, 8, stop_at=3, resume=True)
    files.state.write_bytes(kept)
    with files.curve.open("a") as file:
        file.write('{"kind":"iter')

    _train(files.out, 8, resume=True)

    assert _untimed(files.out) == _untimed(tmp_path / "whole")
    assert files.out.read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_finished_training_can_be_made_longer(tmp_path: Path) -> None:
    """Six iterations and then four more walk as ten do."""
    _train(tmp_path / "whole", 10)
    _train(tmp_path / "parts", 6)
    _train(tmp_path / "parts", 10, resume=True)

    states = [TrainingFiles(out=tmp_path / name).read_state() for name in ("whole", "parts")]
    assert torch.equal(states[0]["learner"]["at"], states[1]["learner"]["at"])


def test_a_training_ends_by_the_clock_over_all_its_parts(tmp_path: Path) -> None:
    """The last validation and what the policy beside it comes to included: it ends within the minutes that were given, of which it uses
    all that is enough for another iteration with a validation; resumed for as much more, it does more."""
    now = iter(range(0, 10**6, 5))  # every look at the clock takes five seconds
    learners = []

    def run(minutes: float, resume: bool) -> TrainingResult:
        learner = Walker(_config(validate_every=100))
        learners.append(learner)
        limits = Limits(minutes=minutes)
        return train(
            learner,
            _config(validate_every=100),
            TrainingFiles(out=tmp_path / "w"),
            limits,
            resume=resume,
            clock_s=lambda: next(now),
        )

    first, second = run(2.0, False), run(4.0, True)

    assert 60 < first.total_s <= 120
    assert 180 < second.total_s <= 240
    assert second.iterations > first.iterations > 0
    assert learners[0].judged == ["yardstick", "network"]


def test_a_clock_too_short_for_a_validation_still_gives_a_network(tmp_path: Path) -> None:
    """One iteration and one validation, whatever they take."""
    learner, now = Walker(_config()), iter(range(0, 10**6, 10))

    result = train(
        learner, _config(), TrainingFiles(out=tmp_path / "w"), Limits(minutes=0.01), clock_s=lambda: next(now)
    )  # fmt: skip

    assert (result.iterations, learner.judged) == (1, ["yardstick", "network"])
    assert (tmp_path / "w").exists()


def test_who_looks_on_is_told_of_each_episode_of_a_validation(tmp_path: Path) -> None:
    """From none to all, before the result."""
    told: list[Any] = []

    class Looking(Nobody):
        def validating(self, done: int) -> None:
            told.append(done)

        def validated(self, row: Mapping[str, Any], *, best: bool) -> None:
            told.append(best)

    _train(tmp_path / "w", 3, watch=Looking())

    assert told == [0, 1, 2, 3, True]


def test_a_resumption_with_another_configuration_is_refused(tmp_path: Path) -> None:
    """It names what differs; the number of processes may differ."""
    _train(tmp_path / "w", 3)

    with pytest.raises(UsageError, match="seed was 4 and is 5"):
        _train(tmp_path / "w", 6, resume=True, config=_config(seed=5))
    assert _train(tmp_path / "w", 6, resume=True, config=_config(jobs=2)).iterations == 6


def test_a_resumption_without_a_usable_state_is_refused(tmp_path: Path) -> None:
    """Missing, damaged, or of something else."""
    files = TrainingFiles(out=tmp_path / "w")
    with pytest.raises(UsageError, match="start the training without --resume"):
        files.read_state()
    files.state.write_bytes(b"no state")
    with pytest.raises(CheckpointError, match="is damaged"):
        files.read_state()
    torch.save({"state_format": 0}, files.state)
    with pytest.raises(CheckpointError, match="no state of a training"):
        files.read_state()


def test_a_state_of_networks_of_another_shape_is_refused(tmp_path: Path) -> None:
    """As after a change of features; the message says why and what to do."""
    _train(tmp_path / "w", 3)
    files = TrainingFiles(out=tmp_path / "w")
    state = files.read_state()
    files.write_state({**state, "learner": {"elsewhere": torch.zeros(3)}})

    with pytest.raises(CheckpointError, match="does not fit this version"):
        _train(files.out, 6, resume=True)


def test_a_state_holds_no_code(tmp_path: Path) -> None:
    """It is read as tensors and plain containers; a file with anything else is damaged."""
    files = TrainingFiles(out=tmp_path / "w")
    torch.save({"state_format": 1, "learner": Path("x")}, files.state)

    with pytest.raises(CheckpointError, match="is damaged"):
        files.read_state()


def test_the_curve_is_whole_and_drawn(tmp_path: Path) -> None:
    """Every line is JSON without NaN, an iteration or a validation; the picture is well-formed and names its reference."""
    _train(tmp_path / "w", 7)

    files = TrainingFiles(out=tmp_path / "w")
    rows = [json.loads(line) for line in files.curve.read_text().splitlines()]
    assert [row["iteration"] for row in rows if row["kind"] == "iteration"] == list(range(1, 8))
    assert [row["env_steps"] for row in rows if row["kind"] == "iteration"] == [10 * k for k in range(1, 8)]
    assert rows[0]["loss"] is None
    assert {"wall_s", "env_steps_per_s_per_core", "loss"} <= set(rows[1])
    assert {"validation_gain", "validation_margin", "validation_reference", "best", "extra"} <= set(rows[3])
    ElementTree.fromstring(files.picture.read_text())
    assert "standing" in files.picture.read_text()


def test_another_training_is_not_written_over(tmp_path: Path) -> None:
    """Any of its files in the way is named."""
    files = TrainingFiles(out=tmp_path / "w")
    files.require_new()
    files.state.write_bytes(b"")

    with pytest.raises(UsageError, match=r"w\.state exists; go on with that training by --resume"):
        files.require_new()


def test_two_trainings_do_not_write_the_same_files(tmp_path: Path) -> None:
    """The second one is refused as long as the first is under way; nothing is left of the guard."""
    files, others = TrainingFiles(out=tmp_path / "w"), TrainingFiles(out=tmp_path / "v")
    with files.alone(), others.alone(), pytest.raises(UsageError, match=r"another training is writing .*w; wait"), files.alone():
        pass
    with files.alone():
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [{}, {"iterations": 0}, {"steps": 100, "cpu_minutes": 0.0}])
def test_a_training_has_a_limit(given: dict[str, Any]) -> None:
    """None, and nothing to do, are refused."""
    with pytest.raises(UsageError, match="expected a limit of the training, above 0"):
        Limits(**given)


@pytest.mark.parametrize(
    ("limits", "iterations"),
    [
        ({"steps": 45}, 5),  # ten steps an iteration
        ({"cpu_minutes": 0.5}, 3),  # ten CPU-seconds an iteration
        ({"steps": 45, "cpu_minutes": 0.5}, 3),
        ({"steps": 15, "cpu_minutes": 0.5, "iterations": 9}, 2),
    ],
)
def test_a_budget_of_steps_and_cpu_time_ends_by_what_is_used_up_first(
    tmp_path: Path, limits: dict[str, Any], iterations: int
) -> None:
    """Also over a resumption; the checkpoint says what the budget was."""
    config, files = _config(validate_every=100), TrainingFiles(out=tmp_path / "w")

    def run(**given: Any) -> TrainingResult:
        now = iter(range(0, 10**6, 10))
        learner = Walker(config)
        return train(learner, config, files, Limits(**limits), cpu_clock_s=lambda: next(now), **given)

    asked = iter((False, True))
    stopped = run(stop=lambda: next(asked))
    result = run(resume=True)

    assert (stopped.iterations, result.iterations) == (1, iterations)
    assert (result.env_steps, result.cpu_s) == (10 * iterations, 10.0 * iterations)
    assert json.loads(files.out.read_text())["trained"]["budget"] == limits
    assert [row["budget_used"] >= 1 for row in files.rows() if row["kind"] == "iteration"] == [False] * (iterations - 1) + [True]
