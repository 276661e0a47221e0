"""`tango validate --live`: a live stack against queueing theory, as far as wall time allows.

The same queueing model as of `tango validate`: a node whose requests share its cores. Every cluster of the fleet is one such node with one
instance as large as it, and its requests enter there and stay (`round-robin` over one node, rule `static`). Works are a tenth of a second,
so that a core serves ten a second and the stack can keep up; all else is the way of every run: Celery, HTTP to the emulated instance,
PostgreSQL.

A sojourn is from the start to the end of the service, as the instance says: what the stack adds before it is no matter of the node
(`tango bench live` measures that). It delays requests by some milliseconds, and gives some of them out together, so that the starts on a
node are no Poisson process any more. Each model therefore has two yardsticks: the formula, of which the way of the requests takes its part,
and exact sharing of the very starts and works that were recorded, of which it takes none.

Each cluster's time is cut into batches that are far longer than the queue remembers, and each batch is a replication. A run of three
minutes gives intervals of some per cent where the simulated cells have a tenth of that.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tango.bench.figures import Told
from tango.bench.live import running
from tango.bench.waiting import wait_until
from tango.bootstrap.stores import Stores
from tango.bootstrap.submission import submission_of
from tango.control.submit import RunOrder
from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import TangoError
from tango.fleets.catalog import parse_fleet
from tango.report.tables import is_saturated
from tango.store.run_lists import RunFilter
from tango.validation import formulas
from tango.validation.distributions import DETERMINISTIC, EXPONENTIAL, PARETO, WorkLaw
from tango.validation.estimates import ComparedFigure, estimate, verdict
from tango.validation.exact_sharing import shared_sojourns_s
from workers.app import create_app
from workers.publisher import CeleryPublisher

WORK_S = 0.1
"""CPU-seconds of a mean work: long beside a turn of a busy host, and short enough for thousands of requests in a minute."""
LIVE_TOLERANCE = 0.1
"""Half-width of an interval over the formula's value that is asked for: three minutes give no more."""
NODE_TOLERANCE = 0.02
"""The same over exact sharing of the recorded starts: chance has no part in that, late wake-ups have."""
BATCH_S = 30.0
"""Seconds of a batch: some hundred times what a queue at these loads remembers."""
WARM_S = 5.0
"""Seconds at the beginning that are left out, in which nodes fill and connections are made."""
SYSTEM = "round-robin/load-greedy/static"
LONGEST_WAIT_S = 300.0
"""Seconds after the last arrival in which the run has to have ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveModel:
    """One node whose requests share its cores, on so many clusters."""

    cores: int
    load: float
    work: WorkLaw
    clusters: int

    @property
    def text(self) -> str:
        """What it is, for tables."""
        cores = "1 core" if self.cores == 1 else f"{self.cores} cores"
        return f"live: {cores} shared, load {self.load:g}, {self.work.text}"

    @property
    def rate_per_s(self) -> float:
        """Requests of each cluster."""
        return self.cores * self.load / WORK_S


MODELS = (
    LiveModel(cores=1, load=0.5, work=DETERMINISTIC, clusters=2),
    LiveModel(cores=4, load=0.7, work=EXPONENTIAL, clusters=2),
    LiveModel(cores=4, load=0.7, work=PARETO, clusters=2),
    LiveModel(cores=4, load=0.8, work=DETERMINISTIC, clusters=2),
)
"""Together 186 requests a second, an eighth of what two cores sustain: a host that is late would be measured, and not the nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedOnNode:
    """Requests of one cluster, in order of their due times; times in seconds, work and sojourn in mean works."""

    due_s: NDArray[np.float64]
    started_s: NDArray[np.float64]
    work: NDArray[np.float64]
    sojourn: NDArray[np.float64]


def measure(*, seconds: float = 180.0, seed: int = 1, told: Told = print) -> list[ComparedFigure]:
    """Draw `seconds` of requests for all models at once, run them live and compare.

    It starts a stack of its own in a temporary folder and touches no other. Raises: TangoError if the run does not end, if a request of it
    does not succeed, since nothing limits them, or if the host had no CPU left for too long (`HostSettings.saturated_share`).
    """
    text = _fleet_yaml()
    fleet = parse_fleet(text, "the fleet of this validation")
    with tempfile.TemporaryDirectory(prefix="tango-bench-") as folder:
        file = Path(folder) / "fleet.yaml"
        file.write_text(text, encoding="utf-8")
        with running(Path(folder) / "stack", str(file)) as stores:
            served = _run(stores, fleet, _trace(fleet, WARM_S + seconds, np.random.default_rng(seed)), told)
    begins = [WARM_S + BATCH_S * k for k in range(int(seconds // BATCH_S))]
    names, results = iter(cluster.name for cluster in fleet.clusters), []
    for model in MODELS:
        clusters = [served[next(names)] for _ in range(model.clusters)]
        told(f"{model.text}: {_way(model, clusters)}")
        results += compared(model, clusters, begins)
    return results


def _fleet_yaml() -> str:
    """Clusters of one node, some for each model. Each has instances of all services, and only that of its own model is called."""
    services = [
        f"    - {{name: m{m}, class: lc, cpu_work_s: {WORK_S}, memory_mib: 1, target_ms: 60000, instance_memory_mib: 4096, "
        f"cpu_request_millicores: 1, cpu_limit_millicores: {1000 * model.cores}}}"
        for m, model in enumerate(MODELS)
    ]
    clusters = [
        f"    - {{name: m{m}-{k}, nodes: [{{name: n, cpu_millicores: {1000 * model.cores}, memory_mib: 65536}}]}}"
        for m, model in enumerate(MODELS)
        for k in range(model.clusters)
    ]
    head = ["apiVersion: tango/v1", "kind: Fleet", "metadata: {name: theory}", "spec:", "  beta: 0.0"]
    return "\n".join((*head, "  clusters:", *clusters, "  services:", *services, ""))


def _trace(fleet: Fleet, seconds: float, rng: np.random.Generator) -> Trace:
    """Poisson arrivals at every cluster, with works of its model."""
    names = tuple(cluster.name for cluster in fleet.clusters)
    parts = []
    for m, model in enumerate(MODELS):
        for k in range(model.clusters):
            count = rng.poisson(model.rate_per_s * seconds)
            parts.append((rng.uniform(0.0, seconds, count), m, names.index(f"m{m}-{k}"), model.work.drawn(rng, count)))
    arrival_s = np.concatenate([due for due, *_ in parts])
    order = np.argsort(arrival_s, kind="stable")
    count = len(order)
    return Trace(
        arrival_s=arrival_s[order],
        service_class=np.full(count, int(ServiceClass.LC), np.int8),
        service=np.repeat([m for _, m, *_ in parts], [len(due) for due, *_ in parts])[order].astype(np.int32),
        cluster=np.repeat([c for *_, c, _ in parts], [len(due) for due, *_ in parts])[order].astype(np.int32),
        cpu_work_s=np.concatenate([work for *_, work in parts])[order] * WORK_S,
        memory_mib=np.ones(count),
        services=tuple(service.name for service in fleet.services),
        clusters=names,
        source="tango validate --live",
    )


def _run(stores: Stores, fleet: Fleet, trace: Trace, told: Told) -> dict[str, ServedOnNode]:
    submission = submission_of(stores, CeleryPublisher(create_app(stores.settings)))
    order = RunOrder(trace=trace, fleet=fleet, system=SYSTEM, name="against theory", seed=1)
    run_id = submission.submit(submission.prepare(order)).run_id
    span_s = float(trace.arrival_s[-1])
    told(f"{len(trace.arrival_s):,} requests in {span_s:.0f} s, on {len(fleet.clusters)} clusters")
    wait_until(
        lambda: not stores.runs.active_runs(),
        timeout_s=span_s + LONGEST_WAIT_S,
        every_s=0.5,
        failure=f"the run did not end within {LONGEST_WAIT_S:g} s of its last arrival",
    )
    (run,) = stores.run_lists.runs(RunFilter(), limit=1)
    if is_saturated(run["host_full"], stores.settings.host.saturated_share):
        raise TangoError(
            f"the host had no CPU left for {run['host_full']:.0%} of the run, so that it was measured and not the nodes; "
            "try again when nothing else runs on it"
        )
    rows = stores.database.rows(
        "SELECT cluster, due_s, started_s, cpu_work_s, finished_s - started_s, state::text FROM request WHERE run_id = %s ORDER BY due_s",
        (run_id,),
    )
    if others := sum(row[5] != "succeeded" for row in rows):
        raise TangoError(f"{others} of {len(rows)} requests did not succeed: this host is too busy for them")
    entered = np.array([row[0] for row in rows])
    figures = np.array([row[1:5] for row in rows], np.float64)
    found = {}
    for cluster in fleet.clusters:
        due_s, started_s, work_s, served_s = figures[entered == cluster.name].T
        found[cluster.name] = ServedOnNode(due_s=due_s, started_s=started_s, work=work_s / WORK_S, sojourn=served_s / WORK_S)
    return found


def _way(model: LiveModel, clusters: Sequence[ServedOnNode]) -> str:
    """What the way from due time to start does to the mean sojourn, in mean works."""
    by_due, by_start = (
        sum(float(shared_sojourns_s(at_s, one.work * WORK_S, model.cores).sum()) for one, at_s in times)
        for times in ([(one, one.due_s) for one in clusters], [(one, one.started_s) for one in clusters])
    )
    works_s = WORK_S * sum(float(one.work.sum()) for one in clusters)
    return f"shared exactly, requests take {by_due / works_s:.3f} works if they start when due, {by_start / works_s:.3f} as they started"


def compared(model: LiveModel, clusters: list[ServedOnNode], begins: Sequence[float]) -> list[ComparedFigure]:
    """The mean of all requests beside the formula and beside exact sharing of their starts; where works differ, the longest fifth too.

    Not of the shortest: their works are some milliseconds, and so late a process is woken whose clock says when they end.
    """
    batches = [(served, (served.due_s >= begin) & (served.due_s < begin + BATCH_S)) for served in clusters for begin in begins]
    expected_count = model.rate_per_s * BATCH_S
    controls = np.array(
        [(np.count_nonzero(inside) / expected_count - 1.0, served.work[inside].mean() - 1.0) for served, inside in batches]
    )
    many = model.work.quantile(0.8)
    parts: list[tuple[str, Callable[[NDArray[np.float64]], NDArray[np.bool_]]]] = [("", lambda work: np.ones(len(work), np.bool_))]
    if model.work.cv > 0.0:
        parts.append((" of the longest fifth", lambda work: work >= many))
    rows = []
    for words, of in parts:
        values = np.array([_ratio(served.sojourn, served.work, inside & of(served.work)) for served, inside in batches])
        rows.append(
            (f"sojourn / work{words}", "Erlang C", formulas.shared_sojourn(model.cores, model.load), values, LIVE_TOLERANCE)
        )
    exact = {id(one): shared_sojourns_s(one.started_s, one.work * WORK_S, model.cores) / WORK_S for one in clusters}
    values = np.array([_ratio(served.sojourn, exact[id(served)], inside) for served, inside in batches])
    rows.append(("sojourn / that of exact sharing of the same starts", "exact sharing", 1.0, values, NODE_TOLERANCE))
    results = []
    for figure, source, expected, values, tolerance in rows:
        found = estimate(values, controls if source == "Erlang C" else controls[:, :0])
        results.append(
            ComparedFigure(
                group="live stack",
                model=model.text,
                figure=figure,
                source=source,
                expected=expected,
                measured=found.mean,
                low=found.low,
                high=found.high,
                error=found.mean / expected - 1.0,
                half_width=found.half_width / expected,
                tolerance=tolerance,
                verdict=verdict(found, expected, tolerance),
                replications=len(batches),
                requests=int(sum(np.count_nonzero(inside) for _, inside in batches)),
            )
        )
    return results


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64], of: NDArray[np.bool_]) -> float:
    return float(part[of].sum() / whole[of].sum())
