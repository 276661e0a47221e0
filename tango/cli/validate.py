"""`tango validate`: the simulated world against queueing theory, as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from tango.cli.bounds import Real, Whole
from tango.cli.output import ListColumn, output_option, print_rows, say
from tango.cli.progress import progress, slow_start
from tango.cli.simulate import COMPILING
from tango.domain.near_names import near_name
from tango.errors import TangoError, UsageError

if TYPE_CHECKING:
    from tango.validation.catalogue import Experiment
    from tango.validation.estimates import ComparedFigure


def _signed(value: float) -> str:
    return f"{100 * value:+.2f} %"


def _width(value: float) -> str:
    return f"{100 * value:.2f} %"


COLUMNS = (
    ListColumn("model", priority=10),
    ListColumn("figure", priority=9),
    ListColumn("source", title="formula", priority=4),
    ListColumn("expected", title="theory", justify="right", priority=8),
    ListColumn("measured", justify="right", priority=8),
    ListColumn("error", title="off by", show=_signed, justify="right", priority=7),
    ListColumn("half_width", title="99 % within", show=_width, justify="right", priority=7),
    ListColumn("verdict", priority=10),
    ListColumn("replications", justify="right", priority=3),
    ListColumn("requests", show=lambda count: f"{count:,}", justify="right", priority=3),
    ListColumn("cpu_s", title="CPU s", show=lambda taken: f"{taken:.1f}", justify="right", wide=True),
    ListColumn("group", wide=True),
)


@click.command()
@click.argument("words", metavar="[GROUP]...", nargs=-1)
@click.option("--short", is_flag=True, help="A few cheap cells of each kind, in under a minute.")
@click.option("--live", "live_s", type=Real(60, 7200), metavar="SECONDS", help="Instead: some cells on a live stack, for so long.")
@click.option("--seed", type=Whole(min=0), default=1, show_default=True, help="Draws arrivals, works and choices.")
@click.option("-j", "--jobs", type=Whole(min=1), default=1, show_default=True, help="Processes.")
@output_option(formats=("table", "wide", "json", "yaml", "csv"))
def validate(words: tuple[str, ...], short: bool, live_s: float | None, seed: int, jobs: int, output: str) -> None:
    """Compare what the simulator's engine gives, or a live stack, with what queueing theory says, cell by cell.

    Each cell has a 99 % interval from independent replications. `holds`: the interval has the formula's value in it and is as narrow as was
    asked for; `close`: it lies wholly within that of the value. Exit status 1 where a cell is neither. GROUP is a part of a group's name,
    such as `shared`, `stale` or `overload`; `-o wide` shows the groups.

    \b
        tango validate --short                # under a minute
        tango validate -j 2                   # all of it, twenty minutes on two cores
        tango validate stale -o json
        tango validate --live 600             # a stack of its own, ten minutes of requests
    """
    if live_s is not None:
        if words or short:
            raise UsageError("--live has cells of its own; leave GROUP and --short out")
        from tango.bench.live_validation import measure

        _show(measure(seconds=live_s, seed=seed, told=say), output)
        return
    from tango.sim.warm import warm_up
    from tango.validation.execution import run_experiments

    chosen = _chosen(words, short)
    with progress("Validating", total=len(chosen), unit="experiments") as advance, slow_start(COMPILING) as moving:

        def done(experiment: Experiment) -> None:
            advance(1, note=experiment.name)

        warm_up()
        moving()
        results = run_experiments(chosen, seed=seed, processes=jobs, done=done)
    _show(results, output)


def _show(results: Sequence[ComparedFigure], output: str) -> None:
    """The table. Raises: TangoError where a cell does not agree."""
    from tango.validation.estimates import AGREE

    rows: list[dict[str, Any]] = [
        {field.name: getattr(result, field.name) for field in dataclasses.fields(result)} for result in results
    ]
    print_rows(rows, COLUMNS, output)
    wrong = [result for result in results if result.verdict not in AGREE]
    say(
        f"{len(results) - len(wrong)} of {len(results)} cells agree with theory; {sum(r['verdict'] == 'holds' for r in rows)} hold it"
    )
    if wrong:
        raise TangoError(
            f"{len(wrong)} of {len(results)} cells do not agree with theory, the first: {wrong[0].figure} of {wrong[0].model} is "
            f"{wrong[0].measured:.4g} ({wrong[0].low:.4g} to {wrong[0].high:.4g}), {wrong[0].source} says {wrong[0].expected:.4g}: "
            f"{wrong[0].verdict}"
        )


def _chosen(words: tuple[str, ...], short: bool) -> list[Experiment]:
    """The experiments whose group has one of the words in its name. Raises: UsageError for a word that no group has."""
    from tango.validation.catalogue import experiments

    everything = experiments()
    groups = list(dict.fromkeys(one.group for one in everything))
    for word in words:
        if not any(word.lower() in group.lower() for group in groups):
            raise UsageError(f"no group of cells has {word!r} in its name{near_name(word, groups)}; groups: {', '.join(groups)}")
    return [
        one
        for one in everything
        if (one.short or not short) and (not words or any(word.lower() in one.group.lower() for word in words))
    ]
