"""Every experiment of `tango validate`: which model, how often, and what theory says of each of its figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tango.validation import formulas
from tango.validation.distributions import DETERMINISTIC, EXPONENTIAL, LOGNORMAL, PARETO, WorkLaw
from tango.validation.queueing_models import ManyNodes, OneNode, Overloaded, QueueingModel, TwoClasses, look_name

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
    short: bool = False
    """Part of the shortened form."""


def experiments() -> tuple[Experiment, ...]:
    """All of them, in the order of the table."""
    return (
        *_shared_cores(),
        *_in_proportion(),
        *_in_turn(),
        *_littles_law(),
        *_choices(),
        *_bulletin_board(),
        *_two_classes(),
        *_transient(),
    )


def _tolerance(load: float) -> float:
    return HEAVY_TOLERANCE if load >= HEAVY_LOAD else TOLERANCE


SHARED: tuple[tuple[int, float, WorkLaw, int, int], ...] = (
    *((1, 0.5, work, 24, 20_000) for work in (EXPONENTIAL, DETERMINISTIC, PARETO)),
    (1, 0.5, LOGNORMAL, 40, 60_000),
    (1, 0.7, EXPONENTIAL, 50, 40_000),
    (1, 0.7, DETERMINISTIC, 40, 40_000),
    (1, 0.7, LOGNORMAL, 100, 80_000),
    (1, 0.7, PARETO, 40, 40_000),
    (1, 0.8, EXPONENTIAL, 120, 60_000),
    *((4, 0.7, work, 20, 25_000) for work in (DETERMINISTIC, PARETO)),
    (4, 0.7, EXPONENTIAL, 30, 30_000),
    (4, 0.7, LOGNORMAL, 40, 50_000),
    (4, 0.8, EXPONENTIAL, 60, 60_000),
    (4, 0.8, DETERMINISTIC, 40, 40_000),
    (4, 0.8, LOGNORMAL, 80, 100_000),
    (4, 0.8, PARETO, 80, 50_000),
    (4, 0.9, EXPONENTIAL, 240, 80_000),
    (4, 0.9, DETERMINISTIC, 160, 60_000),
    (16, 0.8, EXPONENTIAL, 24, 30_000),
    *((16, 0.8, work, 16, 20_000) for work in (DETERMINISTIC, PARETO)),
    (16, 0.8, LOGNORMAL, 24, 50_000),
    (16, 0.9, EXPONENTIAL, 60, 70_000),
    (16, 0.9, DETERMINISTIC, 60, 70_000),
    (16, 0.95, EXPONENTIAL, 150, 100_000),
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
            short=(cores, load, work.name) in ((1, 0.5, "exponential"), (4, 0.7, "deterministic"), (16, 0.8, "pareto")),
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
            short=work is EXPONENTIAL,
        )
        for work, replications in ((EXPONENTIAL, 24), (LOGNORMAL, 60), (PARETO, 30))
    ]


def _in_turn() -> list[Experiment]:
    """One node that serves requests in order of arrival, each on a core of its own."""
    waits = [
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
            short=work is DETERMINISTIC,
        )
        for work, replications, requests in ((EXPONENTIAL, 70, 40_000), (DETERMINISTIC, 24, 60_000))
    ]
    staffed = [
        Experiment(
            name=f"staffing {staffing:g} {cores}",
            group="waiting with many cores (Halfin, Whitt)",
            model=OneNode(cores=cores, load=round(formulas.load_at_staffing(cores, staffing), 6), queue=True, requests=requests),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="waited",
                    what=f"share that waits (limit {formulas.halfin_whitt(staffing):.4f})",
                    source="Erlang C",
                    expected=lambda cores=cores, staffing=staffing: formulas.erlang_c(  # type: ignore[misc]
                        cores, formulas.load_at_staffing(cores, staffing)
                    ),
                ),
            ),
        )
        for cores, staffing, replications, requests in (
            (25, 0.5, 60, 60_000),
            (100, 0.5, 150, 80_000),
            (25, 1.0, 120, 80_000),
            (16, 2.0, 480, 160_000),  # whoever waits is rare, and comes in swarms
        )
    ]
    return [*waits, *staffed]


def _littles_law() -> list[Experiment]:
    """What the engine counts on its nodes, every few mean works, is the rate of arrivals times the sojourn."""
    return [
        Experiment(
            name=f"little {model.text}",
            group="Little's law",
            model=model,
            replications=20,
            cells=(FormulaCell(figure="little", what="requests / (rate x sojourn)", source="Little", expected=lambda: 1.0),),
            short=model.work is LOGNORMAL,
        )
        for model in (
            OneNode(cores=4, load=0.8, requests=30_000, looks=True),
            OneNode(cores=4, load=0.8, work=LOGNORMAL, requests=30_000, looks=True),
            OneNode(cores=4, load=0.8, queue=True, requests=30_000, looks=True),
            OneNode(cores=25, load=0.9, queue=True, requests=60_000, looks=True),
        )
    ]


def _choices() -> list[Experiment]:
    """Many nodes, each request to the least loaded of some; the formula is that of infinitely many."""
    return [
        Experiment(
            name=f"choices {choices} {load:g} {work.text}",
            group="least loaded of d at random",
            model=ManyNodes(nodes=nodes, choices=choices, load=load, work=work, requests=requests, warm=warm),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="sojourn",
                    what="sojourn / work",
                    source="Mitzenmacher 2001",
                    expected=lambda choices=choices, load=load: formulas.least_of(choices, load),  # type: ignore[misc]
                    tolerance=_tolerance(load),
                ),
            ),
        )
        for choices, load, work, nodes, replications, requests, warm in (
            (1, 0.5, EXPONENTIAL, 1000, 24, 60_000, 0.3),
            (2, 0.8, EXPONENTIAL, 1000, 28, 80_000, 0.3),
            # Equal works: giants of a heavy tail would be served for longer than the run lasts.
            (2, 0.8, DETERMINISTIC, 1000, 16, 80_000, 0.3),
            (2, 0.9, EXPONENTIAL, 1000, 42, 120_000, 0.4),
            (3, 0.9, EXPONENTIAL, 1000, 22, 120_000, 0.4),
            (2, 0.99, EXPONENTIAL, 2000, 32, 1_000_000, 0.6),
        )
    ]


def _bulletin_board() -> list[Experiment]:
    """What was published last is all that is known; at a load of 0.5 and a period of ten works that is worse than 2, which is random."""
    return [
        Experiment(
            name=f"board {choices} {load:g} {period:g}",
            group="stale state (bulletin board)",
            model=ManyNodes(nodes=nodes, choices=choices, load=load, period=period, requests=requests, warm=0.25),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="sojourn",
                    what="sojourn / work",
                    source="Mitzenmacher 2000",
                    expected=lambda choices=choices, load=load, period=period: formulas.with_bulletin_board(  # type: ignore[misc]
                        choices, load, period
                    ),
                ),
            ),
        )
        for choices, load, period, nodes, replications, requests in (
            (2, 0.5, 1.0, 400, 10, 12_000),
            # A dispatcher knows what it has sent itself, which tells the more the longer a period is and the fewer dispatchers there are.
            (2, 0.5, 10.0, 1000, 10, 40_000),
            (2, 0.8, 2.0, 400, 20, 24_000),
        )
    ]


def _two_classes() -> list[Experiment]:
    """LC goes before BE on a core, and preempts it."""
    return [
        Experiment(
            name=f"classes {first:g} {second:g}",
            group="LC before BE, preemptive",
            model=TwoClasses(first=first, second=second, requests=12_000),
            replications=replications,
            cells=(
                FormulaCell(
                    figure="lc",
                    what="LC sojourn / work",
                    source="Kleinrock",
                    expected=lambda first=first: formulas.preemptive_first(first),  # type: ignore[misc]
                ),
                FormulaCell(
                    figure="be",
                    what="BE sojourn / work",
                    source="Kleinrock",
                    expected=lambda first=first, second=second: formulas.preemptive_second(first, second),  # type: ignore[misc]
                ),
            ),
        )
        for first, second, replications in ((0.2, 0.3, 80), (0.3, 0.3, 150))
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
            short=True,
        )
    ]
