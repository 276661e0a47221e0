"""What is trained on: drawn fleets (domain randomisation) and named ones, patterns of arrivals, loads.

A named fleet that is large is met in parts: a world holds a few clusters that are near each other. The network sees ratios of a fleet of
any size, and a large fleet's parts differ more than a large fleet from itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.traces.generators import SWING, WAVES
from tango.training.config import TrainingConfig
from tango.training.worlds import WorldSpec, draw_world

MOST_CLUSTERS = 6
MOST_NODES = 40
"""Of a world: as many as drawn ones have, about."""
LOADS = (0.5, 1.2)
LC_SHARES = (0.3, 0.6)
"""LC's part of a load."""
_GAMMA_SHAPE = 4.0
"""Of rates that are redrawn, as the patterns have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curriculum:
    """What a configuration asks to be trained on."""

    fleets: tuple[Fleet, ...] = ()
    patterns: tuple[str, ...] = ()
    loads: tuple[float, float] | None = None
    drawn_share: float = 1.0
    episode_s: float = 40.0

    def named_fleet(self, rng: np.random.Generator) -> Fleet | None:
        """One of the named fleets; None: this episode's is drawn. Where none is named, nothing is drawn from `rng`."""
        if not self.fleets or rng.uniform() < self.drawn_share:
            return None
        return self.fleets[int(rng.integers(len(self.fleets)))]

    def load(self, rng: np.random.Generator) -> tuple[float, float]:
        """A load and LC's share of it."""
        return float(rng.uniform(*(self.loads or LOADS))), float(rng.uniform(*LC_SHARES))


def curriculum_of(config: TrainingConfig) -> Curriculum:
    """Raises: UsageError or ConfigError for a fleet that cannot be read."""
    return Curriculum(
        fleets=config.named_fleets(),
        patterns=config.patterns,
        loads=config.loads,
        drawn_share=config.drawn_share,
        episode_s=config.episode_s,
    )


def draw_spec(curriculum: Curriculum, rng: np.random.Generator) -> WorldSpec:
    """A world of the curriculum; of one that names nothing, a drawn world as it is."""
    fleet = curriculum.named_fleet(rng)
    spec = draw_world(rng) if fleet is None else _part_of(fleet, rng)
    if fleet is not None or curriculum.loads is not None:
        spec = _loaded(spec, *curriculum.load(rng))
    if curriculum.patterns:
        pattern = curriculum.patterns[int(rng.integers(len(curriculum.patterns)))]
        spec = _patterned(spec, pattern, curriculum.episode_s)
    return spec


def _part_of(fleet: Fleet, rng: np.random.Generator) -> WorldSpec:
    """Clusters of a fleet around one of them, with its services and its interference."""
    rtt = fleet.rtt_ms()
    order = np.argsort(rtt[int(rng.integers(len(fleet.clusters)))], kind="stable")
    order = np.array([k for k in order if fleet.clusters[k].nodes][:MOST_CLUSTERS])
    nodes_of = np.array([len(fleet.clusters[k].nodes) for k in order])
    order = order[: max(1, int((np.cumsum(nodes_of) <= MOST_NODES).sum()))]
    clusters = [fleet.clusters[k] for k in order]
    nodes = [node for cluster in clusters for node in cluster.nodes]
    cores = np.array([node.cpu_millicores / 1e3 for node in nodes])
    be, lc = fleet.services_of(ServiceClass.BE), fleet.services_of(ServiceClass.LC)
    drawn = draw_world(rng, clusters=1)  # what a fleet does not say
    count = len(clusters)
    sizes = np.array([(s.cpu_request_millicores, s.cpu_limit_millicores, s.memory_mib) for s in be], np.float64)
    work = np.array([s.cpu_work_s for s in be])
    node_cluster = np.repeat(np.arange(count, dtype=np.int32), [len(c.nodes) for c in clusters])
    hot = rng.uniform(0.3, 1.7, count)[node_cluster] * rng.uniform(0.5, 1.5, len(nodes))
    return replace(
        drawn,
        node_cluster=node_cluster,
        cpu_cores=cores,
        memory_mib=np.array([float(node.memory_mib) for node in nodes]),
        beta=fleet.beta,
        rtt_ms=rtt[np.ix_(order, order)],
        lc_load=np.clip(0.2 * hot, 0.01, 0.5),
        lc_limit_cores=np.maximum(1.0, cores * rng.uniform(0.3, 1.0, len(nodes))),
        lc_swing=rng.uniform(0, 0.9, count)[node_cluster],
        lc_phase=rng.uniform(0, 2 * np.pi, count)[node_cluster],
        lc_work_s=float(np.mean([s.cpu_work_s for s in lc])) if lc else drawn.lc_work_s,
        lc_target_s=float(np.mean([s.target_ms or 0.0 for s in lc])) / 1e3 if lc else drawn.lc_target_s,
        sizes=sizes if len(be) else drawn.sizes,
        work_s=work if len(be) else drawn.work_s,
        be_rate=rng.dirichlet(np.full(count, 1.5)),
    )


def _loaded(spec: WorldSpec, load: float, lc_share: float) -> WorldSpec:
    """The world with so much CPU work offered, over its CPU, and LC's share of it."""
    cpu = float(spec.cpu_cores.sum())
    lc = load * lc_share
    found = float((spec.lc_load * spec.cpu_cores).sum()) / cpu
    rate = load * (1 - lc_share) * cpu / float(spec.work_s.mean())
    return replace(
        spec, lc_load=np.clip(spec.lc_load * lc / found, 0.01, 0.9), be_rate=spec.be_rate * rate / float(spec.be_rate.sum())
    )


def _patterned(spec: WorldSpec, pattern: str, episode_s: float) -> WorldSpec:
    """The world with arrivals after a pattern: a periodic class follows a wave, the rate of a random one is redrawn."""
    lc_periodic, be_periodic = pattern == "p1", pattern == "p2"
    return replace(
        spec,
        lc_period_s=episode_s / WAVES,
        lc_swing=np.full_like(spec.lc_swing, SWING if lc_periodic else 0.0),
        lc_burst=0.0 if lc_periodic else _GAMMA_SHAPE,
        be_swing=SWING if be_periodic else 0.0,
    )
