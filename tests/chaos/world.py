"""A chaos world: three clusters and their centre, every process in its production composition, and one run of requests through them."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tango.bootstrap.agent import Lines, keep_running
from tango.bootstrap.cluster_worker import ClusterWorker
from tango.bootstrap.replayer import replay_of
from tango.bootstrap.scheduler import Scheduler
from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.lifecycle import TERMINAL
from tango.domain.requests import LcWork
from tango.domain.runs import ENDED, LiveUse, NewRequests, NewRun, RunKind
from tango.domain.services import Service, ServiceClass
from tango.domain.state_lists import LIVE_STATES
from tango.errors import StoreUnavailable, TangoError
from tango.journal.journal import SqliteJournal
from tango.ports.figures import FiguresClaim
from tango.settings import Settings
from tests.chaos.broker import Broker, publisher_of
from tests.chaos.callers import Callers
from tests.chaos.centre import Centre, ClockedState, Here, WatchedRow
from tests.chaos.checks import Checks
from tests.chaos.cluster import ApiServer, Client, Kubelets
from tests.chaos.disks import Disk
from tests.chaos.gateways import Gateways, SimulatedServiceCalls
from tests.chaos.host import Loop
from tests.chaos.instances import SimulatedCalls
from tests.chaos.job_callers import JobCallers
from tests.chaos.network import CENTRE, Network
from tests.chaos.timeline import Machine, Process, Timeline
from workers.queues import CONTROL, REPLAY, be_queue, exec_queue, lc_queue

LASTS_S = 600.0
"""Simulated seconds of a world."""
MOST_S = 900.0
"""Simulated seconds after which a world ends although requests are live: a policy that keeps BE at home may have a queue there."""
HEALED_AT_S = 320.0
"""From then on nothing goes wrong any more; leases, pauses and deadlines end well within the rest."""
RELEASED_BY_S = 440.0
"""By then all requests are due. So some come long after all is well, and must be served as if nothing had ever been wrong."""
CHECK_EVERY_S = 10.0
"""Seconds between two looks at everything at once."""
TAKEN_ANEW_S = 30.0
"""Seconds after all is well within which a journal that has lost something has its requests again."""
WORKERS = 2
"""Worker processes of each cluster."""

WEB = Service(name="web", service_class=ServiceClass.LC, cpu_work_s=0.05, memory_mib=32, target_ms=400.0, instance_memory_mib=128)
CHAT = Service(
    name="chat",
    service_class=ServiceClass.LC,
    cpu_work_s=0.2,
    memory_mib=64,
    target_ms=1000.0,
    instance_memory_mib=256,
    shed_after_targets=8.0,
)
BATCH = Service(
    name="batch",
    service_class=ServiceClass.BE,
    cpu_work_s=8.0,
    memory_mib=256,
    cpu_request_millicores=500,
    cpu_limit_millicores=2000,
)
LONG = Service(
    name="long",
    service_class=ServiceClass.BE,
    cpu_work_s=30.0,
    memory_mib=512,
    cpu_request_millicores=1000,
    cpu_limit_millicores=2000,
)
SERVICES = (WEB, CHAT, BATCH, LONG)
FLEET = Fleet(
    name="chaos",
    clusters=tuple(
        Cluster(
            name=f"c{k}",
            nodes=tuple(Node(name=f"n{n}", cpu_millicores=4000, memory_mib=8192) for n in range(2)),
            x_km=100.0 * k,
        )
        for k in range(1, 4)
    ),
    services=SERVICES,
    source_hash="c" * 64,
)
SYSTEMS = ("load-greedy", "k8s-native", "scoring")
"""Systems without a learned network: what decides is not under test."""


class SystemClock:
    """The port `Clock`, by the machine of whoever asks."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline

    def now_s(self) -> float:
        """Unix time."""
        return self._timeline.wall_s()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._timeline.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for."""

    requests: int = 500
    lc_share: float = 0.6
    callers: int = 120
    jobs: int = 25


class World:
    """One world of one seed."""

    def __init__(self, seed: int, settings: Settings, timeline: Timeline, load: Load) -> None:
        self.seed, self.settings, self.timeline = seed, settings, timeline
        self.began_s = timeline.now_s
        self.dice = random.Random(f"world {seed}")
        self.figures_every_s = random.Random(f"figures {seed}").choice((0.5, 15.0))
        """Seconds between two looks for ended runs, which are closed with their figures."""
        self.fleet, self.services = FLEET, {s.name: s for s in SERVICES}
        self.network = Network(timeline, random.Random(f"network {seed}"))
        self.centre = Centre(timeline, self.network, settings, random.Random(f"centre {seed}"))
        self.machines = {name: Machine(name) for name in (CENTRE, *(c.name for c in FLEET.clusters))}
        self.checks = Checks(self)
        WatchedRow.told, WatchedRow.added = self.checks.row_changed, self.checks.row_added
        requests = self.centre.stores["requests"]
        requests.settle = self.checks.settled_at_centre(requests.settle)
        self.folder = Path(tempfile.mkdtemp(prefix="tango-chaos-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
        self._observers: dict[str, sqlite3.Connection] = {}
        self.disks = {c.name: Disk(self.folder / f"{c.name}.db", random.Random(f"disk {c.name} {seed}")) for c in FLEET.clusters}
        self._taken_anew_by_s: dict[str, float] = {}
        """Clusters whose journal has lost something, with when the centre's requests are there again at the latest."""
        self.journals_away: dict[str, float] = {}
        """Clusters whose journal's disk is full, until when."""
        self.servers = {c.name: ApiServer(c, timeline, self.network) for c in FLEET.clusters}
        self.kubelets = {
            name: Kubelets(server, timeline, random.Random(f"kubelet {name} {seed}"), self.checks.pod)
            for name, server in self.servers.items()
        }
        self.brokers = {
            name: Broker(name, timeline, self.network, random.Random(f"broker {name} {seed}")) for name in self.machines
        }
        self.gateways = Gateways(timeline, self.network)
        self.processes: dict[str, Process] = {}
        self.restarts: Counter[str] = Counter()
        self.restart_after_s: dict[str, float] = {}
        """By process: how long it stays down when it is killed next."""
        timeline.on_death = self.died
        self.centre.fleet.declare(FLEET, kubeconfig="kubeconfig", contexts={c.name: c.name for c in FLEET.clusters})
        for cluster in FLEET.clusters:
            for k in range(WORKERS):
                self._add(f"worker-{k + 1} of {cluster.name}", cluster.name, self._worker(cluster.name))
            self._add(f"agent of {cluster.name}", cluster.name, self._agent(cluster.name))
            self._add(f"gateway of {cluster.name}", cluster.name, self._gateway(cluster.name))
        self._add("scheduler", CENTRE, self._scheduler)
        self._add("scheduler-2", CENTRE, self._scheduler)
        self._add("replayer", CENTRE, self._replayer)
        self._add("beat", CENTRE, self._beat)
        self.jobs = JobCallers(self)
        self.jobs.draw(load.jobs, RELEASED_BY_S - 40.0, random.Random(f"jobs {seed}"))
        self._add("job-callers", CENTRE, self.jobs.life(self._here))
        self.run_id = self._submit(load)
        self.centre.state.live_use = LiveUse(system=SYSTEMS[(seed + 1) % len(SYSTEMS)], reassure=seed % 3 != 0)
        self.callers = Callers(self, self.gateways)
        self.callers.begin(load.callers, RELEASED_BY_S, random.Random(f"callers {seed}"))
        self.cancelled = False
        self.healed_at_s = self.began_s + HEALED_AT_S

    def close(self) -> None:
        """Drop what the world holds."""
        for process in self.processes.values():
            process.kill()
        for connection in self._observers.values():
            connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        del WatchedRow.told, WatchedRow.added, ClockedState.timeline

    # ---- processes -----------------------------------------------------------------------------------------------------

    def _add(self, name: str, site: str, begin: Callable[[], None]) -> None:
        process = Process(name, self.machines[site], self.timeline, begin)
        self.processes[name] = process
        self.timeline.at(self.timeline.now_s + self.dice.uniform(0.0, 2.0), process.start)

    def restart(self, process: Process, after_s: float) -> None:
        """Begin it anew, as its supervisor would."""
        life = process.life

        def again() -> None:
            if not process.alive and process.life == life:
                self.restarts[process.name.partition(" ")[0]] += 1
                process.start()

        self.timeline.at(self.timeline.now_s + after_s, again)

    def will_restart(self, process: Process, after_s: float) -> None:
        """When the process dies next, begin it anew so much later."""
        self.restart_after_s[process.name] = after_s

    def died(self, process: Process) -> None:
        """Its supervisor sees it end."""
        self.restart(process, self.restart_after_s.pop(process.name, 1.0))

    def is_live(self) -> bool:
        """Whether some request has not ended at the centre."""
        return any(row.state not in TERMINAL for run in self.centre.state.runs.values() for row in run.rows)

    def heal(self) -> None:
        """All is well from now on: whatever is down comes back."""
        self.network.heal()
        now_s = self.timeline.now_s
        self.centre.away_until_s = self.centre.repeats_until_s = 0.0
        self.journals_away.clear()
        self.gateways.breaks = 0.0
        self.gateways.kills_at_calls.clear()
        for server in self.servers.values():
            server.down_until_s = server.throttles_until_s = server.lags_until_s = 0.0
        for broker in self.brokers.values():
            broker.away_until_s = broker.drops_until_s = broker.doubles_until_s = broker.shuffles_until_s = 0.0
        for process in self.processes.values():
            process.killed_at_step = -1
            process.frozen_until_s = min(process.frozen_until_s, now_s)

    async def _connect(self, path: str, context: str, settings: Any, *, cluster: str) -> Client:
        return Client(self.servers[cluster], settings)

    def _journal(self, cluster: str, settings: Settings) -> SqliteJournal:
        """The journal as one process opens it, each of its transactions a step."""
        journal = SqliteJournal(
            self.folder / f"{cluster}.db",
            cluster=cluster,
            lease=settings.lease,
            lc=settings.lc,
            store=settings.store,
            call=settings.call,
            wall_s=self.timeline.wall_s,
            boot=f"{cluster} {self.machines[cluster].boots}",
        )
        disk = self.disks[cluster]
        database: Any = journal._database
        read, write, timeline, away = database.read, database.write, self.timeline, self.journals_away

        def stepped(kind: str, real: Callable[[Any], Any]) -> Callable[[Any], Any]:
            def call(work: Any) -> Any:
                with timeline.step(f"{kind} journal of {cluster}", 0.0002):
                    if away.get(cluster, 0.0) > timeline.now_s and self.dice.random() < 0.7:
                        self.network.seen.add("journal's disk full")
                        raise StoreUnavailable(f"the disk of the journal of {cluster} is full")
                    result = real(work)
                    if kind == "write":
                        observer = self._observer(cluster)
                        self.checks.journal_written(cluster, observer)
                        disk.written(observer)
                return result

            return call

        def synced(real: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                with timeline.step(f"sync journal of {cluster}", 0.01):
                    real()
                    disk.synced(lambda: self._observer(cluster))

            return call

        database.read, database.write = stepped("read", read), stepped("write", write)
        database.sync, database.checkpoint = synced(database.sync), synced(database.checkpoint)
        hold: Any = journal.hold

        def held(name: str, **of: Any) -> bool:
            holds: bool = hold(name, **of)
            self.checks.journal_held(cluster, self._observer(cluster))
            return holds

        journal.hold = held  # type: ignore[method-assign]
        settle = journal.settle
        journal.settle = lambda outcomes: self.checks.settled_in(cluster, settle, outcomes)  # type: ignore[method-assign]
        return journal

    def lose_power(self, site: str, down_s: float) -> None:
        """A machine falls at once, and with it what its disks have not written."""
        for process in self.processes.values():
            if process.machine.name == site and process.alive:
                process.kill()
                self.restart(process, down_s + self.dice.uniform(0.0, 2.0))
        self.machines[site].boots += 1
        self.brokers[site].lose_power()
        self.network.seen.add("power lost")
        if site == CENTRE:
            self.centre.lose_power()
            return
        self._forget_observer(site)
        self.disks[site].lose_power()
        lost = self.checks.journal_cut(site, self._observer(site)) if self.disks[site].path.exists() else 0
        if lost:
            self.network.seen.add("end of a journal lost")

    def lose_journal(self, cluster: str, down_s: float | None) -> None:
        """The disk of a journal is gone; the processes that use it fall with it for so long, or find another one in its place."""
        for process in self.processes.values():
            if down_s is not None and process.machine.name == cluster and process.alive:
                process.kill()
                self.restart(process, down_s + self.dice.uniform(0.0, 2.0))
        self.network.seen.add("journal lost")
        self._forget_observer(cluster)
        self.disks[cluster].vanish()
        self.checks.journal_lost(cluster)

    def _forget_observer(self, cluster: str) -> None:
        self._taken_anew_by_s[cluster] = self.healed_at_s + TAKEN_ANEW_S
        if cluster in self._observers:
            self._observers.pop(cluster).close()

    def _observer(self, cluster: str) -> sqlite3.Connection:
        found = self._observers.get(cluster)
        if found is None:
            found = self._observers[cluster] = sqlite3.connect(self.folder / f"{cluster}.db", isolation_level=None)
        return found

    def _worker(self, cluster: str) -> Callable[[], None]:
        def begin() -> None:
            broker = self.brokers[cluster]
            dice = random.Random(self.dice.random())
            worker = ClusterWorker(
                cluster,
                self._journal(cluster, self.settings),
                publisher_of(broker),
                self.settings,
                calls=lambda: SimulatedCalls(cluster, self.kubelets, self.timeline, self.network, dice, self._served),
                service_calls=lambda: SimulatedServiceCalls(cluster, self.kubelets, self.gateways, dice),
            )
            worker.begin()
            broker.consume(
                [lc_queue(cluster), exec_queue(cluster)],
                {"tango.dispatch_lc": _dispatch(worker), "tango.execute_lc": _execute(worker)},
                slots=4,
            )

        return begin

    def _here(self) -> Any:
        """The stores of a new process at the centre."""
        return Here(self.centre, self.settings, f"{CENTRE}:{self.dice.randrange(1 << 30)}", SystemClock(self.timeline))

    def _gateway(self, cluster: str) -> Callable[[], None]:
        def begin() -> None:
            publisher = publisher_of(self.brokers[cluster])
            self.gateways.run(cluster, self._journal(cluster, self.settings), publisher, self.settings)

        return begin

    def _agent(self, cluster: str) -> Callable[[], None]:
        def begin() -> None:
            here: Any = Here(self.centre, self.settings, f"{cluster}:{self.dice.randrange(1 << 30)}", SystemClock(self.timeline))
            lines = Lines(here, [cluster])
            lines.start()
            loop = Loop(self.timeline)
            loop.run_until_complete(keep_running(cluster, here, lines, journal=self._journal, connect=self._connect))

        return begin

    def _scheduler(self) -> None:
        here = self._here()
        broker = self.brokers[CENTRE]
        scheduler = Scheduler(here, publisher_of(broker), _no_figures, connect=self._connect)
        broker.consume(
            [CONTROL, *(be_queue(c.name) for c in FLEET.clusters)],
            {
                "tango.admit_be": lambda run_id, cluster, request_ids: _logged(
                    lambda: scheduler.admission.admit(run_id, request_ids)
                ),
                "tango.place_be": lambda: _logged(scheduler.placement.tick),
                "tango.reassure": lambda: _logged(scheduler.reassurance.next),
                "tango.reconcile": lambda: _logged(scheduler.reconciliation.sweep),
                "tango.sweep_cancelled": lambda: _logged(lambda: scheduler.cancel_sweep.sweep(owner=here.owner)),
            },
            slots=4,
        )
        while True:  # the figures of ended runs, whose computation is not under test
            claim = self._claimed(here)
            if claim is not None:
                with contextlib.suppress(Exception):
                    here.figures.save(claim, {}, {})
            self.timeline.sleep(self.figures_every_s)

    def _claimed(self, here: Any) -> FiguresClaim | None:
        try:
            found: FiguresClaim | None = here.figures.claim(lease_s=30.0, most_claims=100)
        except Exception:  # the store is away
            return None
        return found

    def _replayer(self) -> None:
        here = self._here()
        broker = self.brokers[CENTRE]
        publisher = publisher_of(broker)
        work = replay_of(here, publisher)

        def replay_run(run_id: int) -> None:
            owner = f"{here.owner}:{self.dice.randrange(1 << 30)}"
            if work.slice(run_id, owner=owner)["again"]:
                publisher.replay(run_id)

        broker.consume([REPLAY], {"tango.replay_run": lambda run_id: _logged(lambda: replay_run(run_id))}, slots=2)

    def _beat(self) -> None:
        broker, s = self.brokers[CENTRE], self.settings
        due = {
            "tango.place_be": [0.0, s.be.tick_s, 5.0],
            "tango.reassure": [0.0, s.sharing.tick_s, 5.0],
            "tango.reconcile": [0.0, s.ticks.reconcile_s, 5.0],
            "tango.sweep_cancelled": [0.0, s.cancel.tick_s, 5.0],
        }
        while True:
            task = min(due, key=lambda name: due[name][0])
            at_s, every_s, expires_s = due[task]
            self.timeline.sleep(at_s - self.timeline.now_s)
            is_open = any(
                run.info.status not in ENDED
                and (run.info.kind is not RunKind.LIVE or any(r.state not in TERMINAL for r in run.rows))
                for run in self.centre.state.runs.values()
            )
            if broker.away_until_s <= self.timeline.now_s:
                broker.put(task, {}, CONTROL, expires_s=expires_s)
            due[task][0] = self.timeline.now_s + (every_s if is_open else max(every_s, s.ticks.idle_s * 3))

    # ---- the run -------------------------------------------------------------------------------------------------------

    def _submit(self, load: Load) -> int:
        rng = np.random.default_rng(self.seed)
        n = load.requests
        is_lc = rng.random(n) < load.lc_share
        # Half of them come evenly, half in three bursts.
        due_s = np.where(
            rng.random(n) < 0.5,
            rng.uniform(0.0, RELEASED_BY_S - 20.0, n),
            rng.choice(rng.uniform(0.0, RELEASED_BY_S - 20.0, 3), n) + rng.exponential(3.0, n),
        )
        order = np.argsort(due_s, kind="stable")
        service = np.where(is_lc, rng.integers(0, 2, n), rng.integers(2, 4, n))[order].astype(np.int32)
        is_lc = is_lc[order]
        means = np.array([s.cpu_work_s for s in SERVICES])[service]
        requests = NewRequests(
            due_s=np.minimum(due_s[order], RELEASED_BY_S),
            target_s=np.where(is_lc, np.array([(s.target_ms or 0.0) / 1e3 for s in SERVICES])[service], np.nan),
            service_class=np.where(is_lc, 0, 1).astype(np.int8),
            service=service,
            cluster=rng.integers(0, len(FLEET.clusters), n).astype(np.int32),
            cpu_work_s=means * rng.uniform(0.5, 1.5, n),
            memory_mib=np.array([s.memory_mib for s in SERVICES], np.float64)[service],
            services=tuple(s.name for s in SERVICES),
            clusters=tuple(c.name for c in FLEET.clusters),
        )
        run = NewRun(
            name=f"seed {self.seed}",
            system=SYSTEMS[self.seed % len(SYSTEMS)],
            fleet=FLEET.name,
            fleet_hash=FLEET.source_hash,
            seed=self.seed,
            speed=1.0,
            reassure=self.seed % 4 != 0,
            trace_source="chaos",
            span_s=float(due_s.max()),
        )
        run_id = self.centre.runs.create_run(run, requests)
        self.centre.state.watch(run_id)
        self.timeline.at(
            self.timeline.now_s + 8.0,
            lambda: self.brokers[CENTRE].put("tango.replay_run", {"run_id": run_id}, REPLAY),
        )
        return run_id

    def cancel(self) -> None:
        """As `tango run cancel` does."""
        self.centre.calling = "runs.cancel"
        self.cancelled = self.centre.runs.cancel(self.run_id)
        self.centre.calling = ""

    def turn_live(self) -> None:
        """As `tango live use` does: the run that callers send into is closed, and another one is opened."""
        state = self.centre.state
        self.centre.calling = "live_runs.set_use"
        others = [name for name in SYSTEMS if name != state.live_use.system]
        self.centre.stores["live_runs"].set_use(replace(state.live_use, system=self.dice.choice(others)))
        self.centre.calling = ""

    # ---- what the checks ask -------------------------------------------------------------------------------------------

    def journal_rows(self) -> dict[str, set[tuple[int, int]]]:
        """By cluster, (run, request) of all rows of its journal that are the journal's: those of callers stay after their end, for their
        answers to be fetched."""
        sql = f"SELECT run_id, request_id FROM request WHERE tenant IS NULL OR state IN {LIVE_STATES}"
        found: dict[str, set[tuple[int, int]]] = {}
        for cluster in self.fleet.clusters:
            if (self.folder / f"{cluster.name}.db").exists():
                with contextlib.suppress(sqlite3.OperationalError):  # it is just being made
                    rows = self._observer(cluster.name).execute(sql).fetchall()
                    found[cluster.name] = set(rows)
        return found

    def may_be_between(self, row: Any) -> bool:
        """Whether a request that was handed over may be in no journal just now: one that has lost it takes it once more."""
        return self.timeline.now_s < self._taken_anew_by_s.get(row.cluster, 0.0)

    def be_requeued(self, row: Any) -> None:
        """A BE request went back to wait; its attempt says why."""
        self.timeline.at(self.timeline.now_s, lambda: self._look_at_attempt(row.run_id, row.request_id))

    def _look_at_attempt(self, run_id: int, request_id: int) -> None:
        found = [a for a in self.centre.state.attempts if (a.run_id, a.request_id) == (run_id, request_id)]
        self.checks.requeued(run_id, request_id, f"request {run_id}/{request_id} at the centre", found[-1].reason)

    def _served(self, work: LcWork) -> None:
        self.checks.served[work.run_id, work.request_id] += 1

    def is_over(self) -> bool:
        """Whether every request has ended."""
        return all(row.state in TERMINAL for run in self.centre.state.runs.values() for row in run.rows)


def _dispatch(worker: ClusterWorker) -> Callable[..., Any]:
    return lambda run_id, cluster, request_ids: _logged(lambda: worker.dispatch.dispatch(run_id, cluster, request_ids))


def _execute(worker: ClusterWorker) -> Callable[..., Any]:
    def execute(run_id: int, cluster: str, request_ids: list[int], epochs: list[int]) -> Any:
        return _logged(lambda: worker.executor.execute(run_id, request_ids, epochs))

    return execute


def _logged(task: Callable[[], Any]) -> Any:
    """What Celery does with a task that fails: it logs it, and the message is gone."""
    with contextlib.suppress(TangoError):
        return task()


def _no_figures(claim: FiguresClaim) -> Any:
    raise AssertionError("figures are saved by the world")
