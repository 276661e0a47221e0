"""Capacity: the least number of nodes of a kind with which requests meet a target, and the highest load that a fleet bears.

    demand ─► candidate fleets (or loads) ─► cells, the same seeds for each ─► QoS rate with its interval ─► bisection ─► plan

What is asked stays the same whatever the fleet: the requests of a seed are drawn for the fleet as declared, and all candidates serve the
same. A candidate meets the target where the whole 95 % interval of its QoS rate lies at it or above; one that misses it clearly is not
given all its seeds. That more nodes are not worse, and a higher load is not better, is taken for granted: the search goes by bisection, and
what was tried is part of the answer. Searches of several kinds go on side by side, so that processes have work.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Any

import numpy as np

from tango.analysis.comparison import CellResult
from tango.analysis.intervals import Mean, finite, mean_interval
from tango.analysis.metrics import MEASURED_FROM
from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.errors import UsageError
from tango.experiments.cells import Cell
from tango.fleets import dump_fleet
from tango.fleets.sizing import NodeKind, least_nodes, mean_cores, resized, why_unfit
from tango.traces.workloads import Workload, draw_requests, fleet_cores

FIRST_SEEDS = 3
"""Seeds by which a candidate may be found to miss; one that does not is given all of them."""
IDLE = 0.1
"""Search goes no farther than to fleets that the offered work would use to this part: more nodes of a kind are of no help there."""
LC_GUESS, ALL_GUESS = 0.6, 0.8
"""Utilisation by LC, and by all work where BE counts too, of the first fleet that is tried. They set how long the search takes, and not
what it finds."""

MakeCell = Callable[[Workload, str, int], Cell]
"""(workload, fleet as a cell has it, seed) → the cell of the system that is planned for."""
RunCells = Callable[[Sequence[Cell]], Sequence[CellResult]]
"""Simulates cells, in their order."""


class TargetVerdict(StrEnum):
    """Whether a candidate meets the target."""

    MET = "met"
    MISSED = "missed"
    """The whole interval of a figure lies below what is asked."""
    UNDECIDED = "undecided"
    """The interval holds what is asked; counts as not met."""


class SearchEnd(StrEnum):
    """How a search ended."""

    FOUND = "found"
    LEAST = "least"
    """The least that is asked for meets the target already."""
    NONE = "none"
    """Not even the most that is asked for meets it."""
    UNFIT = "unfit"
    """No node of the kind holds some service."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is to be met. Raises: UsageError for values that are no shares."""

    target_qos: float
    """Share of LC requests that are to be answered within their targets, above 0 and at most 1."""
    be_share: float | None = None
    """Share of the offered BE work that is to be done as it comes, in the measured span; None: BE has what LC leaves."""

    def __post_init__(self) -> None:
        for name, value in (("target_qos", self.target_qos), ("be_share", self.be_share)):
            if value is not None and not 0.0 < value <= 1.0:
                raise UsageError(f"{name} is {value:g}, expected a share above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityDemand:
    """Requests, and the fleet for whose clusters and services they are. Raises: UsageError for fewer than two seeds."""

    workload: Workload
    fleet: Fleet
    """As declared: a load is a share of its CPU."""
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.seeds) < 2 or len(set(self.seeds)) < len(self.seeds):
            named = ", ".join(map(str, self.seeds)) or "none"
            raise UsageError(f"the seeds are {named}, expected two or more, each once")

    def of_fleet(self, fleet: Fleet) -> Workload:
        """The workload that offers the same work where its load is a share of another fleet's CPU."""
        if self.workload.load is None:
            return self.workload
        return dataclasses.replace(self.workload, load=self.workload.load * fleet_cores(self.fleet) / fleet_cores(fleet))

    def load_of(self, fleet: Fleet) -> float:
        """Load of a fleet by what is offered."""
        load = self.of_fleet(fleet).load
        return sum(self.offered_cores(self.seeds[0], of) for of in ServiceClass) / fleet_cores(fleet) if load is None else load

    def offered_cores(self, seed: int, service_class: ServiceClass) -> float:
        """CPU-seconds a second that requests of a class ask for in the measured span."""
        return _offered(self.workload, self.fleet, seed)[service_class]


@lru_cache(maxsize=64)
def _offered(workload: Workload, fleet: Fleet, seed: int) -> Mapping[ServiceClass, float]:
    requests = draw_requests(workload, fleet, seed)
    begin_s = MEASURED_FROM * workload.duration_s
    measured = requests.due_s >= begin_s
    work_s = np.bincount(requests.service_class[measured], requests.cpu_work_s[measured], minlength=len(ServiceClass))
    return {of: float(work_s[of]) / (workload.duration_s - begin_s) for of in ServiceClass}


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityCandidate:
    """A fleet and a load that were simulated."""

    kind: str
    nodes: int
    """Of the whole fleet."""
    added: int
    """Nodes of the kind: all, or those beside the declared ones."""
    cores: float
    memory_gib: float
    load: float
    """Offered CPU work of both classes over the CPU of the fleet; of files at their own rate that of the first seed."""
    seeds: int
    qos: Mean
    """LC QoS rate."""
    be_cpu_seconds_per_s: Mean
    be_share: Mean | None
    """BE work done over that offered in the measured span; None where it was not asked for."""
    verdict: TargetVerdict

    def as_dict(self) -> dict[str, Any]:
        """A row of JSON or a table; interval ends stand beside their mean."""
        share = self.be_share
        return {
            "kind": self.kind,
            "nodes": self.nodes,
            "added": self.added,
            "cores": self.cores,
            "memory_gib": self.memory_gib,
            "load": self.load,
            "seeds": self.seeds,
            "qos_rate": self.qos.mean,
            "qos_low": _within(self.qos.low),
            "qos_high": _within(self.qos.high),
            "be_cpu_seconds_per_s": self.be_cpu_seconds_per_s.mean,
            "be_share": None if share is None else share.mean,
            "be_share_low": None if share is None else share.low,
            "be_share_high": None if share is None else share.high,
            "verdict": str(self.verdict),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityAnswer:
    """The answer of one search."""

    kind: str
    found: SearchEnd
    candidate: CapacityCandidate | None = None
    """The one that meets the target; where none does, the one that came nearest to it: the most that was asked for."""
    refuted: CapacityCandidate | None = None
    """The next one in the direction of less, which does not meet it."""
    why: str = ""
    """Why a kind cannot be had."""
    tried: tuple[CapacityCandidate, ...] = ()
    """Everything that was simulated for it, the smallest fleet or the lowest load first."""

    @property
    def is_met(self) -> bool:
        """Whether the candidate meets the target."""
        return self.found in (SearchEnd.FOUND, SearchEnd.LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPlan:
    """The answers, one for each kind, and everything that was tried for them."""

    goal: Goal
    answers: tuple[CapacityAnswer, ...]
    of_loads: bool = False
    """Whether loads of one fleet were tried, and not fleets."""

    @property
    def is_met(self) -> bool:
        """Whether there is an answer that meets the target."""
        return any(answer.is_met for answer in self.answers)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each candidate; `answer` is true of those that are one."""
        return [
            {**one.as_dict(), "answer": answer.is_met and one is answer.candidate}
            for answer in self.answers
            for one in answer.tried
        ]

    def sentences(self) -> list[str]:
        """The answers in words."""
        return [_sentence(answer, self.goal, of_loads=self.of_loads) for answer in self.answers]

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON."""
        return {
            "target_qos": self.goal.target_qos,
            "be_share": self.goal.be_share,
            "answers": [
                {
                    "kind": answer.kind,
                    "found": str(answer.found),
                    "candidate": answer.candidate.as_dict() if answer.candidate else None,
                    "refuted": answer.refuted.as_dict() if answer.refuted else None,
                    "why": answer.why,
                }
                for answer in self.answers
            ],
            "candidates": self.rows(),
            "sentences": self.sentences(),
        }


# ---- searches ------------------------------------------------------------------------------------------------------------------

Search = Generator[list[Cell], Sequence[CellResult], CapacityAnswer]
"""Yields cells to simulate, is sent their results, and returns its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """Candidates of one search, each simulated once."""

    goal: Goal
    make_cell: MakeCell
    kind: str
    tried: dict[int, CapacityCandidate] = field(default_factory=dict)

    def candidate(
        self, at: int, fleet: Fleet, demand: CapacityDemand, added: int
    ) -> Generator[list[Cell], Sequence[CellResult], bool]:
        """Whether a fleet meets the goal under a demand; the candidate is kept under `at`."""
        text, workload = dump_fleet(fleet), demand.of_fleet(fleet)
        results: list[CellResult] = []
        for seeds in (demand.seeds[:FIRST_SEEDS], demand.seeds[FIRST_SEEDS:]):
            if seeds:
                results += yield [self.make_cell(workload, text, seed) for seed in seeds]
                self.tried[at] = self._assessed(results, fleet, demand, added)
            if self.tried[at].verdict is TargetVerdict.MISSED:
                break
        return self.tried[at].verdict is TargetVerdict.MET

    def _assessed(self, results: Sequence[CellResult], fleet: Fleet, demand: CapacityDemand, added: int) -> CapacityCandidate:
        rates = [finite(result.figures["lc_qos_rate"]) for result in results]
        if None in rates:
            raise UsageError("the requests have no LC in the measured span, so that there is no QoS rate to plan for")
        qos = mean_interval([rate for rate in rates if rate is not None])
        done = [finite(result.figures["be_cpu_seconds_per_s"]) or 0.0 for result in results]
        asked = [(qos, self.goal.target_qos)]
        share = None
        if self.goal.be_share is not None:
            share = _share(done, [demand.offered_cores(seed, ServiceClass.BE) for seed in demand.seeds[: len(results)]])
            asked.append((share, self.goal.be_share))
        cores = fleet_cores(fleet)
        return CapacityCandidate(
            kind=self.kind,
            nodes=sum(1 for _ in fleet.nodes),
            added=added,
            cores=cores,
            memory_gib=sum(node.memory_mib for node in fleet.nodes) / 1024,
            load=demand.load_of(fleet),
            seeds=len(results),
            qos=qos,
            be_cpu_seconds_per_s=mean_interval(done),
            be_share=share,
            verdict=_verdict(asked),
        )

    def answer(self, at: int | None, least: int, most: int) -> CapacityAnswer:
        """What a search has found: the least that meets the goal, or None."""
        tried = tuple(self.tried[k] for k in sorted(self.tried))
        if at is None:
            return CapacityAnswer(kind=self.kind, found=SearchEnd.NONE, candidate=self.tried[most], tried=tried)
        found = SearchEnd.LEAST if at == least else SearchEnd.FOUND
        return CapacityAnswer(kind=self.kind, found=found, candidate=self.tried[at], refuted=self.tried.get(at - 1), tried=tried)


def search_nodes(
    demand: CapacityDemand, goal: Goal, kind: NodeKind, make_cell: MakeCell, *, beside: bool = False, most: int | None = None
) -> Search:
    """The search for the least number of nodes of a kind, in place of the declared nodes or `beside` them."""
    if why := why_unfit(demand.fleet, kind, beside=beside):
        return CapacityAnswer(kind=kind.name, found=SearchEnd.UNFIT, why=why)
    least, cores = least_nodes(demand.fleet, beside=beside), mean_cores(demand.fleet, kind)
    lc, be = (demand.offered_cores(demand.seeds[0], of) for of in ServiceClass)
    if most is None:
        most = max(4 * least, math.ceil((lc + be) / IDLE / cores))
    if most < max(least, 1):
        raise UsageError(f"at most {most} nodes are asked for, expected {max(least, 1)} or more: each cluster has one")
    wanted = lc / LC_GUESS if goal.be_share is None else (lc + be) / ALL_GUESS
    first = least if beside else max(least, min(most, math.ceil(wanted / cores)))
    trial = _Trial(goal=goal, make_cell=make_cell, kind=kind.name)

    def meets(count: int) -> Generator[list[Cell], Sequence[CellResult], bool]:
        return (yield from trial.candidate(count, resized(demand.fleet, kind, count, beside=beside), demand, count))

    return trial.answer((yield from least_that(meets, least, most, first)), least, most)


def search_load(demand: CapacityDemand, goal: Goal, make_cell: MakeCell, *, step: float) -> Search:
    """The search for the highest load, in whole steps, that the declared fleet bears.

    It goes up to where LC alone would take all CPU, or where the BE work that is to be done would.
    """
    share = demand.workload.lc_load_share if demand.workload.be else 1.0
    if not (demand.workload.lc and share > 0.0):
        raise UsageError("the requests have no LC, so that there is no QoS rate to plan for")
    most_load = 1.0 / max(share, goal.be_share or 0.0)
    if not 0.0 < step <= most_load:
        raise UsageError(f"the step is {step:g}, expected above 0 and at most {most_load:g}")
    most = round(most_load / step)
    trial = _Trial(goal=goal, make_cell=make_cell, kind="as declared")

    def meets(at: int) -> Generator[list[Cell], Sequence[CellResult], bool]:
        # The less load, the later in the order of the search, whose end is what is surest to meet the goal.
        workload = dataclasses.replace(demand.workload, load=round((most + 1 - at) * step, 9))
        return (yield from trial.candidate(at, demand.fleet, dataclasses.replace(demand, workload=workload), 0))

    answer = trial.answer((yield from least_that(meets, 1, most, None)), 1, most)
    return dataclasses.replace(answer, tried=answer.tried[::-1])


def least_that(
    meets: Callable[[int], Generator[list[Cell], Sequence[CellResult], bool]], least: int, most: int, first: int | None
) -> Generator[list[Cell], Sequence[CellResult], int | None]:
    """The least number that meets, by bisection; None if `most` does not. From `first` it doubles until one does: larger ones cost more."""
    below, above = least - 1, most + 1
    at = (least + most) // 2 if first is None else first
    while above - below > 1:
        if (yield from meets(at)):
            above = at
        else:
            below = at
        doubles = above > most and first is not None
        at = min(max(2 * below, below + 1), most) if doubles else (below + above) // 2
    return above if above <= most else None


def carried_out(searches: Sequence[Search], goal: Goal, run: RunCells, *, of_loads: bool = False) -> CapacityPlan:
    """The plan of several searches, whose cells are simulated together, round by round. Raises: as `run`."""
    answers: dict[int, CapacityAnswer] = {}
    results: dict[int, Sequence[CellResult]] = {}
    under_way = list(range(len(searches)))
    while under_way:
        asked: dict[int, list[Cell]] = {}
        for k in under_way:
            try:
                asked[k] = searches[k].send(results[k]) if k in results else next(searches[k])
            except StopIteration as ended:
                answers[k] = ended.value
        under_way = list(asked)
        made = list(run([cell for cells in asked.values() for cell in cells])) if asked else []
        for k, cells in asked.items():
            results[k], made = made[: len(cells)], made[len(cells) :]
    return CapacityPlan(goal=goal, answers=tuple(answers[k] for k in range(len(searches))), of_loads=of_loads)


# ---- judging and telling -------------------------------------------------------------------------------------------------------


def _share(done: Sequence[float], offered: Sequence[float]) -> Mean:
    if not min(offered) > 0:
        raise UsageError("the requests have no BE work in the measured span, of which a share could be done; leave be_share out")
    return mean_interval([value / of for value, of in zip(done, offered, strict=True)])


def _verdict(asked: Sequence[tuple[Mean, float]]) -> TargetVerdict:
    if any(mean.high is not None and mean.high < least for mean, least in asked):
        return TargetVerdict.MISSED
    is_met = all(mean.low is not None and mean.low >= least for mean, least in asked)
    return TargetVerdict.MET if is_met else TargetVerdict.UNDECIDED


def _within(end: float | None) -> float | None:
    """The end of an interval of a share, which none is beyond."""
    return None if end is None else min(1.0, max(0.0, end))


def _percent(mean: Mean) -> str:
    text = f"{mean.mean:.2%}"
    low, high = _within(mean.low), _within(mean.high)
    return text if low is None or high is None else f"{text} [{low:.2%}, {high:.2%}]"


def _reached(one: CapacityCandidate) -> str:
    share = "" if one.be_share is None else f", BE share {_percent(one.be_share)}"
    return f"QoS rate {_percent(one.qos)}{share}, {one.seeds} seeds"


def _amount(one: CapacityCandidate, *, of_loads: bool) -> str:
    if of_loads:
        return f"load {one.load:.3g}"
    more = "" if one.added == one.nodes else f" more, {one.nodes} in all"
    return f"{one.added} nodes{more} ({one.cores:g} cores, {one.memory_gib:g} GiB)"


def _sentence(answer: CapacityAnswer, goal: Goal, *, of_loads: bool) -> str:
    one = answer.candidate
    if one is None:
        return f"{answer.kind}: cannot be had: {answer.why}"
    share = "" if goal.be_share is None else f" and a BE share of {goal.be_share:.6g}"
    target = f"a QoS rate of {goal.target_qos:.6g}{share}"
    amount, reached = _amount(one, of_loads=of_loads), _reached(one)
    if answer.found is SearchEnd.NONE:
        end = "not even the lowest load" if of_loads else "no number up to the most"
        return f"{answer.kind}: {end} that is asked for meets {target}; {amount}: {reached}"
    if answer.found is SearchEnd.LEAST:
        end = "the highest load" if of_loads else "the least"
        return f"{answer.kind}: {end} that is asked for meets {target}; {amount}: {reached}"
    other = answer.refuted
    against = "" if other is None else f"; {_amount(other, of_loads=of_loads)} not: {_reached(other)}"
    return f"{answer.kind}: {amount} {'meets' if of_loads else 'meet'} {target}: {reached}{against}"
