"""The training loop: its budget, validation, what it saves, and how it resumes after an interruption.

A training is interrupted between two iterations only: `stop` is asked there. A kill at any time loses the iterations since the last
state, which the resumed training repeats, bit for bit.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import tango
from tango.errors import CheckpointError, UsageError
from tango.report.learning_curve import learning_curve
from tango.training.config import TrainingConfig
from tango.training.cpu_clock import cpu_s_so_far
from tango.training.files import TrainingFiles
from tango.training.learner import ENV_STEPS, Learner, Score

ITERATION, VALIDATION = "iteration", "validation"
"""Kinds of rows of the curve."""
STATE_EVERY_S = 5.0
STATE_SHARE = 0.05
"""Writing states takes at most about this share of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The budget of a training, counted from its very beginning, over all its resumptions: the first limit reached ends it.

    Trainings of equal `steps` and `cpu_minutes` can be compared whatever they learn by. Raises: UsageError unless one is given.
    """

    iterations: int | None = None
    steps: int | None = None
    """Environment steps: BE ticks of the engine's runs, or LC decisions in them; validation is not counted."""
    cpu_minutes: float | None = None
    """CPU time of all processes; validation is not counted, since how often to validate is no part of learning."""
    minutes: float | None = None
    """Wall time, validation included: the last iteration begins when it, and a validation after it, are expected to end in time. At least
    one of each is done, whatever they take."""

    def __post_init__(self) -> None:
        given = [value for value in asdict(self).values() if value is not None]
        if not given or not all(value > 0 for value in given):
            raise UsageError("expected a limit of the training, above 0: iterations, steps, CPU-minutes or minutes")

    def share(self, *, iterations: int, steps: int, cpu_s: float, total_s: float) -> float:
        """How much of the budget is used, by the limit that is nearest; 1 or more: it is over."""
        used = ((iterations, self.iterations), (steps, self.steps), (cpu_s / 60, self.cpu_minutes), (total_s / 60, self.minutes))
        return max(value / limit for value, limit in used if limit is not None)


class TrainingWatch(Protocol):
    """An observer of a training, called from its loop."""

    def stepped(self, row: Mapping[str, Any]) -> None:
        """An iteration is over; `row` is its row of the learning curve."""
        ...

    def validating(self, done: int) -> None:
        """A validation is under way, and has run so many episodes; of a first one half are those of the policy that it is compared with."""
        ...

    def validated(self, row: Mapping[str, Any], *, best: bool) -> None:
        """The network was validated; `best`: it is the best so far and was saved."""
        ...


class Nobody:
    """An observer that does nothing."""

    def stepped(self, row: Mapping[str, Any]) -> None:
        """Do nothing."""

    def validating(self, done: int) -> None:
        """Do nothing."""

    def validated(self, row: Mapping[str, Any], *, best: bool) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Course:
    """Progress of a training. Steps and iterations follow from the configuration, times do not."""

    iteration: int = 0
    env_steps: int = 0
    core_s: float = 0.0
    """Seconds of training, without validation, times processes."""
    cpu_s: float = 0.0
    """CPU-seconds of training, without validation."""
    total_s: float = 0.0
    """Wall seconds, validation included."""
    validated_at: int = 0
    best: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The result of a training, over all its resumptions."""

    iterations: int
    env_steps: int
    total_s: float
    """Wall seconds, validation included."""
    cpu_s: float
    """CPU-seconds of the iterations, without validation."""
    env_steps_per_s_per_core: float
    """Over the iterations, learning included, validation left out."""
    interrupted: bool
    best: Mapping[str, Any]
    """The validation that was best, with its iteration and the checkpoint's digest; empty where nothing has been validated."""


def train(
    learner: Learner,
    config: TrainingConfig,
    files: TrainingFiles,
    limits: Limits,
    *,
    resume: bool = False,
    watch: TrainingWatch | None = None,
    stop: Callable[[], bool] = lambda: False,
    clock_s: Callable[[], float] = time.monotonic,
    cpu_clock_s: Callable[[], float] = cpu_s_so_far,
) -> TrainingResult:
    """Train until a limit, or until `stop` says so between two iterations; the best network is in `files.out`.

    Raises: UsageError for a resumption without a state or with one of another configuration.
    """
    return _Training(learner, config, files, limits, watch or Nobody(), clock_s, cpu_clock_s).run(resume=resume, stop=stop)


class _Training:
    def __init__(
        self,
        learner: Learner,
        config: TrainingConfig,
        files: TrainingFiles,
        limits: Limits,
        watch: TrainingWatch,
        clock_s: Callable[[], float],
        cpu_clock_s: Callable[[], float],
    ) -> None:
        self._learner, self._config, self._files, self._limits, self._watch = learner, config, files, limits, watch
        self._clock_s, self._cpu_clock_s = clock_s, cpu_clock_s
        self._course = _Course()
        self._last_s = clock_s()
        self._written_s, self._write_took_s = self._last_s, 0.0
        self._step_s, self._validation_s = 0.0, 0.0
        """What an iteration, and a validation, took last."""

    def run(self, *, resume: bool, stop: Callable[[], bool]) -> TrainingResult:
        if resume:
            self._restore()
        else:
            self._files.forget()
            self._files.write_rows([])
            self._write_state()
        course, interrupted = self._course, False
        self._last_s = self._clock_s()
        if self._limits.minutes is not None:
            self._learner.validate_yardstick(self._episodes())
            # The network itself has to run the same episodes. Its passes cost as much as the engine on small fleets, less on large ones.
            self._validation_s = 2.0 * self._lap()
        while not (self._over() and course.validated_at == course.iteration):
            if stop():
                interrupted = True
                break
            if course.iteration > course.validated_at and (self._over() or course.iteration % self._config.validate_every == 0):
                self._validate()
            else:
                self._step()
            self._write_state_if_cheap()
        self._write_state()
        self._files.write_picture(learning_curve(self._files.rows(), title=f"{self._config.policy} by {self._config.algorithm}"))
        return TrainingResult(
            iterations=course.iteration,
            env_steps=course.env_steps,
            total_s=course.total_s,
            cpu_s=course.cpu_s,
            env_steps_per_s_per_core=course.env_steps / max(course.core_s, 1e-9),
            interrupted=interrupted,
            best=dict(course.best),
        )

    def _over(self) -> bool:
        return self._course.iteration > 0 and (self._share() >= 1.0 or self._out_of_time())

    def _out_of_time(self) -> bool:
        """Whether another iteration, and the validation that must follow it, would end after the clock's limit."""
        to_come_s = self._step_s + self._validation_s
        return self._limits.minutes is not None and self._course.total_s + to_come_s > 60 * self._limits.minutes

    def _episodes(self) -> Callable[[], None]:
        """What tells the observer of each episode of a validation."""
        done = 0

        def one() -> None:
            nonlocal done
            done += 1
            self._watch.validating(done)

        self._watch.validating(0)
        return one

    def _share(self) -> float:
        course = self._course
        return self._limits.share(iterations=course.iteration, steps=course.env_steps, cpu_s=course.cpu_s, total_s=course.total_s)

    def _step(self) -> None:
        course = self._course
        cpu_s = self._cpu_clock_s()
        figures = {name: float(value) for name, value in self._learner.step(course.iteration).items()}
        self._step_s = took_s = self._lap()
        course.cpu_s += self._cpu_clock_s() - cpu_s
        steps = int(figures.pop(ENV_STEPS))
        course.iteration += 1
        course.env_steps += steps
        course.core_s += took_s * self._config.jobs
        row = {
            "kind": ITERATION,
            "iteration": course.iteration,
            "env_steps": course.env_steps,
            "wall_s": round(course.total_s, 3),
            "cpu_s": round(course.cpu_s, 3),
            "budget_used": round(self._share(), 6),
            "env_steps_per_s_per_core": round(steps / max(took_s, 1e-9) / self._config.jobs, 1),
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
        }
        self._files.append_row(row)
        self._watch.stepped(row)

    def _validate(self) -> None:
        course = self._course
        score = self._learner.validate(self._episodes())
        self._validation_s = self._lap()
        course.validated_at = course.iteration
        is_best = not course.best or score.gain > course.best["validation_gain"]
        row = {"kind": VALIDATION, "iteration": course.iteration, "env_steps": course.env_steps, "wall_s": round(course.total_s, 3)}
        row |= {"cpu_s": round(course.cpu_s, 3)}
        row |= score.as_dict() | {"best": is_best}
        if is_best:
            course.best = {"iteration": course.iteration, "env_steps": course.env_steps, **score.as_dict()}
            course.best["digest"] = self._learner.save(
                self._files.out, trained_by(self._config, self._limits, course.iteration, course.env_steps, score)
            )
        self._files.append_row(row)
        self._watch.validated(row, best=is_best)

    def _lap(self) -> float:
        """Seconds since the last one, counted in."""
        now_s = self._clock_s()
        took_s, self._last_s = now_s - self._last_s, now_s
        self._course.total_s += took_s
        return took_s

    def _write_state_if_cheap(self) -> None:
        since_s = self._clock_s() - self._written_s
        if since_s >= STATE_EVERY_S and since_s * STATE_SHARE >= self._write_took_s:
            self._write_state()

    def _write_state(self) -> None:
        began_s = self._clock_s()
        self._files.write_state(
            {
                "config": self._config.recipe(),
                "code_version": tango.__version__,
                "course": asdict(self._course),
                "learner": self._learner.state(),
            }
        )
        self._written_s = self._clock_s()
        self._write_took_s = self._written_s - began_s

    def _restore(self) -> None:
        found = self._files.read_state()
        require_same(self._files, found["config"], self._config)
        if found["code_version"] != tango.__version__:
            raise UsageError(
                f"{self._files.state} is of version {found['code_version']}, this is {tango.__version__}; start again with --overwrite"
            )
        try:
            self._course = _Course(**found["course"])
            self._learner.restore(found["learner"])
        except (RuntimeError, KeyError, TypeError, ValueError) as error:  # networks of another shape, fields of another version
            reason = str(error).splitlines()[0][:120]
            raise CheckpointError(
                f"{self._files.state} does not fit this version of Tango ({reason}); start again with --overwrite"
            ) from error
        # What was written after the state will be written again.
        last = {ITERATION: self._course.iteration, VALIDATION: self._course.validated_at}
        self._files.write_rows([row for row in self._files.rows() if row["iteration"] <= last[row["kind"]]])


def trained_by(config: TrainingConfig, budget: Limits, iterations: int, env_steps: int, score: Score) -> dict[str, Any]:
    """What a checkpoint says of its training; nothing of the clock, so that equal trainings give equal files."""
    trained = {
        "algorithm": config.algorithm,
        "seed": config.seed,
        "iterations": iterations,
        "env_steps": env_steps,
        "budget": {name: value for name, value in asdict(budget).items() if value is not None},
        "device": config.device,
        "config": config.recipe(),
        **score.as_dict(),
        "code_version": tango.__version__,
    }
    # Through JSON: torch writes a text once where it is one object, and which texts are depends on whether they were read from a state.
    plain: dict[str, Any] = json.loads(json.dumps(trained))
    return plain


def require_same(files: TrainingFiles, kept: Mapping[str, Any], config: TrainingConfig) -> None:
    """Raises: UsageError where the state of `files` is of another configuration; `kept` is the one in it."""
    changed = differences(kept, config.recipe())
    if changed:
        raise UsageError(f"{files.state} is of another training: {'; '.join(changed)}; name the same or another file")


def differences(kept: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """How two configurations differ, a text for each field."""
    names = dict.fromkeys((*kept, *given))
    return [f"{name} was {kept.get(name)!r} and is {given.get(name)!r}" for name in names if kept.get(name) != given.get(name)]
