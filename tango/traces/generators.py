"""Seeded trace generators: `p1`, `p2`, `p3` mix periodic and random arrivals, `borg` follows statistics of Google's 2011 trace.

The patterns are those of the Tango paper (Feng et al., ICPP 2023), which names them without formulas: P1 has periodic LC and random BE,
P2 the reverse, P3 both random. Departures of ours: a periodic rate is a sine wave, and arrivals are its evenly spaced quantiles, without
chance; a random rate is drawn anew every two seconds, and arrivals are Poisson given the rate. The number of requests is exact:
round(rate x duration).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.near_names import near_name
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import UsageError
from tango.traces import borg_shape
from tango.traces.draws import lognormal, seeded
from tango.traces.hotspots import Hotspots, moved
from tango.traces.mapping import MEMORY_SPREAD, by_size
from tango.traces.transforms import BE_CLIP, LC_CLIP, with_mean

PATTERNS = ("p1", "p2", "p3", "borg")
MAX_REQUESTS = 50_000_000
"""Most requests of a trace, a bound on memory: 33 bytes each."""

# Chosen, not measured: the paper gives no figures for its patterns.
WAVES = 6
"""Periods of the wave in one trace."""
SWING = 0.8
"""Amplitude of the wave, as a share of the mean rate."""
PHASE_SPREAD = 0.25
"""Share of a period over which the phases of the clusters' waves are spread, so that clusters peak one after the other."""
SLOT_S = 2.0
"""Seconds for which a random rate holds; its coefficient of variation is 0.5 (gamma distribution of shape 4)."""

# Means (CPU-seconds) and coefficients of variation of works without a fleet, whose services would give them.
_DEFAULT_LC_WORK_S = 0.04
_DEFAULT_BE_WORK_S = 3.0
_LC_CV = 0.5
_BE_CV = 1.0

Arrivals = tuple[NDArray[np.float64], NDArray[np.int32]]
"""(times in seconds, rows of entry clusters) of one class, shape (n,) each, in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The parameters of a generated trace. Raises: UsageError for a value out of bounds."""

    pattern: str
    rate_per_s: float
    duration_s: float
    seed: int
    lc_share: float = 0.7
    clusters: int | None = None
    """Entry clusters; None: all of the fleet, or 3."""
    lc_work_s: float | None = None
    """Mean LC work, exact; None: that of the fleet's services, or 40 ms."""
    be_work_s: float | None = None
    """Mean BE work, exact; None: that of the fleet's services, or 3 s."""
    fleet: Fleet | None = None
    """Fleet whose clusters and services are named; None: clusters are numbers, and services are assigned when the trace is mapped."""
    hotspots: Hotspots | None = None

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise UsageError(
                f"there is no pattern {self.pattern!r}{near_name(self.pattern, PATTERNS)}; known patterns: {', '.join(PATTERNS)}"
            )
        for name in ("rate_per_s", "duration_s", "lc_work_s", "be_work_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and np.isfinite(value)):
                raise UsageError(f"{name} is {value:g}, expected a number above 0")
        if not 0 <= self.lc_share <= 1:
            raise UsageError(f"lc_share is {self.lc_share:g}, expected 0 to 1")
        if not 1 <= self.rate_per_s * self.duration_s + 0.5 <= MAX_REQUESTS:
            raise UsageError(
                f"{self.rate_per_s:g} requests per second for {self.duration_s:g} s, expected 1 to {MAX_REQUESTS} requests"
            )
        known = len(self.fleet.clusters) if self.fleet else 100_000
        if self.clusters is not None and not 1 <= self.clusters <= known:
            raise UsageError(f"clusters is {self.clusters}, expected 1 to {known}")

    @property
    def cluster_names(self) -> tuple[str, ...]:
        """Names of the entry clusters."""
        if self.fleet:
            return tuple(c.name for c in self.fleet.clusters)[: self.clusters]
        return tuple(str(k + 1) for k in range(self.clusters or 3))


def generate(recipe: Recipe) -> Trace:
    """The trace of a recipe; equal recipes give equal traces. Raises: UsageError if the fleet has no service of a needed class."""
    rng = seeded(recipe.seed, recipe.pattern)
    total = round(recipe.rate_per_s * recipe.duration_s) or 1
    lc = round(total * recipe.lc_share)
    parts = []
    for service_class, n in ((ServiceClass.LC, lc), (ServiceClass.BE, total - lc)):
        if n:
            parts.append(_one_class(recipe, service_class, n, rng))
    arrival, classes, service, cluster, work_s, memory_mib = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Rounded to microseconds, as CSV prints them, so that a trace that is written and read again is the same.
    arrival = np.round(arrival, 6)
    order = np.argsort(arrival, kind="stable")
    arrival, cluster = arrival[order], cluster[order]
    if recipe.hotspots:
        n = len(recipe.cluster_names)
        cluster = moved(cluster, arrival, recipe.hotspots, clusters=n, duration_s=recipe.duration_s, seed=recipe.seed)
    return Trace(
        arrival_s=arrival,
        service_class=classes[order],
        service=service[order],
        cluster=cluster,
        cpu_work_s=work_s[order],
        memory_mib=memory_mib[order],
        services=tuple(s.name for s in recipe.fleet.services) if recipe.fleet else ("",),
        clusters=recipe.cluster_names,
        source=_described(recipe),
    )


def arrivals(
    pattern: str,
    service_class: ServiceClass,
    count: int,
    duration_s: float,
    clusters: int,
    rng: np.random.Generator,
    phase_spread: float = PHASE_SPREAD,
) -> Arrivals:
    """Times from 0 to `duration_s` and entry clusters of `count` requests of one class, by a pattern of `PATTERNS`."""
    if pattern == "borg":
        return borg_shape.arrivals(count, duration_s, clusters, rng)
    periodic = {"p1": ServiceClass.LC, "p2": ServiceClass.BE}.get(pattern)
    if service_class is periodic:
        return _periodic(count, duration_s, clusters, rng, phase_spread)
    return _random(count, duration_s, clusters, rng)


def _one_class(
    recipe: Recipe, service_class: ServiceClass, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.generic], ...]:
    arrival, cluster = arrivals(recipe.pattern, service_class, count, recipe.duration_s, len(recipe.cluster_names), rng)
    if recipe.pattern == "borg":
        shape = borg_shape.works(service_class, count, rng)
        memory_mib = borg_shape.memories_mib(service_class, count, rng)
    else:
        shape = rng.standard_normal(count)
        memory_mib = np.full(count, np.nan)
    service, work_s, memory_mib = _works(recipe, service_class, shape, memory_mib, rng)
    return arrival, np.full(count, int(service_class), np.int8), service, cluster, work_s, memory_mib


def _periodic(count: int, duration_s: float, clusters: int, rng: np.random.Generator, phase_spread: float) -> Arrivals:
    """Waves whose phases differ by `phase_spread` periods over the clusters."""
    grid = np.linspace(0.0, duration_s, 1024 * WAVES + 1)
    counts = np.full(clusters, count // clusters)
    counts[: count % clusters] += 1
    begin = rng.random()
    times = []
    for k, entering in enumerate(counts):
        angle = 2 * np.pi * (WAVES * grid / duration_s + begin + phase_spread * k / clusters)
        reached = grid - SWING * duration_s / (2 * np.pi * WAVES) * (np.cos(angle) - np.cos(angle[0]))
        times.append(np.interp((np.arange(entering) + 0.5) / max(entering, 1) * reached[-1], reached, grid))
    return np.concatenate(times), np.repeat(np.arange(clusters, dtype=np.int32), counts)


def _random(count: int, duration_s: float, clusters: int, rng: np.random.Generator) -> Arrivals:
    """Poisson arrivals of random rates, which each cluster draws for itself."""
    slots = max(1, round(duration_s / SLOT_S))
    grid = np.linspace(0.0, duration_s, slots + 1)
    counts = rng.multinomial(count, np.full(clusters, 1.0 / clusters))
    times = []
    for entering in counts:
        reached = np.concatenate(([0.0], np.cumsum(rng.gamma(4.0, 0.25, slots))))
        times.append(np.interp(rng.random(entering) * reached[-1], reached, grid))
    return np.concatenate(times), np.repeat(np.arange(clusters, dtype=np.int32), counts)


def _works(
    recipe: Recipe,
    service_class: ServiceClass,
    shape: NDArray[np.float64],
    memory_mib: NDArray[np.float64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.float64]]:
    """Service, work and memory of requests; `shape` is relative works for `borg`, standard normals for the others."""
    is_lc = service_class is ServiceClass.LC
    clip = LC_CLIP if is_lc else BE_CLIP
    wanted = recipe.lc_work_s if is_lc else recipe.be_work_s
    n = len(shape)
    if recipe.fleet is None:
        mean_s = wanted or (_DEFAULT_LC_WORK_S if is_lc else _DEFAULT_BE_WORK_S)
        if recipe.pattern != "borg":
            shape = lognormal(shape, np.ones(n), np.full(n, _LC_CV if is_lc else _BE_CV))
        return np.zeros(n, np.int32), with_mean(shape, mean_s, clip=clip), memory_mib
    services = recipe.fleet.services
    choices = np.flatnonzero([s.service_class is service_class for s in services])
    if not len(choices):
        raise UsageError(
            f"fleet {recipe.fleet.name!r} has no {service_class.label} service; set the LC share to {0 if is_lc else 1}"
        )
    choices = choices[np.argsort([services[i].cpu_work_s for i in choices], kind="stable")]
    means = np.array([s.cpu_work_s for s in services])
    own_mib = np.array([float(s.memory_mib) for s in services])
    if recipe.pattern == "borg":
        work_s = with_mean(shape, wanted or float(means[choices].mean()), clip=clip)
        service = choices[by_size(work_s, len(choices))]
        memory_mib = np.clip(memory_mib, own_mib[service] / MEMORY_SPREAD, own_mib[service] * MEMORY_SPREAD)
    else:
        service = choices[rng.integers(0, len(choices), n)]
        spread = np.array([s.cpu_work_cv for s in services])
        work_s = lognormal(shape, means[service], spread[service])
        if wanted:
            work_s = work_s * (wanted / work_s.mean())
    return service.astype(np.int32), work_s, memory_mib


def _described(recipe: Recipe) -> str:
    left_out = ("pattern", "fleet", "hotspots")
    values = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if f.name not in left_out}
    given = [f"{name}={value:g}" for name, value in values.items() if value is not None]
    if recipe.hotspots:
        given.append(f"hotspots={recipe.hotspots.clusters} factor={recipe.hotspots.factor:g}")
    return " ".join(["generate", recipe.pattern, *given, *([f"fleet={recipe.fleet.name}"] if recipe.fleet else [])])
