"""Queueing models for which theory has an answer: fleets and requests made in code, simulated once for each replication.

What Tango does beside serving is out of the way: windows are a hundredth of a work (and shorter, the more cores take requests), no decision
is charged, there is no network, no target is ever missed, instances stay as they are (rule `static`). A sojourn is counted from the instant
at which a request reaches its node, so that windows add nothing to it.

A replication begins with an empty model. Its first requests are left out (warm-up) and its last ones, beside which nobody arrives any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Cluster, Fleet, NetworkModel, Node
from tango.domain.outcomes import STATE_CODE
from tango.domain.plans import LcPlan
from tango.domain.requests import LcArrivals, RequestState
from tango.domain.runs import NewRequests
from tango.domain.services import Service, ServiceClass
from tango.domain.snapshot import FleetSnapshot
from tango.domain.systems import System
from tango.settings.bounds import LONGEST_S
from tango.settings.decisions import LcSettings, SharingSettings
from tango.settings.simulated import SimulationSettings
from tango.settings.simulation import SimSettings
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.validation.distributions import EXPONENTIAL, WorkLaw

WORK_S = 10.0
"""CPU-seconds of a mean work: long beside the shortest window that there is, short beside the longest pause between two samples."""
WINDOWS_PER_WORK = 100.0
"""Windows in a mean work, for each core that takes requests: then one request comes in about a hundred windows."""
PAUSE_S = 3600.0
"""Seconds between two samples where nobody wants more."""
LOOK_EVERY = 4.0
"""Mean works between two counts of the requests on a node; more often, the same ones would be counted."""
CROWD = 10
"""Cores by whose number windows are shortened where arrivals come by the thousand."""
COARSE = 0.25
"""In place of a number of cores where a policy in Python is asked in every window: 25 windows in a mean work. Of a thousand nodes few get
two requests in one, and all arrivals are rounded alike."""
NEVER_S = 1e9
"""A target that nobody misses."""
PLAIN = System(name="validation", lc="round-robin", be="load-greedy", sharing="static")
LC_ROW, BE_ROW = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Replication:
    """What one simulated world has shown."""

    figures: Mapping[str, float]
    controls: tuple[float, ...]
    """Figures of what was drawn whose mean is 0, in an order of the model's."""
    requests: int
    work_off: float
    """CPU-seconds that nodes have used, over the work of all requests, less 1: nothing is lost or done twice."""
    count_off: int
    """Most by which the engine's count of requests on nodes ever differed from what their starts and ends say."""


class QueueingModel(Protocol):
    """One model with its load."""

    @property
    def text(self) -> str:
        """What it is, for tables."""
        ...

    def replicate(self, rng: np.random.Generator) -> Replication:
        """Draw its requests, simulate them and measure."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OneNode:
    """One node that serves one LC service, every request with one core at most. Poisson arrivals."""

    cores: int
    load: float
    work: WorkLaw = EXPONENTIAL
    queue: bool = False
    """First come first served, a request to a core; False: all are in service at once and share the cores."""
    requests: int = 50_000
    looks: bool = False
    """Count requests every `LOOK_EVERY` mean works, for Little's law."""

    @property
    def text(self) -> str:
        """What it is, for tables."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"{cores} {'in turn' if self.queue else 'shared'}, load {self.load:g}, {self.work.text}"

    def replicate(self, rng: np.random.Generator) -> Replication:
        """Figures: `sojourn` and `wait` over mean work, `short` and `long` the same of the fifth of the shortest and of the longest works,
        `waited` the share of requests that found all cores busy, `little` the requests on the node over arrivals per second times sojourn.
        """
        gap = rng.exponential(1.0, self.requests)
        work = self.work.drawn(rng, self.requests)
        fleet = _fleet(nodes=1, cores=self.cores, places=self.cores if self.queue else 0)
        due_s = np.cumsum(gap) * WORK_S / (self.cores * self.load)
        settings = _settings(self.cores, pause_s=LOOK_EVERY * WORK_S if self.looks else PAUSE_S)
        requests = _requests(fleet, due_s, work)
        run = simulate(fleet, requests, PLAIN, settings)
        seen = _Seen(run, requests, settings)
        kept = _middle(self.requests)
        sojourn, brought = seen.sojourn[kept], work[kept]
        few, many = brought <= self.work.quantile(0.2), brought >= self.work.quantile(0.8)
        began, ended = seen.reached_s[kept][[0, -1]]
        figures = {
            "sojourn": float(sojourn.sum() / brought.sum()),
            "short": float(sojourn[few].sum() / brought[few].sum()),
            "long": float(sojourn[many].sum() / brought[many].sum()),
            "wait": float(seen.wait[kept].mean()),
            "waited": float(np.mean(seen.wait[kept] > 0.0)),
        }
        if self.looks:
            counted = run.lc_on_nodes[(seen.sampled_s >= began) & (seen.sampled_s < ended)]
            per_work = (len(sojourn) - 1) * WORK_S / (ended - began)
            figures["little"] = float(counted.mean() / (per_work * sojourn.mean()))
        return Replication(
            figures=figures,
            controls=(float(gap.mean() - 1.0), float(work.mean() - 1.0)),
            requests=self.requests,
            work_off=seen.work_off,
            count_off=seen.count_off,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManyNodes:
    """Many one-core nodes; each request goes to the least loaded of `choices` that are drawn at random, with replacement. Poisson arrivals.

    Without a period all are one cluster, whose dispatcher sees its nodes as they are. With one, each node is a cluster of its own and
    requests enter everywhere alike, so that nearly all that a dispatcher knows is what was last published.
    """

    nodes: int
    choices: int
    load: float
    work: WorkLaw = EXPONENTIAL
    period: float = 0.0
    """Mean works between two publications."""
    requests: int = 100_000
    warm: float = 0.3
    """Share of the requests that are left out at the beginning."""

    @property
    def text(self) -> str:
        """What it is, for tables."""
        board = f", published every {self.period:g} works" if self.period else ""
        return f"{self.nodes} nodes, least of {self.choices}, load {self.load:g}, {self.work.text}{board}"

    def replicate(self, rng: np.random.Generator) -> Replication:
        """Figure: `sojourn` over mean work."""
        gap = rng.exponential(1.0, self.requests)
        work = self.work.drawn(rng, self.requests)
        clusters = self.nodes if self.period else 1
        fleet = _fleet(nodes=self.nodes, cores=1, places=0, clusters=clusters)
        due_s = np.cumsum(gap) * WORK_S / (self.nodes * self.load)
        entry = rng.integers(clusters, size=self.requests, dtype=np.int32)
        requests = _requests(fleet, due_s, work, entry)
        settings = _settings(1, staleness_s=self.period * WORK_S) if self.period else _settings(COARSE, staleness_s=NEVER_S)
        given = Given(lc=LeastOf(self.choices, rng))
        run = simulate(fleet, requests, PLAIN, settings, given=given)
        seen = _Seen(run, requests, settings)
        kept = _middle(self.requests, self.warm)
        return Replication(
            figures={"sojourn": float(seen.sojourn[kept].sum() / work[kept].sum())},
            controls=(float(gap.mean() - 1.0), float(work.mean() - 1.0)),
            requests=self.requests,
            work_off=seen.work_off,
            count_off=seen.count_off,
        )


class LeastOf:
    """An LC policy: the least loaded of some nodes that are drawn at random, by the requests that the snapshot says are in flight there."""

    name = "least of d"

    def __init__(self, choices: int, rng: np.random.Generator) -> None:
        self._choices, self._rng = choices, rng

    def __call__(self, arrivals: LcArrivals, snapshot: FleetSnapshot, _settings: LcSettings) -> LcPlan:
        """A node for each arrival; those before it in the batch count."""
        count = len(arrivals)
        in_flight = snapshot.in_flight[LC_ROW].copy()
        node = np.empty(count, np.int32)
        drawn = self._rng.integers(len(snapshot.nodes), size=(count, self._choices))
        for k in range(count):
            least = drawn[k, np.argmin(in_flight[drawn[k]])]
            in_flight[least] += 1.0
            node[k] = least
        nothing = np.zeros(count, np.bool_)
        return LcPlan(node=node, late=nothing, shed=nothing, expected_s=np.zeros(count), policy=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoClasses:
    """One core for LC requests and for BE pods, which get what LC leaves. Poisson arrivals and exponential work of both."""

    first: float
    """Load of LC."""
    second: float
    """Load of BE."""
    requests: int = 30_000

    @property
    def text(self) -> str:
        """What it is, for tables."""
        return f"1 core, LC load {self.first:g} before BE load {self.second:g}"

    def replicate(self, rng: np.random.Generator) -> Replication:
        """Figures: `lc` and `be`, mean sojourn over mean work."""
        share = self.first / (self.first + self.second)
        counts = round(self.requests * share), self.requests - round(self.requests * share)
        gaps = [rng.exponential(1.0, count) for count in counts]
        works = [rng.exponential(1.0, count) for count in counts]
        dues = [np.cumsum(gap) * WORK_S / load for gap, load in zip(gaps, (self.first, self.second), strict=True)]
        due_s = np.concatenate(dues)
        order = np.argsort(due_s, kind="stable")
        row = np.repeat(np.array([LC_ROW, BE_ROW], np.int32), counts)[order]
        work = np.concatenate(works)[order]
        fleet = _fleet(nodes=1, cores=1, places=0, be=True)
        requests = _requests(fleet, due_s[order], work, row=row)
        window_s = WORK_S / WINDOWS_PER_WORK
        settings = _settings(1, pause_s=window_s)
        # No sample is wanted here, and a span of 0 has the centre asked only where pods wait.
        run = simulate(fleet, requests, PLAIN, settings, span_s=0.0)
        seen = _Seen(run, requests, settings)
        last_s = min(due[-1] for due in dues)
        kept = (requests.due_s > 0.1 * last_s) & (requests.due_s < 0.95 * last_s)
        lc, be = kept & (row == LC_ROW), kept & (row == BE_ROW)
        served_s = (run.outcomes.finished_s - run.outcomes.started_s) / WORK_S
        return Replication(
            figures={
                "lc": float(seen.sojourn[lc].sum() / work[lc].sum()),
                "be": float(served_s[be].sum() / work[be].sum()),
            },
            controls=tuple(float(drawn.mean() - 1.0) for drawn in (*gaps, *works)),
            requests=self.requests,
            work_off=seen.work_off,
            count_off=0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overloaded:
    """One node of many cores that begins empty and is offered more than it can serve, then less. Exponential work."""

    cores: int
    overload: float
    until: float
    """Mean works that the overload lasts."""
    then: float
    looks: tuple[float, ...]
    """Instants at which requests are counted, in mean works."""

    @property
    def text(self) -> str:
        """What it is, for tables."""
        return f"{self.cores} cores, load {self.overload:g} for {self.until:g} works, then {self.then:g}"

    def replicate(self, rng: np.random.Generator) -> Replication:
        """Figures: `at T`, requests on the node over its cores at each instant of `looks`."""
        end = max(self.looks) + 1.0
        mean = self.cores * np.array([self.overload * self.until, self.then * (end - self.until)])
        counts = rng.poisson(mean)
        due = np.concatenate((rng.uniform(0.0, self.until, counts[0]), rng.uniform(self.until, end, counts[1])))
        due.sort()
        work = rng.exponential(1.0, len(due))
        fleet = _fleet(nodes=1, cores=self.cores, places=0)
        settings = _settings(CROWD)  # a wait of a thousandth of a work is little beside the time scale of a fluid
        requests = _requests(fleet, due * WORK_S, work)
        run = simulate(fleet, requests, PLAIN, settings)
        seen = _Seen(run, requests, settings)
        return Replication(
            figures={look_name(at): float(seen.there_at(np.array([at * WORK_S]))[0] / self.cores) for at in self.looks},
            controls=(*(counts / mean - 1.0).tolist(), float(work.mean() - 1.0)),
            requests=len(due),
            work_off=seen.work_off,
            count_off=seen.count_off,
        )


def look_name(at: float) -> str:
    """Name of the figure that `Overloaded` gives for an instant."""
    return f"at {at:g}"


class _Seen:
    """A run as theory looks at it: times in mean works from where a request reaches its node."""

    def __init__(self, run: SimulatedRun, requests: NewRequests, settings: SimulationSettings) -> None:
        outcomes = run.outcomes
        if not (outcomes.state == STATE_CODE[RequestState.SUCCEEDED]).all():
            raise AssertionError("a request of a validation did not succeed, though nothing limits it")
        self._finished_s = outcomes.finished_s
        self.reached_s = window_begins(requests.due_s, settings.sim.lc_window_s)
        self.sojourn = (outcomes.finished_s - self.reached_s) / WORK_S
        self.wait = (outcomes.started_s - self.reached_s) / WORK_S
        self.wait[np.abs(self.wait) < 1e-9] = 0.0
        self.work_off = float(abs((run.lc_busy_s + run.be_busy_s) / requests.cpu_work_s.sum() - 1.0))
        self.sampled_s = np.unique(run.samples.at_s)
        off = np.abs(self.there_at(self.sampled_s) - run.lc_on_nodes) if len(run.lc_on_nodes) > 1 else np.zeros(1)
        self.count_off = int(off.max(initial=0))

    def there_at(self, at_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Requests that have reached their node before each of these instants and have not ended; what comes in the window that begins
        there is not there yet."""
        came = np.searchsorted(np.sort(self.reached_s), at_s - 1e-9, side="left")
        return came - np.searchsorted(np.sort(self._finished_s), at_s, side="right")


def window_begins(due_s: NDArray[np.float64], window_s: float) -> NDArray[np.float64]:
    """When the window begins in which each request is dispatched: the first at or after its due time, in the engine's own arithmetic."""
    window = np.ceil(due_s / window_s)
    window -= (window - 1.0) * window_s >= due_s
    window += window * window_s < due_s
    return np.asarray(window * window_s)


def _middle(count: int, warm: float = 0.1) -> slice:
    """Those that are measured: without the first, and without the last twentieth."""
    return slice(round(count * warm), count - count // 20)


def _fleet(*, nodes: int, cores: int, places: int, clusters: int = 1, be: bool = False) -> Fleet:
    """So many nodes, shared out evenly, each with one LC instance as large as it; `places` requests are in service at once, 0: all."""
    lc = Service(
        name="lc",
        service_class=ServiceClass.LC,
        cpu_work_s=WORK_S,
        memory_mib=1,
        target_ms=NEVER_S * 1e3,
        cpu_request_millicores=1,
        cpu_limit_millicores=cores * 1000,
        instance_memory_mib=places or 1_000_000,
    )
    pods = Service(
        name="be",
        service_class=ServiceClass.BE,
        cpu_work_s=WORK_S,
        memory_mib=1,
        cpu_request_millicores=1,
        cpu_limit_millicores=1000 * cores,
    )
    node = [Node(name=f"n{k}", cpu_millicores=cores * 1000, memory_mib=10_000_000, pods=1_000) for k in range(nodes)]
    each = nodes // clusters
    return Fleet(
        name="validation",
        clusters=tuple(Cluster(name=f"c{k}", nodes=tuple(node[k * each : (k + 1) * each])) for k in range(clusters)),
        services=(lc, pods) if be else (lc,),
        network=NetworkModel(base_rtt_ms=0.0, local_rtt_ms=0.0, rtt_ms_per_km=0.0, bandwidth_mbit_per_s=1e12),
        beta=0.0,
    )


def _requests(
    fleet: Fleet,
    due_s: NDArray[np.float64],
    work: NDArray[np.float64],
    entry: NDArray[np.int32] | None = None,
    row: NDArray[np.int32] | None = None,
) -> NewRequests:
    """Requests at these instants, with works in mean works; by default all of the LC service, and all enter at the first cluster."""
    count = len(due_s)
    service = np.zeros(count, np.int32) if row is None else row
    return NewRequests(
        due_s=due_s,
        target_s=np.where(service == LC_ROW, NEVER_S, np.nan),
        service_class=service.astype(np.int8),
        service=service,
        cluster=np.zeros(count, np.int32) if entry is None else entry,
        cpu_work_s=work * WORK_S,
        memory_mib=np.zeros(count),  # so that places alone limit how many are in service
        services=tuple(s.name for s in fleet.services),
        clusters=tuple(c.name for c in fleet.clusters),
    )


def _settings(cores: float, *, pause_s: float = PAUSE_S, staleness_s: float = PAUSE_S) -> SimulationSettings:
    """Windows as short as so many cores want them, everything else out of the way."""
    return SimulationSettings(
        sim=SimSettings(
            lc_window_s=WORK_S / WINDOWS_PER_WORK / cores,
            be_tick_s=pause_s,
            sample_every_s=pause_s,
            staleness_s=min(staleness_s, PAUSE_S * 1000),
            pod_start_s=0.0,
            stuck_after_s=LONGEST_S,
            charge_decisions=False,
        ),
        sharing=SharingSettings(tick_s=PAUSE_S * 1000),
    )
