"""The roles of workers: each is built once per process and warmed up before it takes its first message.

What a role is made of is imported when it is built. All task modules are loaded by every worker, by beat and by Flower, and each of
these has one role or none: with the imports at the head of this file each took a second of CPU and a hundred megabytes more.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery import signals

from tango.errors import DependencyError
from workers.app import app
from workers.garbage import collect_rarely, keep_what_is_there
from workers.open_runs import OpenRuns
from workers.queues import CONTROL, REPLAY, SIMULATE, be_queue, submit_queue

if TYPE_CHECKING:
    from celery.worker import WorkController

    from tango.bootstrap.cluster_worker import ClusterWorker
    from tango.bootstrap.scheduler import Scheduler
    from tango.control.replay import Replay
    from tango.control.simulation_worker import SimulationWorker
    from tango.ports.spans import Spans

SIMULATOR_NICENESS = 10
"""nice(2) increment of a process that only simulates, so that it gives way to those that serve requests."""
SWITCH_INTERVAL_S = 0.0005
"""Longest time that a computing thread keeps the interpreter lock. Python's default of 5 ms is longer than a whole dispatch."""

OPEN_RUNS = OpenRuns(app)
"""By which a task says that a run is open, and periodic tasks are wanted."""


@functools.cache
def spans(role: str) -> Spans:
    """Where the spans of this process go, which has this one role."""
    from tango.bootstrap.environment import read_settings
    from tango.bootstrap.spans import spans_of

    made = spans_of(role, read_settings().tracing)
    signals.worker_shutdown.connect(lambda **_: made.close(), weak=False)  # after those that settle: they were connected before
    return made


@functools.cache
def cluster_worker(cluster: str) -> ClusterWorker:
    """This process's worker for a cluster: one process may serve several."""
    from tango.bootstrap.cluster_worker import ClusterWorker
    from tango.bootstrap.environment import read_settings
    from tango.bootstrap.journals import journal_of
    from workers.publisher import CeleryPublisher

    settings = read_settings()
    return ClusterWorker(cluster, journal_of(cluster, settings), CeleryPublisher(app), settings, spans=spans("worker"))


@functools.cache
def scheduler() -> Scheduler:
    """The scheduler of this process."""
    from tango.bootstrap.scheduler import Scheduler
    from tango.bootstrap.stores import stores
    from workers.publisher import CeleryPublisher
    from workers.run_figures import ComputingProcess

    return Scheduler(stores(), CeleryPublisher(app), ComputingProcess.begin, spans=spans("scheduler"))


@functools.cache
def replay() -> Replay:
    """The replayer of this process."""
    from tango.bootstrap.replayer import replay_of
    from tango.bootstrap.stores import stores
    from workers.publisher import CeleryPublisher

    return replay_of(stores(), CeleryPublisher(app))


@functools.cache
def simulation_worker() -> SimulationWorker:
    """The simulator of this process. It is built at its first message: engine, solver and torch are much for one that may only wait."""
    from tango.bootstrap.stores import stores
    from tango.bootstrap.sweeps import simulation_worker_of
    from tango.experiments.cells_on_workers import ClaimedCells

    return simulation_worker_of(stores(), ClaimedCells(checkpoints=stores().checkpoints, kept=stores().settings.explain))


def thread_owner() -> str:
    """`HOST:PID:THREAD` as owner of a lease: two slices of one run in threads of one process must not both hold its lease."""
    from tango.bootstrap.stores import stores

    return f"{stores().owner}:{threading.get_ident()}"


def admission_queues() -> set[str]:
    """`be.<cluster>` and `submit.<cluster>` of every cluster of the store; none while that is away: `consume_admissions` looks again."""
    from tango.bootstrap.stores import stores

    try:
        return {queue(cluster.name) for cluster in stores().fleet.clusters() for queue in (be_queue, submit_queue)}
    except DependencyError:
        return set()


def consume_admissions(worker: str) -> None:
    """Let the scheduler worker of this name consume the queues of clusters that have joined since it began."""
    for queue in sorted(admission_queues() - set(app.amqp.queues.consume_from)):
        app.control.add_consumer(queue, destination=[worker])


def serves_cluster(cluster: str) -> bool:
    """Whether this worker consumes the LC queues of the cluster, and so has its journal."""
    return cluster in clusters_served(app.amqp.queues.consume_from)


def clusters_served(queues: Iterable[str]) -> list[str]:
    """The clusters whose LC a worker of these queues serves, in order of their names."""
    parts = (name.partition(".") for name in queues)
    return sorted({cluster for kind, dot, cluster in parts if dot and kind in ("lc", "exec")})


@signals.worker_shutdown.connect  # type: ignore[untyped-decorator,unused-ignore]
def _close(sender: WorkController, **_: object) -> None:
    """Settle what has ended: the rest would wait for the lease of this process to run out."""
    for cluster in clusters_served(sender.app.amqp.queues.consume_from):
        cluster_worker(cluster).close()


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator,unused-ignore]
def _warm_up(instance: WorkController, **_: object) -> None:
    """Build, compile and load before the worker reports itself ready, so that its first task is as fast as later ones.

    Building here, before any pool thread runs, is also what keeps it single: `functools.cache` does not lock.
    """
    queues = set(instance.app.amqp.queues.consume_from)
    if queues == {SIMULATE}:
        os.nice(SIMULATOR_NICENESS)
        return
    # Threads that get an answer from PostgreSQL or the broker must not wait long for one that computes.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    if CONTROL in queues:
        scheduler().warm_up()
        instance.app.amqp.queues.select({*queues, *admission_queues()})
    for cluster in clusters_served(queues):
        cluster_worker(cluster).warm_up()
    if REPLAY in queues:
        replay()
    collect_rarely()
    keep_what_is_there()
