"""The start and the stop of the whole local stack: folders and secrets, servers, schema, fleet, then every other process.

The supervisor's asyncio loop runs in a thread that lives from the first start to the last stop. So the command's own thread can wait
for Ctrl-C or go on working, and the parent-death signal, which is bound to the forking thread, is not sent too early (see `tether`).
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

import tango
from tango.domain.fleet import Fleet
from tango.domain.line import LineState
from tango.domain.services import ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.domain.tokens import new_token
from tango.errors import DependencyError, StoreUnavailable, UsageError
from tango.fleets import dump_fleet, load_fleet
from tango.fleets.extended import refuse_fractions
from tango.loop_thread import LoopThread
from tango.settings import MetricsSettings
from tango.stack.broker import HOST, Broker, free_port, require_broker
from tango.stack.broker_address import broker_address
from tango.stack.credentials import StackCredentials
from tango.stack.forking import ForkServer
from tango.stack.home import line_file, prepare_home, require_linux
from tango.stack.kubeconfig import ClusterAccess, kubeconfig, token_file
from tango.stack.postgres import PostgresServer
from tango.stack.processes import (
    FORK_SERVER,
    WORKERS_FOR_EACH_HOST,
    ClusterPlaces,
    Layout,
    LinePlaces,
    ProcessSpec,
    application_processes,
    metrics_folder,
)
from tango.stack.state import HomeLock, StackInfo, private_folder, write_private, write_stack
from tango.stack.supervisor import Supervisor
from tango.stack.tether import tethered
from tango.store.addresses import OF_OUR_SERVER, password_of
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore
from tango.store.roles import APP, DATABASE, OWNER, READER, grant_defaults, prepare_database
from tango.store.schema import bring_up_to_date
from tango.store.tokens import PostgresTokenStore

FLOWER_USER = "tango"
NODES_WITHIN_S = 30.0
"""Seconds that a start waits for all nodes to be Ready, before it fails. Chosen, not measured."""
INSTANCES_WITHIN_S = 8.0
"""Seconds that a start waits for an LC instance in every cluster, before it goes on without: a fleet may be too small for its services."""


class LocalStack:
    """The stack of one state folder. Call `start` once, and `stop` in any case, also when `start` raised."""

    def __init__(
        self,
        home: Path,
        fleet: Fleet | None,
        *,
        environment: Mapping[str, str],
        simulators: int = 0,
        line_rtt_ms: float | None = None,
        only_store: bool = False,
        metrics: MetricsSettings | None = None,
        progressed: Callable[[int, int], None] | None = None,
    ) -> None:
        """Lock the state folder and draw its secrets. `progressed` is called as `Supervisor` says.

        Without a fleet it is a centre alone, for clusters that join. With `line_rtt_ms` the clusters are as far from the
        centre, by an emulated line, and each has a broker of its own. With `only_store` the database alone is started, for commands that
        read history.

        Raises: UsageError if a stack runs there, or for `only_store` with a database of the user's own; ConfigError if the folder belongs
        to somebody else or holds other files, or for a fleet that can only be simulated.
        """
        require_linux()
        refuse_fractions(fleet.services if fleet else ())
        self._home = prepare_home(home)
        self._lock = HomeLock(home)
        self._fleet = fleet
        self._simulators = simulators
        self._settings = metrics or MetricsSettings()
        self._python_path = environment.get("PYTHONPATH", "")
        self._secrets = StackCredentials(home)
        # After `eval "$(tango env)"` the variables name this stack's own servers; they must not count as servers of the user's own.
        self._user_database = self._foreign(environment.get("TANGO_DATABASE_URL", ""), password_of)
        self._user_broker = self._foreign(broker_address(environment.get("TANGO_BROKER_URL", "")), _broker_password)
        self._postgres = None if self._user_database else PostgresServer(home, password=self._secrets["postgres"])
        self._broker = None if self._user_broker else Broker(home, password=self._secrets["broker"])
        self._line_rtt_ms = line_rtt_ms
        self._only_store = only_store
        if only_store and self._postgres is None:
            raise UsageError("TANGO_DATABASE_URL names a database of your own, which commands reach without a stack")
        if line_rtt_ms is not None and self._postgres is None:
            raise UsageError(
                "the line is emulated before the stack's own database: unset TANGO_DATABASE_URL, or leave the line away"
            )
        self._cluster_brokers = {
            c.name: Broker(home, password=self._secrets[f"broker-{c.name}"], name=f"broker-{c.name}")
            for c in (fleet.clusters if fleet and line_rtt_ms is not None else ())
        }
        self._forks = ForkServer(
            lambda: tethered((sys.executable, "-m", *FORK_SERVER)),
            environment=self._python(),
            work_folder=home,
            log_path=private_folder(home / "logs") / "fork-server.log",
        )
        self._supervisor = Supervisor(home, progressed=progressed, forks=self._forks)
        self._stopped = threading.Event()
        self._loop = LoopThread("supervisor")

    def start(self) -> StackInfo:
        """Start everything and wait until all of it is ready.

        Raises: TangoError for a process that does not start; DependencyError for a server of the user's own that does not answer, or
        nodes that do not become Ready.
        """
        if self._only_store:
            return self._start_store()
        if self._user_broker:
            require_broker(self._user_broker)
        clusters = self._cluster_places()
        # For the progress bar: API server, kubelet, agent, gateway and workers for each host, scheduler, replayer, beat, flower,
        # console, metrics.
        hosts = len(clusters) if self._line_rtt_ms is not None or not clusters else 1
        self._supervisor.expected = len(self._servers()) + (4 + WORKERS_FOR_EACH_HOST) * hosts + 6 + self._simulators
        self._supervisor.expected += self._line_rtt_ms is not None
        # What all others are forks of is loaded while database and broker start.
        self._loop.run(self._forks.begin)
        # Database and broker first: all other processes open connections to them when they start.
        self._loop.run(lambda: self._supervisor.start(self._servers()))
        database_url, reader_url, owner_url = self._prepare_database()
        config, fleet_file = self._home / "kubeconfig", self._home / "fleet.yaml"
        self._write_identities(clusters, config)
        database = Database(database_url)
        try:
            if self._fleet is None:
                PostgresFleetStore(database).declare_none()
            else:
                self._put_fleet_in_force(self._fleet, fleet_file, clusters)
                names = {c.name: c.name for c in clusters}
                PostgresFleetStore(database).declare(self._fleet, kubeconfig=str(config), contexts=names)
            everything = frozenset(ServiceClass)
            token = new_token(self._secrets["caller"], tenant=DEFAULT_TENANT, name="local", allows=everything)
            PostgresTokenStore(database).create(token)
        finally:
            database.close()
        flower_port = self._port("flower", set())
        console_port = self._port("console", {flower_port})
        metrics_port = self._settings.port or self._port("metrics", {flower_port, console_port})
        info = StackInfo(
            database_url=database_url,
            reader_url=reader_url,
            owner_url=owner_url,
            broker_url=self._broker.url if self._broker else self._user_broker,
            kubeconfig=str(config),
            fleet_file=str(fleet_file) if self._fleet else "",
            flower_url=f"http://{HOST}:{flower_port}",
            flower_user=FLOWER_USER,
            flower_password=self._secrets["flower"],
            console_url=f"http://{HOST}:{console_port}",
            console_token=self._secrets["console"],
            metrics_url=f"http://{self._settings.host}:{metrics_port}/metrics",
            call_key=self._secrets["calls"],
            token=self._secrets["caller"],
            gateways={c.name: f"http://{HOST}:{c.gateway_port}" for c in clusters},
            cluster_brokers={name: broker.url for name, broker in self._cluster_brokers.items()},
            supervisor_pid=os.getpid(),
        )
        # Commands can use the servers from here on; `tango up --detach` waits for `ready`, which the last step sets.
        write_stack(self._home, info)
        layout = Layout(
            home=self._home,
            clusters=clusters,
            fleet_file=fleet_file,
            kubeconfig=config,
            flower_port=flower_port,
            flower_login=f"{FLOWER_USER}:{info.flower_password}",
            environment=self._environment(info),
            line=(line := self._line_places()),
            cluster_environment=self._cluster_environment(line),
            simulators=self._simulators,
            console_port=console_port,
            console_token=info.console_token,
            metrics_host=self._settings.host,
            metrics_port=metrics_port,
        )
        shutil.rmtree(metrics_folder(self._home), ignore_errors=True)
        self._loop.run(lambda: self._supervisor.start(application_processes(layout)))
        self._await_nodes(database_url)
        write_stack(self._home, dataclasses.replace(info, ready=True))
        return info

    def _start_store(self) -> StackInfo:
        """Start the database alone, with the schema of this version. The fleet in force stays as it is."""
        self._supervisor.expected = 1
        self._loop.run(lambda: self._supervisor.start([spec for spec in self._servers() if spec.role == "store"]))
        database_url, reader_url, owner_url = self._prepare_database()
        info = StackInfo(
            database_url=database_url,
            reader_url=reader_url,
            owner_url=owner_url,
            broker_url="",
            supervisor_pid=os.getpid(),
            ready=True,
        )
        write_stack(self._home, info)
        return info

    def stop(self) -> None:
        """Stop all processes, those that depend on others first, and unlock the folder. Data and logs stay."""
        self._stopped.set()  # ends `_await_nodes` in the thread that starts
        try:
            self._loop.run(self._supervisor.stop)
        finally:
            if self._postgres is not None:
                self._postgres.clear_sockets()
            (self._home / "stack.json").unlink(missing_ok=True)
            self._loop.stop(within_s=5.0)
            # Last: the next supervisor may begin only when nothing of this one is left.
            self._lock.release()

    def _await_nodes(self, database_url: str) -> None:
        """Wait until every node is Ready, and up to `INSTANCES_WITHIN_S` for an LC instance in every cluster.

        Raises: DependencyError if a node is not Ready after `NODES_WITHIN_S`. Returns early once `stop` was called.
        """
        if self._fleet is None:
            return
        declared = sum(len(c.nodes) for c in self._fleet.clusters)
        wants_instances = any(s.service_class == ServiceClass.LC for s in self._fleet.services)
        database = Database(database_url)
        began_s = time.monotonic()
        try:
            store = PostgresFleetStore(database)
            while not self._stopped.is_set():
                snapshot = store.snapshot(at_s=time.time())
                ready, waited_s = int(snapshot.node_ready.sum()), time.monotonic() - began_s
                everywhere = np.isin(
                    np.arange(len(snapshot.clusters)), snapshot.node_cluster[snapshot.instance_count.sum(axis=0) > 0]
                )
                if ready >= declared and (not wants_instances or everywhere.all() or waited_s > INSTANCES_WITHIN_S):
                    return
                if waited_s > NODES_WITHIN_S:
                    raise DependencyError(
                        f"{ready} of {declared} nodes are Ready after {NODES_WITHIN_S:.0f} s; "
                        f"see kubelet*.log and agent*.log in {self._home / 'logs'}"
                    )
                self._stopped.wait(0.1)
        finally:
            database.close()

    def _foreign(self, url: str, password: Callable[[str], str]) -> str:
        """The URL; empty if its password is one that this state folder has drawn, which means that the server is this stack's own."""
        # By the password and not by host and port: the socket's path and the ports change from start to start.
        return "" if url and password(url) in self._secrets.drawn() else url

    def _servers(self) -> list[ProcessSpec]:
        found = []
        if (postgres := self._postgres) is not None:
            found.append(
                ProcessSpec(
                    name="postgres",
                    role="store",
                    command=postgres.command,
                    prepare=postgres.prepare,
                    probe=postgres.is_ready,
                    # SIGINT is PostgreSQL's fast shutdown: it ends the sessions and checkpoints, so the next start needs no recovery.
                    stop_signal=signal.SIGINT,
                    stop_within_s=4.0,
                )
            )
        if (broker := self._broker) is not None:
            found.append(
                ProcessSpec(name="broker", role="broker", command=broker.command, prepare=broker.prepare, probe=broker.is_ready)
            )
        for name, own in self._cluster_brokers.items():
            found.append(
                ProcessSpec(name=f"broker-{name}", role="broker", command=own.command, prepare=own.prepare, probe=own.is_ready)
            )
        return found

    def _line_places(self) -> LinePlaces | None:
        if self._line_rtt_ms is None or self._postgres is None:
            return None
        state_file = line_file(self._home)
        write_private(state_file, LineState(rtt_ms=self._line_rtt_ms).as_text())
        return LinePlaces(port=self._port("line", set()), target=str(self._postgres.socket), state_file=state_file)

    def _cluster_environment(self, line: LinePlaces | None) -> dict[str, dict[str, str]]:
        """What the processes beside a cluster have instead of the centre's addresses, where a line is between the two."""
        if line is None:
            return {}
        of_server = urlencode({name: value for name, value in OF_OUR_SERVER.items() if name != "port"})
        centre = f"postgresql://{APP}:{quote(self._secrets[APP], safe='')}@{HOST}:{line.port}/{DATABASE}?{of_server}"
        return {
            name: {"TANGO_DATABASE_URL": centre, "TANGO_READER_URL": "", "TANGO_BROKER_URL": broker.url}
            for name, broker in self._cluster_brokers.items()
        }

    def _prepare_database(self) -> tuple[str, str, str]:
        """Create roles and schema; return the URLs of the application, the reader and the owner.

        A user's own database gets the schema under the role of its URL and no roles, so application and owner are the same there.
        Raises: StoreUnavailable if it does not answer.
        """
        if self._postgres is None:
            try:
                bring_up_to_date(self._user_database)
            except StoreUnavailable as error:
                raise StoreUnavailable(
                    f"{error} Without TANGO_DATABASE_URL the stack brings a server of its own.", is_refused=error.is_refused
                ) from error
            return self._user_database, "", self._user_database
        passwords = {role: self._secrets[role] for role in (APP, READER, OWNER)}
        # Roles before the schema: the owner creates the tables, and the defaults granted first hold for every table that it creates.
        prepare_database(
            self._postgres.admin_url(),
            owner_password=passwords[OWNER],
            app_password=passwords[APP],
            reader_password=passwords[READER],
            is_own_server=True,
        )
        grant_defaults(self._postgres.admin_url(DATABASE))
        app, reader, owner = (self._postgres.url(role, password) for role, password in passwords.items())
        bring_up_to_date(owner)
        return app, reader, owner

    def _cluster_places(self) -> tuple[ClusterPlaces, ...]:
        taken: set[int] = set()
        return tuple(
            ClusterPlaces(
                name=c.name,
                port=self._port(f"apiserver-{c.name}", taken),
                token_file=self._home / "run" / f"tokens-{c.name}.csv",
                data=self._home / "data" / f"apiserver-{c.name}",
                pods=self._home / "data" / "pods" / c.name,
                gateway_port=self._port(f"gateway-{c.name}", taken),
            )
            for c in (self._fleet.clusters if self._fleet else ())
        )

    def _port(self, name: str, taken: set[int]) -> int:
        """A port for the process `name`: its last one if that is free, so that a kubeconfig or a bookmark stays valid, else another.

        `taken` holds the ports given out in this call of `start`, which nobody has bound yet; the port is added to it.
        """
        note = private_folder(self._home / "data") / f"{name}.port"
        last = note.read_text() if note.exists() else ""
        port = free_port(int(last) if last.isdecimal() else 0)
        while port in taken:
            port = free_port()
        taken.add(port)
        write_private(note, str(port))
        return port

    def _write_identities(self, clusters: tuple[ClusterPlaces, ...], path: Path) -> None:
        accesses = {}
        for c in clusters:
            accesses[c.name] = ClusterAccess(
                server=f"http://{HOST}:{c.port}",
                tango_token=self._secrets[f"{c.name}/tango"],
                kubelet_token=self._secrets[f"{c.name}/kubelet"],
                admin_token=self._secrets[f"{c.name}/admin"],
            )
            write_private(c.token_file, token_file(c.name, accesses[c.name]))
        write_private(path, kubeconfig(accesses))

    def _put_fleet_in_force(self, fleet: Fleet, path: Path, clusters: tuple[ClusterPlaces, ...]) -> None:
        """Write the declaration of the fleet. If its clusters differ from those of the last start, the API servers' data is deleted.

        Otherwise nodes and pods that the new fleet does not have would still be listed by the API servers.
        """
        text = dump_fleet(fleet)
        if path.exists() and path.read_text(encoding="utf-8") != text and load_fleet(path).clusters != fleet.clusters:
            for data in (self._home / "data").glob("apiserver-*"):
                if data.is_dir():
                    shutil.rmtree(data)
        write_private(path, text)
        for c in clusters:
            private_folder(c.data)
            private_folder(c.pods)

    def _environment(self, info: StackInfo) -> dict[str, str]:
        """Environment variables of every process."""
        return self._python() | {
            "TANGO_DATABASE_URL": info.database_url,
            "TANGO_READER_URL": info.reader_url,
            "TANGO_BROKER_URL": info.broker_url,
            "TANGO_KUBECONFIG": info.kubeconfig,
            "TANGO_CALL_KEY": info.call_key,
        }

    def _python(self) -> dict[str, str]:
        """What an interpreter of the stack must have from its start on. Numeric libraries get one thread each, since there are more
        processes than cores."""
        root = str(Path(tango.__file__).parent.parent)
        return {
            "TANGO_HOME": str(self._home),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            # Whatever the shell's locale: files and logs are UTF-8.
            "PYTHONUTF8": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, (root, self._python_path))),
            "PYTHONUNBUFFERED": "1",
        }


def _broker_password(url: str) -> str:
    return urlsplit(url).password or ""
