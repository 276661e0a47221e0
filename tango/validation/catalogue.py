"""Every experiment of `tango validate`: which model, how often, and what theory says of each of its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tango.validation import formulas
from tango.validation.distributions import DETERMINISTIC, EXPONENTIAL, LOGNORMAL, PARETO, WorkLaw
from tango.validation.queueing_models import OneNode, Overloaded, QueueingModel, look_name

TOLERANCE = 0.01
"""Half-width of an interval over the formula's value that is asked for."""
HEAVY_TOLERANCE = 0.02
"""At loads of 0.95 and above, where a queue takes long to forget: twice the width costs a quarter of the requests."""
HEAVY_LOAD = 0.95
"""Load from which the tolerance is the wider one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormulaCell:
    """One figure of a model beside one formula."""

    figure: str
    """Key of `Replication.figures`."""
    what: str
    """What the figure is, for tables."""
    source: str
    """Whose formula it is."""
    expected: Callable[[], float]
    """The formula's value; called once, since some take a second."""
    tolerance: float = TOLERANCE


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One model, simulated so many times, and the cells that it fills."""

    name: str
    """Unique; seeds follow from it, so that an experiment gives the same figures whichever others are there."""
    group: str
    model: QueueingModel
    replications: int
    cells: tuple[FormulaCell, ...]


def experiments() -> tuple[Experiment, ...]:
    """All of them, in the order of the table."""
    return (
        *_shared_cores(),
        *_in_proportion(),
        *_in_turn(),
        *_littles_law(),
        *_transient(),
    )


def _tolerance(load: float) -> float:
    return HEAVY_TOLERANCE if load >= HEAVY_LOAD else TOLERANCE


SHARED: tuple[tuple[int, float, WorkLaw, int, int], ...] = (
    (1, 0.5, EXPONENTIAL, 24, 20_000),
    (4, 0.7, DETERMINISTIC, 20, 25_000),
    (16, 0.8, PARETO, 16, 20_000),
)
"""(cores, load, work, replications, requests of each): the heavier the load and the tail, the more."""


def _shared_cores() -> list[Experiment]:
    """One node whose requests share its cores."""
    return [
        Experiment(
            name=f"shared {cores} {load:g} {work.text}",
            group="one node, cores shared",
            model=OneNode(cores=cores, load=load, work=work, requests=requests),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="sojourn",
                    what="sojourn / work",
                    source="Erlang C",
                    expected=lambda cores=cores, load=load: formulas.shared_sojourn(cores, load),  # type: ignore[misc]
                    tolerance=_tolerance(load),
                ),
            ),
        )
        for cores, load, work, replications, requests in SHARED
    ]


def _in_proportion() -> list[Experiment]:
    """The sojourn of a request is in proportion to its work, so that short and long ones take the same multiple of theirs."""
    return [
        Experiment(
            name=f"proportion {work.text}",
            group="sojourn in proportion to work",
            model=OneNode(cores=4, load=0.7, work=work, requests=40_000),
            replications=replications,
            cells=tuple(
                FormulaCell(
                    figure=figure,
                    what=f"sojourn / work of the {figure}est fifth",
                    source="Erlang C",
                    expected=lambda: formulas.shared_sojourn(4, 0.7),
                )
                for figure in ("short", "long")
            ),
        )
        for work, replications in ((EXPONENTIAL, 24),)
    ]


def _in_turn() -> list[Experiment]:
    """One node that serves requests in order of arrival, each on a core of its own."""
    return [
        Experiment(
            name=f"in turn 1 0.5 {work.text}",
            group="one node, first come first served",
            model=OneNode(cores=1, load=0.5, work=work, queue=True, requests=requests),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="wait",
                    what="wait / mean work",
                    source="Pollaczek, Khinchine",
                    expected=lambda cv=work.cv: formulas.queueing_time_one_core(0.5, cv),  # type: ignore[misc]
                ),
            ),
        )
        for work, replications, requests in ((DETERMINISTIC, 24, 60_000),)
    ]


def _littles_law() -> list[Experiment]:
    """What the engine counts on its nodes, every few mean works, is the rate of arrivals times the sojourn."""
    return [
        Experiment(
            name=f"little {model.text}",
            group="Little's law",
            model=model,
            replications=20,
            cells=(FormulaCell(figure="little", what="requests / (rate x sojourn)", source="Little", expected=lambda: 1.0),),
        )
        for model in (OneNode(cores=4, load=0.8, work=LOGNORMAL, requests=30_000, looks=True),)
    ]


def _transient() -> list[Experiment]:
    """A queue that grows and is worked off, in the limit of many cores."""
    looks = (1.0, 3.0, 4.0, 6.0, 9.0)
    return [
        Experiment(
            name="overload",
            group="through an overload (fluid limit)",
            model=Overloaded(cores=4000, overload=1.5, until=4.0, then=0.5, looks=looks),
            replications=40,
            cells=tuple(
                FormulaCell(
                    figure=look_name(at),
                    what=f"requests / cores after {at:g} works",
                    source="Mandelbaum et al.",
                    expected=lambda at=at: formulas.fluid_in_system(at, overload=1.5, until=4.0, then=0.5),  # type: ignore[misc]
                )
                for at in looks
            ),
        )
    ]
