"""Whole runs of the simulator's engine as episodes of BE placement: what every learner of BE placement is trained and validated on.

An episode is a fleet, a workload and a world, all drawn by one seed; the rest of the system is `tango`'s (`dss-lc`, `burst`). What one
policy has over another in the same episode is the reward of training:

    BE CPU-seconds done in the measured span, in % of the mean of both
    - miss_price x LC requests that missed their target, in points
    - waste_price x work thrown away by evictions, in % of the work that both do on average

Work that is thrown away is no work done, so it counts already; the price is for what else an eviction costs (a pod made and stopped).

The evolution strategy takes the reward of a whole run (`advantage`); learners that learn from ticks (A2C, SAC) take the same reward in
parts, each at the tick after which it came about (`advantage_by_interval`). Both parts are differences between two runs of one episode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tango.analysis.metrics import lc_outcomes_of, measured_span, run_metrics, useful_share
from tango.domain.fleet import Fleet
from tango.domain.runs import NewRequests
from tango.domain.seeds import TRAINING
from tango.domain.services import Service, ServiceClass
from tango.experiments.cells import settings_with
from tango.experiments.tuning import tuned_settings
from tango.fleets import FleetRecipe, edge_machines, load_fleet
from tango.fleets.recipes import expand
from tango.sim.decision_costs import DecisionCosts
from tango.sim.outcomes import SimulatedRun
from tango.sim.simulate import Given, simulate
from tango.systems import BePolicy, system
from tango.traces.workloads import Workload, draw_requests
from tango.training.curriculum import Curriculum, Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeOutcome:
    """The figures of one episode that its reward is made of."""

    be_cpu_seconds_per_s: float
    missed: float
    """share of the LC requests"""
    wasted_per_s: float
    """CPU-seconds thrown away, per second"""
    ticks: int
    """BE decisions"""


def draw_be_episode(seed: int, curriculum: Curriculum) -> Episode:
    """The episode of a seed: one of the named fleets, or a drawn one with drawn BE services."""
    rng = np.random.default_rng(seed)
    fleet = curriculum.named_fleet(rng) or _drawn_fleet(rng)
    lc, be = (str(p) for p in rng.choice(curriculum.patterns or ("p1", "p2", "p3"), 2))
    low, high = curriculum.loads or (0.6, 1.25)
    sim = {
        "beta": float(rng.choice((0.0, 0.3, 0.3, 1.0))),
        "staleness_s": float(rng.choice((0.2, 1.0, 1.0, 3.0))),
        "be_tick_s": float(rng.choice((0.5, 1.0, 1.0, 2.0))),
        "stuck_after_s": 1e6,
    }
    return Episode(
        fleet=fleet,
        workload=Workload(
            lc=(lc,),
            be=(be,),
            duration_s=curriculum.episode_s,
            load=float(rng.uniform(low, high)),
            lc_load_share=float(rng.uniform(0.25, 0.5)),
        ),
        settings=settings_with(tuned_settings(system("tango")) | {"sim": sim}),
        seed=seed,
    )


@cache
def _base_fleet() -> Fleet:
    """Read once: reading it anew was a twentieth of an episode."""
    return load_fleet("testbed")


def _drawn_fleet(rng: np.random.Generator) -> Fleet:
    """2 to 16 clusters of 2 to 8 nodes of three kinds of machines; BE pods of drawn sizes and works."""
    base = _base_fleet()
    machines = edge_machines(rng.dirichlet((2.0, 3.0, 1.5)).tolist())
    recipe = FleetRecipe(
        clusters=int(rng.integers(2, 17)),
        nodes_min=2,
        nodes_max=8,
        area_km=float(rng.uniform(100, 1000)),
        seed=int(rng.integers(TRAINING.start, TRAINING.stop)),
        machines=machines,
    )
    factor = np.exp(rng.uniform(np.log(0.5), np.log(1.6), (len(base.services), 3)))
    services = tuple(_resized(s, *f.tolist()) for s, f in zip(base.services, factor, strict=True))
    return replace(base, name="drawn", clusters=expand(recipe), links=(), services=services)


def _resized(service: Service, cpu: float, memory: float, work: float) -> Service:
    if service.service_class is ServiceClass.LC:
        return service
    limit = int(min(1800, service.cpu_limit_millicores * cpu))
    return replace(
        service,
        cpu_limit_millicores=limit,
        cpu_request_millicores=max(1, limit // 2),
        memory_mib=int(min(1400, service.memory_mib * memory)),
        cpu_work_s=service.cpu_work_s * work,
    )


def simulate_be_episode(episode: Episode, be: BePolicy | None, requests: NewRequests | None = None) -> SimulatedRun:
    """Run it; None: `load-greedy` places. Decisions take no time. `requests` are the episode's, from one who has drawn them."""
    if requests is None:
        requests = draw_requests(episode.workload, episode.fleet, episode.seed)
    parts = system("tango")
    return simulate(
        episode.fleet,
        requests,
        parts if be is not None else replace(parts, be="load-greedy"),
        episode.settings,
        seed=episode.seed,
        span_s=episode.workload.duration_s,
        end_when_stuck=True,
        given=Given(costs=DecisionCosts([]), be=be),
    )


def run_be_episode(episode: Episode, be: BePolicy | None, requests: NewRequests | None = None) -> EpisodeOutcome:
    """What the run of an episode comes to."""
    return outcome_of(simulate_be_episode(episode, be, requests))


def outcome_of(run: SimulatedRun) -> EpisodeOutcome:
    """The figures of a run that its reward is made of."""
    metrics = run_metrics(run.outcomes, run.losses, run.samples, run.decisions, run.scaling)
    return EpisodeOutcome(
        be_cpu_seconds_per_s=float(metrics["be_cpu_seconds_per_s"] or 0.0),
        missed=1.0 - float(metrics["lc_qos_rate"] if metrics["lc_qos_rate"] is not None else 1.0),
        wasted_per_s=float(metrics["waste_cpu_seconds"] or 0.0) / run.outcomes.span_s,
        ticks=int((run.decisions.kind == ServiceClass.BE).sum()),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accrued:
    """How much of an `EpisodeOutcome` has come about by k instants; after the measured span all of it has."""

    be_cpu_seconds_per_s: NDArray[np.float64]
    """(k,) as the figure of the same name; so the others"""
    missed: NDArray[np.float64]
    """(k,) a request misses when its target runs out"""
    wasted_per_s: NDArray[np.float64]
    """(k,)"""

    def __sub__(self, other: Accrued) -> Accrued:
        return Accrued(
            be_cpu_seconds_per_s=self.be_cpu_seconds_per_s - other.be_cpu_seconds_per_s,
            missed=self.missed - other.missed,
            wasted_per_s=self.wasted_per_s - other.wasted_per_s,
        )


def accrued(run: SimulatedRun, at_s: NDArray[np.float64]) -> Accrued:
    """What a run has come to by these instants (k,), in order."""
    outcomes, losses = run.outcomes, run.losses
    measured = measured_span(outcomes)
    work_s = useful_share(outcomes, measured) * outcomes.cpu_work_s
    be = np.flatnonzero((outcomes.service_class == ServiceClass.BE) & (work_s > 0))
    # Useful work is spread evenly over the part of [started, finished] that lies in the measured span.
    ended_s = np.minimum(outcomes.finished_s[be], measured.end_s)
    began_s = np.clip(np.minimum(outcomes.started_s[be], outcomes.finished_s[be]), measured.start_s, ended_s)
    done = _spread_up_to(at_s, work_s[be], began_s, ended_s)
    answered = lc_outcomes_of(outcomes)
    missed = answered.decided & ~answered.met
    late_s = np.minimum(outcomes.due_s[missed] + outcomes.target_s[missed], measured.end_s)
    lost = measured.holds(losses.at_s)
    order = np.argsort(losses.at_s[lost], kind="stable")
    wasted = np.concatenate(([0.0], np.cumsum(losses.work_lost_s[lost][order])))
    return Accrued(
        be_cpu_seconds_per_s=done / measured.length_s,
        missed=np.searchsorted(np.sort(late_s), at_s, side="right") / max(1, int(np.count_nonzero(answered.decided))),
        wasted_per_s=wasted[np.searchsorted(losses.at_s[lost][order], at_s, side="right")] / outcomes.span_s,
    )


def _spread_up_to(
    at_s: NDArray[np.float64], work_s: NDArray[np.float64], began_s: NDArray[np.float64], ended_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(k,) how much of the works (m,), each spread evenly from its beginning to its end, is done at k instants; one without length is done
    at its end.

    By sums over what has begun and over what has ended, each sorted once, where every instant would look at all works.
    """
    length_s = ended_s - began_s
    rate = work_s / np.where(length_s > 0, length_s, 1.0)
    by_end, by_start = np.argsort(ended_s, kind="stable"), np.argsort(began_s, kind="stable")
    ended = np.searchsorted(ended_s[by_end], at_s, side="right")
    begun = np.searchsorted(began_s[by_start], at_s, side="right")
    rates = _sums(rate[by_start])[begun] - _sums(rate[by_end])[ended]
    offsets = _sums((rate * began_s)[by_start])[begun] - _sums((rate * began_s)[by_end])[ended]
    under_way = np.where(begun > ended, rates * at_s - offsets, 0.0)  # without rounding where nothing is
    return _sums(work_s[by_end])[ended] + under_way


def _sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m + 1,) sums of the first 0, 1, ... values."""
    return np.concatenate(([0.0], np.cumsum(values)))


def advantage(own: EpisodeOutcome, other: EpisodeOutcome, *, miss_price: float = 1.0, waste_price: float = 0.1) -> float:
    """What `own` has over `other` in the same episode, in per cent of BE work; 0 for what does as well."""
    of = _per_cent_of(own.be_cpu_seconds_per_s, other.be_cpu_seconds_per_s)
    done = of * (own.be_cpu_seconds_per_s - other.be_cpu_seconds_per_s)
    missed = 100.0 * (own.missed - other.missed)
    wasted = of * (own.wasted_per_s - other.wasted_per_s)
    return done - miss_price * missed - waste_price * wasted


def advantage_by_interval(
    own: Accrued, other: Accrued, *, miss_price: float = 1.0, waste_price: float = 0.1
) -> NDArray[np.float64]:
    """(k - 1,) the same reward, interval by interval between the k instants, the last of which is not before the measured span's end.

    Its sum is `advantage`, less what the two differ in before the first instant.
    """
    of = _per_cent_of(float(own.be_cpu_seconds_per_s[-1]), float(other.be_cpu_seconds_per_s[-1]))
    more = own - other
    worth = of * more.be_cpu_seconds_per_s - miss_price * 100.0 * more.missed - waste_price * of * more.wasted_per_s
    return np.diff(worth)


def _per_cent_of(own: float, other: float) -> float:
    return 100.0 / max(1e-9, (own + other) / 2)
