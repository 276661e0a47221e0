"""`tango train`: learn a policy in simulation."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from tango.cli import names
from tango.cli.bounds import Real, Whole
from tango.cli.output import output_option, print_mapping, say
from tango.cli.progress import Advance, progress, slow_start
from tango.cli.workloads import fleet_text, require_folder
from tango.errors import TangoError, UsageError

if TYPE_CHECKING:
    from tango.training.config import TrainingConfig
    from tango.training.files import TrainingFiles
    from tango.training.loop import Limits, TrainingResult

COMPILING = "Compiling the simulator: once after an installation, for about a minute"


@click.command()
@click.option(
    "--policy", default="dcg-be", show_default=True, help="What learns: dcg-be or gnn-sac (BE placement), dsaco (LC dispatch)."
)
@click.option("--algorithm", help="How: evolution or a2c for dcg-be, sac for the others.  [default: evolution, sac]")
@click.option(
    "--fleet",
    "fleets",
    multiple=True,
    help="Fleets (names or files) to train on beside drawn ones; may be repeated.",
    shell_complete=names.FLEETS,
)
@click.option(
    "--pattern",
    "patterns",
    multiple=True,
    help="Patterns of arrivals: p1, p2, p3, borg.  [default: drawn]",
    shell_complete=names.PATTERNS,
)
@click.option("--load", "loads", metavar="LOW[,HIGH]", help="Offered CPU work over the fleet's CPU.  [default: drawn]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="The checkpoint to write.")
@click.option("--steps", type=Whole(min=1), help="End after so many steps: BE ticks of runs, or LC decisions.")
@click.option("--cpu-minutes", type=Real(min=0, min_open=True), help="End after so much CPU time of all processes.")
@click.option("--minutes", type=Real(min=0, min_open=True), help="End by the clock, validation included, over all resumptions.")
@click.option("--iterations", type=Whole(min=1), help="End after so many.  [default: those over which the learning rate falls]")
@click.option("--seed", type=Whole(), default=1, show_default=True, help="Draws all; 0 to 999999.")
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes that simulate episodes.")
@click.option(
    "--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True, help="Where networks are updated."
)
@click.option("--hidden", type=Whole(1, 1024), help="Width of the network.  [default: 32]")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Any other figure of the training, such as episode_s=60."
)
@click.option("--resume", is_flag=True, help="Go on with the training of --out; its own options need not be repeated.")
@click.option("--overwrite", is_flag=True, help="Replace the training of --out.")
@output_option()
def train(out: Path, resume: bool, overwrite: bool, output: str, **options: Any) -> int:
    """Learn a policy in simulation, and keep the network that does best on the validation seeds.

    \b
        tango train --policy dcg-be --algorithm a2c --fleet paper --pattern p1,p2,p3 --out my.ckpt --minutes 40 -j 2
        tango train --out my.ckpt --resume --minutes 80                     # forty minutes more
        tango train --policy dsaco --out lc.ckpt --iterations 100 --set learning_rate=0.0005
        tango train --policy gnn-sac --out sac.ckpt --steps 700000 --cpu-minutes 22    # the first limit reached ends it

    Beside FILE it writes FILE.state (for --resume), FILE.curve.jsonl and FILE.curve.svg. Interrupted by Ctrl-C it ends after the
    iteration that is under way; resumed, it gives bit for bit what it would have given.
    """
    from tango.training.files import TrainingFiles
    from tango.training.learners import learner_of

    _require_writable(out)
    files = TrainingFiles(out=out)
    if resume and overwrite:
        raise UsageError("--resume goes on with a training and --overwrite replaces it; expected one of them")
    with files.alone():
        config, limits = _training(files, options, resume=resume, overwrite=overwrite)
        learner = learner_of(config)
        try:
            result, signalled = _train(learner, config, files, limits, resume=resume)
        finally:
            learner.close()
    _tell(result, config, files)
    print_mapping(_summary(result, config, files), output)
    return 128 + signalled if signalled else 0  # as a shell reports a process that a signal ended


def _training(files: TrainingFiles, options: Mapping[str, Any], *, resume: bool, overwrite: bool) -> tuple[TrainingConfig, Limits]:
    """The training's configuration and its limits, from the options and, when resumed, from the saved state; writes nothing.

    Raises: UsageError for options that contradict each other, the files of --out or the training that is resumed.
    """
    from tango.training.config import TrainingConfig
    from tango.training.devices import device_of
    from tango.training.learners import configured
    from tango.training.loop import Limits, require_same

    own = {"jobs": options["jobs"], "device": device_of(options["device"])}
    given, settings = _given(options)
    if resume:
        kept = files.read_state()["config"]
        # What the command line names goes over what the training began with, so that a change is found by `require_same` and refused.
        wanted = {**kept, **given, "options": {**kept["options"], **settings}, **own}
        config = TrainingConfig.from_dict(wanted)
        require_same(files, kept, config)
    else:
        named = {name: value for name, value in given.items() if name not in ("policy", "algorithm")}
        config = configured(options["policy"], options["algorithm"], **{**named, "options": settings, **own})
        if not overwrite:
            files.require_new()
    limits = {name: options[name] for name in ("iterations", "steps", "cpu_minutes", "minutes") if options[name] is not None}
    return config, Limits(**(limits or {"iterations": config.horizon}))


def _given(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(fields of `TrainingConfig`, options of the learner) that the command line names; defaults are left out.

    On --resume a default must not replace what the training began with. Raises: UsageError for a malformed value.
    """
    from dataclasses import fields

    from tango.training.config import TrainingConfig

    given: dict[str, Any] = {
        name: options[name] for name in ("policy", "algorithm", "seed", "hidden") if options[name] is not None and _is_named(name)
    }
    if options["fleets"]:
        given["fleets"] = tuple(fleet_text(name) for name in _listed(options["fleets"]))
    if options["patterns"]:
        given["patterns"] = _listed(options["patterns"])
    if options["loads"] is not None:
        given["loads"] = _loads(options["loads"])
    known = {f.name: f for f in fields(TrainingConfig)}
    settings: dict[str, Any] = {}
    for change in options["changes"]:
        name, sign, text = (part.strip() for part in change.partition("="))
        if not (sign and name):
            raise UsageError(f"--set {change!r}, expected NAME=VALUE such as episode_s=60")
        if name in _OPTIONS:
            raise UsageError(f"--set {name}: it has an option of its own, {_OPTIONS[name]}")
        (given if name in known else settings)[name] = _number(name, text, whole=name in known and known[name].type == "int")
    return given, settings


# Settings that --set refuses, with the option that sets them.
_OPTIONS = {
    "fleets": "--fleet",
    "patterns": "--pattern",
    "loads": "--load",
    "options": "--set",
    **{name: f"--{name}" for name in ("policy", "algorithm", "seed", "hidden", "jobs", "device")},
}


def _is_named(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source not in (None, click.core.ParameterSource.DEFAULT, click.core.ParameterSource.DEFAULT_MAP)


def _listed(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for value in values for part in value.split(",") if (name := part.strip())))


def _loads(text: str) -> tuple[float, float]:
    values = [_number("--load", part.strip(), whole=False) for part in text.split(",")]
    if len(values) > 2:
        raise UsageError(f"--load has {text!r}, expected one number, or two separated by a comma")
    return float(values[0]), float(values[-1])


def _number(name: str, text: str, *, whole: bool) -> float | int:
    try:
        return int(text) if whole else float(text)
    except ValueError as error:
        raise UsageError(f"{name} has {text!r}, expected a {'whole ' if whole else ''}number") from error


def _require_writable(out: Path) -> None:
    require_folder(out)
    if not os.access(out.absolute().parent, os.W_OK):
        raise UsageError(f"{out} cannot be written: the folder {out.absolute().parent} is read-only")


class _Told:
    """Shows the training loop's progress: a bar over the share of the budget that is used, and a message for each validation."""

    def __init__(self, advance: Advance, moving: Callable[[], None]) -> None:
        self._advance, self._moving = advance, moving
        self._at = 0.0

    def stepped(self, row: Mapping[str, Any]) -> None:
        """Called after each iteration with its row of the curve: moves the bar."""
        self._moving()
        at = min(100.0, 100 * row["budget_used"])
        self._advance(at - self._at, note="")
        self._at = at

    def validating(self, done: int) -> None:
        """Called while the network is validated: says so."""
        self._moving()
        self._advance(0.0, note=f"validating, {done} episodes")

    def validated(self, row: Mapping[str, Any], *, best: bool) -> None:
        """Called after each validation with its row of the curve: prints the gain over the reference policy."""
        say(
            f"iteration {row['iteration']}: {row['validation_gain']:+.4f} ± {row['validation_margin']:.4f} to "
            f"{row['validation_reference']} on the validation seeds{', the best so far: kept' if best else ''}"
        )


def _train(
    learner: Any, config: TrainingConfig, files: TrainingFiles, limits: Limits, *, resume: bool
) -> tuple[TrainingResult, int]:
    from tango.training.loop import train as run

    title = f"Training {config.policy} by {config.algorithm}"
    with (
        progress(title, total=100.0, unit="% of the budget") as advance,
        slow_start(COMPILING, after_s=20.0) as moving,
        _stop_signals() as received,
    ):
        watch = _Told(advance, moving)
        result = run(learner, config, files, limits, resume=resume, watch=watch, stop=lambda: bool(received))
    return result, received[0] if result.interrupted else 0


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives the number of the first SIGINT or SIGTERM, so that the current iteration can end.

    A second signal raises KeyboardInterrupt: the training ends at once and can be resumed from the last state on disk.
    """
    from tango.experiments.processes import on_signal

    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        say("Stopping after this iteration. A second signal stops at once; --resume then begins at the last state written.")

    with on_signal(signal.SIGINT, note), on_signal(signal.SIGTERM, note):
        yield received


def _tell(result: TrainingResult, config: TrainingConfig, files: TrainingFiles) -> None:
    say(
        f"{result.iterations} iterations, {result.env_steps:,} environment steps in {result.total_s:.0f} s, "
        f"{result.cpu_s / 60:.1f} CPU-minutes of them learning; "
        f"{result.env_steps_per_s_per_core:,.0f} steps a second per core ({config.jobs} processes), validation left out"
    )
    if result.interrupted:
        out = shlex.quote(str(files.out))
        say(f"go on: {_command()} --resume" if "--resume" not in sys.argv else f"go on: tango train --out {out} --resume")
    if result.best and _store_answers():
        say(f"to keep it in the registry: tango checkpoint add {shlex.quote(str(files.out))} --name {shlex.quote(files.out.stem)}")


def _command() -> str:
    return shlex.join(["tango", *(argument for argument in sys.argv[1:] if argument != "--overwrite")])


def _store_answers() -> bool:
    """Whether a database answers, so that registering the checkpoint can be suggested; training itself needs none."""
    try:
        from tango.bootstrap.stores import stores

        stores().runs.active_runs()
    except TangoError:
        return False
    return True


def _summary(result: TrainingResult, config: TrainingConfig, files: TrainingFiles) -> dict[str, Any]:
    best = result.best
    return {
        "checkpoint": str(files.out) if best else None,
        "digest": best.get("digest"),
        "policy": config.policy,
        "algorithm": config.algorithm,
        "seed": config.seed,
        "iterations": result.iterations,
        "best_iteration": best.get("iteration"),
        "env_steps": result.env_steps,
        "env_steps_per_s_per_core": result.env_steps_per_s_per_core,
        "seconds": result.total_s,
        "cpu_minutes": result.cpu_s / 60,
        "validation_score": best.get("validation_score"),
        "validation_gain": best.get("validation_gain"),
        "validation_margin": best.get("validation_margin"),
        "validation_reference": best.get("validation_reference"),
        "interrupted": result.interrupted,
        "curve": str(files.curve),
        "picture": str(files.picture),
    }
