"""`tango bench explain --live`: how fast one request is explained in a store with so many that live, beside reading its row alone.

A PostgreSQL of its own gets the fleet `testbed`, with all nodes ready and an instance of every LC service on each, and two runs that go on:
two fifths of the requests are BE that wait for a node, the nodes hold some, and the others are LC in their live states. A network decides
nothing here: whatever it would choose, what fits is the same (`tango.control.explaining.place_of`).
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

from tango.bench.figures import Figure, Told
from tango.bench.store import CHUNK, own_database, p99, times_ms
from tango.control.explaining import Explainer
from tango.domain.fleet import Cluster, Fleet
from tango.domain.identity import RequestKey
from tango.domain.observations import InstanceState, NodeState
from tango.domain.services import ServiceClass
from tango.fleets import load_fleet
from tango.settings import BeSettings, LeaseSettings
from tango.store.database import Cursor, Database
from tango.store.explanations import PostgresExplanations
from tango.store.fleet import PostgresFleetStore
from tango.store.refusals import PostgresRefusals
from tango.store.requests import PostgresRequestStore
from tango.store.tenants import PostgresTenants

Result = TypeVar("Result")
FLEET = "testbed"
RUNS = 2
HELD = 200
"""BE requests that run: the nodes have no room for many more, so that others wait."""

_RUN = """
INSERT INTO run (kind, name, status, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, settings, started_at)
VALUES ('replayed', 'bench', 'running', 'tango', %s, '', 1, 1, true, 'bench', 7200, %s, '{}', now() - interval '1 hour')
RETURNING run_id
"""
# Of five: two BE that wait, one LC that is released, one that is due later, one that is dispatched. The first of the run are BE that run.
_REQUESTS = """
INSERT INTO request_{run} (run_id, request_id, class, service, cluster, due_s, target_s, cpu_work_s, memory_mib, state, epoch, attempt,
                           target_cluster, node, pod, released_at, dispatched_s, started_s, lease_until)
SELECT {run}, k, CASE WHEN is_be THEN 'be' ELSE 'lc' END::service_class,
       CASE WHEN is_be THEN (%(be)s::text[])[1 + k %% cardinality(%(be)s::text[])]
            ELSE (%(lc)s::text[])[1 + k %% cardinality(%(lc)s::text[])] END,
       (%(clusters)s::text[])[at], CASE WHEN k %% 5 = 3 THEN 3600 ELSE 0 END + k * 0.003, CASE WHEN NOT is_be THEN 0.3 END, 4, 512,
       (CASE WHEN is_held THEN 'running' WHEN is_be THEN 'pending' WHEN k %% 5 = 2 THEN 'released' WHEN k %% 5 = 3 THEN 'accepted'
             ELSE 'dispatched' END)::request_state,
       1, 1, CASE WHEN is_held OR k %% 5 = 4 THEN (%(clusters)s::text[])[at] END, CASE WHEN is_held OR k %% 5 = 4
       THEN (%(nodes)s::text[])[at] END, CASE WHEN is_held THEN 'be-r' || {run} || '-' || k || '-e1' END, now(),
       CASE WHEN is_held OR k %% 5 = 4 THEN 1 END, CASE WHEN is_held THEN 2 END, now() + interval '1 hour'
FROM (SELECT k, k < %(held)s OR k %% 5 < 2 AS is_be, k < %(held)s AS is_held, 1 + k %% cardinality(%(nodes)s::text[]) AS at
      FROM generate_series(%(first)s, %(last)s) k) drawn
"""
_ROW = "SELECT * FROM request WHERE run_id = %s AND request_id = %s"


def measure(*, live: int, reads: int, told: Told) -> list[Figure]:
    """Milliseconds of an explanation of one of `live` requests, drawn `reads` times, by state."""
    with tempfile.TemporaryDirectory(prefix="tango-bench-explain-") as home, own_database(Path(home) / "home") as database:
        return measure_in(database, live=live, reads=reads, told=told)


def measure_in(database: Database, *, live: int, reads: int, told: Told) -> list[Figure]:
    """`measure` in a database that has the schema and nothing else."""
    fleet, lease = load_fleet(FLEET), LeaseSettings(silent_s=86_400.0)  # no agent tells anything here
    fleets = PostgresFleetStore(database)
    fleets.declare(fleet, kubeconfig="", contexts={cluster.name: cluster.name for cluster in fleet.clusters})
    for cluster in fleet.clusters:
        fleets.observe(cluster.name, _nodes(cluster), _instances(fleet, cluster), sample=False)
    runs = [_filled(database, fleet, live // RUNS, told) for _ in range(RUNS)]
    database.execute("ANALYZE request")
    explainer = Explainer(
        store=PostgresExplanations(database, fleets, lease),
        requests=PostgresRequestStore(database, lease),
        refusals=PostgresRefusals(database),
        tenants=PostgresTenants(database),
    )
    draw, taken, rows, queries = random.Random(1), dict[str, list[float]](), list[float](), list[float]()
    told(f"explaining {reads} of {live:,} live requests")
    for _ in range(reads):
        key = RequestKey(draw.choice(runs), draw.randrange(live // RUNS))
        rows += times_ms(lambda key=key: database.rows(_ROW, key), 1)  # type: ignore[misc]
        with _time_in_queries(database) as spent_ms:
            state = str(explainer.request(key).standing.state)
        queries.append(sum(spent_ms))
        taken.setdefault(state, []).extend(times_ms(lambda key=key: explainer.request(key), 1))  # type: ignore[misc]
    every = [ms for of_state in taken.values() for ms in of_state]
    requests, settings = PostgresRequestStore(database, lease), BeSettings()
    looks = times_ms(lambda: requests.pending_be(limit=settings.batch_limit), reads)
    alone, alone_p99 = "reading its row alone", p99(rows)
    return [
        Figure(name="an explanation, p99", value=p99(every), unit="ms", yardstick=alone, yardstick_value=alone_p99),
        Figure(name="its queries, p99", value=p99(queries), unit="ms", yardstick=alone, yardstick_value=alone_p99),
        Figure(name="its queries, p50", value=median(queries), unit="ms", yardstick=alone, yardstick_value=median(rows)),
        Figure(name="what a placement reads, p50", value=median(looks), unit="ms", yardstick=alone, yardstick_value=median(rows)),
        *(
            Figure(name=f"of one {state}, p99", value=p99(ms), unit="ms", yardstick=alone, yardstick_value=alone_p99)
            for state, ms in sorted(taken.items())
            if len(ms) > 1
        ),
    ]


@contextmanager
def _time_in_queries(database: Database) -> Iterator[list[float]]:
    """Milliseconds of each read meanwhile, the way to the server and back included."""
    run, spent_ms = database.run, list[float]()

    def timed(work: Callable[[Cursor], Result], *, once: bool = False, reads_only: bool = False) -> Result:
        began_s, before = time.perf_counter(), len(spent_ms)
        try:
            return run(work, once=once, reads_only=reads_only)
        finally:
            if len(spent_ms) == before:  # it was none that others are part of
                spent_ms.append((time.perf_counter() - began_s) * 1e3)

    database.run = timed  # type: ignore[method-assign]
    try:
        yield spent_ms
    finally:
        database.run = run  # type: ignore[method-assign]


def _nodes(cluster: Cluster) -> list[NodeState]:
    return [
        NodeState(name=n.name, ready=True, cpu_allocatable_millicores=n.cpu_millicores, memory_allocatable_mib=n.memory_mib)
        for n in cluster.nodes
    ]


def _instances(fleet: Fleet, cluster: Cluster) -> list[InstanceState]:
    return [
        InstanceState(
            pod=f"lc-{service.name}-{node.name}-0",
            uid=f"uid-{service.name}-{node.name}",
            service=service.name,
            node=node.name,
            pod_ip="10.0.0.1",
            port=8080,
            ready=True,
            cpu_request_millicores=service.cpu_request_millicores,
            cpu_limit_millicores=service.cpu_limit_millicores,
            memory_limit_mib=service.instance_memory_mib,
        )
        for service in fleet.services
        if service.service_class is ServiceClass.LC
        for node in cluster.nodes
    ]


def _filled(database: Database, fleet: Fleet, requests: int, told: Told) -> int:
    ((run_id,),) = database.rows(_RUN, (fleet.name, requests))
    database.rows("SELECT make_request_partition(%s)", (run_id,))
    of = {
        "lc": _names(fleet, ServiceClass.LC),
        "be": _names(fleet, ServiceClass.BE),
        "clusters": [node.cluster for node in fleet.node_keys],
        "nodes": [node.name for node in fleet.node_keys],
        "held": min(HELD, requests // 10),
    }
    for first in range(0, requests, CHUNK):
        database.execute(_REQUESTS.format(run=run_id), {**of, "first": first, "last": min(first + CHUNK, requests) - 1})
    database.rows("SELECT attach_request_partition(%s)", (run_id,))
    told(f"run {run_id}: {requests:,} live requests")
    return int(run_id)


def _names(fleet: Fleet, service_class: ServiceClass) -> Sequence[str]:
    return [service.name for service in fleet.services if service.service_class is service_class]
