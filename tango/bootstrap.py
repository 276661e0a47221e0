"""Joins the parts: reads the environment once, and builds stores, gateways, policies and use cases of one process.

`World` is built per process and lazily, after any fork. What a process never uses is never imported into its life: the
network is loaded by the scheduler alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import uvloop

from tango.control.admission import admit_be
from tango.control.dispatch_lc import dispatch_waiting_lc
from tango.control.execute_lc import InstanceDirectory, LcExecutor
from tango.control.finish_run import finish_run
from tango.control.fleet_view import FleetView
from tango.control.place_be import place_pending_be
from tango.control.reassure import Reassurance
from tango.control.reconcile import reconcile
from tango.control.replay import replay_slice
from tango.domain.runs import NewRequests, RunInfo
from tango.errors import ConfigError, DependencyError, TangoError, UsageError
from tango.kube.agent import AgentStores, ClusterAgent
from tango.kube.api_client import KubeClient
from tango.kube.gateway import KubernetesGateway
from tango.kube.instance_calls import HttpInstanceCalls
from tango.ports import Publisher
from tango.settings import Settings
from tango.stack.state import read_stack, state_home
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tango.store.events import PostgresEventLog
from tango.store.fleet import PostgresFleetStore
from tango.store.leases import PostgresLeaseStore
from tango.store.requests import PostgresRequestStore
from tango.store.run_records import PostgresRunRecords
from tango.store.runs import PostgresRunStore
from tango.systems import BePolicy, be_policy, describe_checkpoint, lc_policy, system, warm_up_lc

log = structlog.get_logger(__name__)

ADDRESSES = {
    "database_url": "TANGO_DATABASE_URL",
    "reader_url": "TANGO_READER_URL",
    "broker_url": "TANGO_BROKER_URL",
    "kubeconfig": "TANGO_KUBECONFIG",
    "checkpoint": "TANGO_CHECKPOINT",
}


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from `TANGO_*` variables, and from the running stack's state file where the variables are silent.

    Addresses are named in `ADDRESSES`; a tunable is `TANGO_<GROUP>_<FIELD>`, as in `TANGO_BE_TICK_S=0.5`.
    Raises: ConfigError for a value that is not of its field's type.
    """
    env = os.environ if environment is None else environment
    found: dict[str, Any] = {field: env[name] for field, name in ADDRESSES.items() if env.get(name)}
    if "database_url" not in found or "broker_url" not in found:
        stack = read_stack(state_home(env))
        if stack is not None:
            for field in ADDRESSES:
                value = getattr(stack, field, "")
                # A user's own database has no reader role of ours: never pair their server with our reader.
                if value and field not in found and not (field == "reader_url" and "database_url" in found):
                    found[field] = value
    defaults = Settings()
    groups: dict[str, Any] = {
        name: _tunables(name, value, env)
        for name, value in ((f.name, getattr(defaults, f.name)) for f in dataclasses.fields(Settings))
        if dataclasses.is_dataclass(value)
    }
    return dataclasses.replace(defaults, **found, **groups)


def _tunables(group: str, default: Any, env: Mapping[str, str]) -> Any:
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(default):
        name = f"TANGO_{group}_{field.name}".upper()
        if name not in env:
            continue
        kind = type(getattr(default, field.name))
        try:
            changed[field.name] = env[name].lower() in ("1", "true", "yes") if kind is bool else kind(env[name])
        except ValueError as error:
            raise ConfigError(f"{name} is {env[name]!r}, expected {kind.__name__}") from error
    return dataclasses.replace(default, **changed)


def configure_logging(level: int | str = logging.INFO) -> None:
    """Events with fields, one line each, on standard error; libraries' own logs in the same form."""
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s", force=True)
    for noisy in ("aiohttp.access", "kombu", "amqp", "numba", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event"]),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class SystemClock:
    """The machine's wall clock."""

    def now_s(self) -> float:
        """Unix time in seconds."""
        return time.time()


class World:
    """One process's view of everything: stores, gateway, policies, and the use cases bound to them."""

    def __init__(self, settings: Settings) -> None:
        if not settings.database_url or not settings.broker_url:
            raise DependencyError(
                f"no running stack was found in {state_home(os.environ)} and TANGO_DATABASE_URL or TANGO_BROKER_URL is not set; "
                "start one with `tango up --detach`"
            )
        self.settings = settings
        self.clock = SystemClock()
        self.owner = f"{socket.gethostname()}:{os.getpid()}"
        self.database = Database(settings.database_url)
        self.runs = PostgresRunStore(self.database)
        self.requests = PostgresRequestStore(self.database, settings.lease)
        self.leases = PostgresLeaseStore(self.database)
        self.fleet = PostgresFleetStore(self.database)
        self.events = PostgresEventLog(self.database)
        self.records = PostgresRunRecords(self.database)
        self._executor_lock = threading.Lock()
        self._view = FleetView(lambda: self.fleet.snapshot(at_s=self.clock.now_s()), max_age_s=settings.lc.snapshot_max_age_s)
        self._runs_seen: dict[int, RunInfo] = {}
        self._be_policies: dict[str, BePolicy] = {}
        self._executor: LcExecutor | None = None

    @functools.cached_property
    def gateway(self) -> KubernetesGateway:
        """Calls to all joined clusters; its event loop starts with the first call."""
        return KubernetesGateway(self.fleet.credentials, self.fleet.services, self.settings.kube)

    def be_policy_of(self, run_id: int) -> BePolicy:
        """The BE policy of a run's system."""
        return self._be_policy(system(self.run_info(run_id).system).be)

    def _be_policy(self, name: str) -> BePolicy:
        if name not in self._be_policies:
            self._be_policies[name] = be_policy(name, self.settings)
        return self._be_policies[name]

    def _register_checkpoint(self) -> None:
        """Note the network in force, so that decisions can name it. A database that is away is no reason not to start."""
        try:
            found = describe_checkpoint(self.settings.checkpoint)
            PostgresCheckpointStore(self.database).register(found.pop("name"), **found)
        except TangoError as error:
            log.warning("checkpoint_not_registered", reason=str(error))

    def warm_up(self, *, places_be: bool) -> None:
        """Compile and load what the first request would otherwise wait for: torch and the network only where BE is placed."""
        if places_be:
            self._be_policy("dcg-be")
            self._register_checkpoint()
        else:
            warm_up_lc(self.settings.lc)

    @functools.cached_property
    def reassurance(self) -> Reassurance:
        """QoS re-assurance with its memory of recent resizes."""
        return Reassurance(
            fleet=self.fleet, events=self.events, requests=self.requests, gateway=self.gateway, settings=self.settings.sharing
        )

    def require_fleet(self, requests: NewRequests) -> None:
        """Check that the clusters and services of a run exist here. Raises: UsageError naming those that do not."""
        for kind, wanted, index, known in (
            ("cluster", requests.clusters, requests.cluster, {c.name for c in self.fleet.clusters()}),
            ("service", requests.services, requests.service, {s.name for s in self.fleet.services()}),
        ):
            unknown = sorted({wanted[k] for k in np.unique(index)} - known)
            if unknown:
                raise UsageError(
                    f"this stack has no {kind} {', '.join(unknown)}; it has: {', '.join(sorted(known))}. "
                    "Start the fleet that the run is for with `tango up --fleet`, or leave --fleet away."
                )

    def run_info(self, run_id: int) -> RunInfo:
        """A run's fixed facts, cached; read again until its zero is known."""
        seen = self._runs_seen.get(run_id)
        if seen is None or seen.started_at_s is None:
            seen = self._runs_seen[run_id] = self.runs.run(run_id)
        return seen

    def replay_slice(self, run_id: int, publisher: Publisher) -> dict[str, int | bool]:
        """One slice of the release of a run."""
        return replay_slice(
            run_id,
            owner=f"{self.owner}:{threading.get_ident()}",
            runs=self.runs,
            requests=self.requests,
            leases=self.leases,
            publisher=publisher,
            clock=self.clock,
            sleep=time.sleep,
            settings=self.settings.replay,
        )

    def dispatch_lc(self, run_id: int, cluster: str, request_ids: Sequence[int], publisher: Publisher) -> dict[str, int]:
        """Plan, record and send one batch of LC arrivals."""
        policy = lc_policy(system(self.run_info(run_id).system).lc)
        return dispatch_waiting_lc(
            run_id,
            cluster,
            request_ids,
            policy=policy,
            requests=self.requests,
            starter=self.executor(publisher) if self.settings.lc.start_here else None,
            owner=self.owner,
            view=self._view,
            publisher=publisher,
            settings=self.settings.lc,
            lease=self.settings.lease,
        )

    def execute_lc(self, run_id: int, cluster: str, request_ids: Sequence[int], epochs: Sequence[int], publisher: Publisher) -> int:
        """Claim dispatched LC requests and start their calls."""
        return self.executor(publisher).execute(run_id, cluster, request_ids, epochs, owner=self.owner)

    def executor(self, publisher: Publisher) -> LcExecutor:
        """The process's one executor."""
        with self._executor_lock:
            if self._executor is None:
                self._executor = LcExecutor(
                    requests=self.requests,
                    directory=InstanceDirectory(self.fleet),
                    calls=HttpInstanceCalls,
                    publisher=publisher,
                    run_zero_s=self.run_zero_s,
                    settings=self.settings.lc,
                    lease=self.settings.lease,
                )
            return self._executor

    def run_zero_s(self, run_id: int) -> float:
        """Unix time of a run's zero; now, while it has not begun."""
        zero_s = self.run_info(run_id).started_at_s
        return zero_s if zero_s is not None else self.clock.now_s()

    def admit_be(self, run_id: int, request_ids: Sequence[int]) -> dict[str, int]:
        """Admit one batch of BE arrivals."""
        return admit_be(run_id, request_ids, requests=self.requests, snapshot=self._view.current())

    def place_be(self) -> dict[str, int]:
        """One scheduling cycle of the centre."""
        return place_pending_be(
            owner=self.owner,
            policy_of=self.be_policy_of,
            requests=self.requests,
            fleet=self.fleet,
            leases=self.leases,
            gateway=self.gateway,
            clock=self.clock,
            settings=self.settings.be,
            lease=self.settings.lease,
        )

    def reassure(self) -> dict[str, int]:
        """One round of re-assurance; without a run that wants it, instances go back to their declared size."""
        if self.leases.acquire("reassure", owner=self.owner, ttl_s=5.0) is None:
            return {"resizes": 0, "evictions": 0}
        active = self.runs.active_runs()
        if not any(run.reassure for run in active):
            return self.reassurance.restore(now_s=self.clock.now_s())
        return self.reassurance.round(now_s=self.clock.now_s(), run_ids=[run.run_id for run in active])

    def reconcile(self, publisher: Publisher) -> dict[str, int]:
        """One sweep."""
        return reconcile(
            owner=self.owner,
            runs=self.runs,
            requests=self.requests,
            leases=self.leases,
            publisher=publisher,
            finish_run=lambda run: finish_run(run, runs=self.runs, records=self.records),
            settings=self.settings.lease,
        )


@functools.cache
def world() -> World:
    """This process's world, built at the first call."""
    return World(read_settings())


def run_cluster_agent(cluster: str) -> None:
    """Run a cluster's agent in the foreground until SIGTERM or SIGINT."""
    found = world()

    async def main() -> None:
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stopped.set)
        path, context = found.fleet.credentials(cluster)
        async with await KubeClient.from_kubeconfig(path, context, found.settings.kube, cluster=cluster) as client:
            stores = AgentStores(fleet=found.fleet, requests=found.requests, run_zero_s=found.run_zero_s)
            agent = ClusterAgent(cluster, client, stores, found.settings.kube, found.settings.lease)
            running = asyncio.create_task(agent.run())
            stopping = asyncio.create_task(stopped.wait())
            await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    uvloop.run(main())


def default_home() -> Path:
    """The state folder in force."""
    return state_home(os.environ)
