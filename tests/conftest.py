"""Fixtures for everybody: a real PostgreSQL with migrated databases, a real Valkey, compiled kernels, the folder of real traces.

One server a test session (and a worker of pytest-xdist); one database a test, copied from a migrated template. Kernels are compiled
by one process: the others wait and load its machine code. A parallel run of the whole suite begins to compile at once, in a process of
its own, since its workers would all come to a test that simulates long before one of them had compiled.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import getpass
import itertools
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import psycopg2
import psycopg2.extensions
import pytest
from xdist.scheduler import LoadFileScheduling

from tango import scheduling
from tango.settings import LcSettings
from tango.sim import warm as engine
from tango.stack.broker import Broker
from tango.stack.postgres import PostgresServer
from tango.store.migrate import migrate
from tango.store.roles import APP, DATABASE, OWNER, READER, grant_defaults, prepare_database
from tango.systems.batch_step import warm_up_lc
from tests.long import LONG

REPOSITORY = Path(__file__).parent.parent
_numbers = itertools.count(1)

SHARING_A_STACK = ("tests/integration/test_killed_processes.py", "tests/integration/test_stack_whole.py")
"""Files whose tests use `single_stack`: one process runs them all, since each that ran some would start a stack of its own."""
LONGEST = (
    *SHARING_A_STACK,
    "tests/integration/test_jobs.py",
    "tests/integration/test_line_to_the_centre.py",
    "tests/integration/test_stack_refused.py",
    "tests/integration/test_gateway_stack.py",
    "tests/integration/test_examples.py",
    "tests/integration/test_sweeps_on_workers.py",
    "tests/unit/training/test_learners.py",
    "tests/integration/test_train_interrupted.py",
    "tests/integration/test_tutorial.py",
    "tests/unit/experiments/test_cell_keys.py",
    "tests/integration/test_compare_interrupted.py",
    "tests/integration/test_real_traces.py",
    "tests/integration/test_bench_placement.py",
    "tests/integration/test_chaos.py",
    "tests/integration/test_checkpoint_registry.py",
    "tests/unit/systems/test_registry.py",
)
"""Files that take longest, which begin first, so that no process is left alone with one in the end. Those that need the engine come after
those that need stacks: meanwhile it is compiled."""
SIMULATING = (
    "tests/contract/test_node_model_worlds.py",
    "tests/contract/test_snapshot_worlds.py",
    "tests/integration/test_checkpoint_registry.py",
    "tests/integration/test_compare_interrupted.py",
    "tests/integration/test_compare_judged.py",
    "tests/integration/test_sweeps_on_workers.py",
    "tests/integration/test_train_interrupted.py",
    "tests/integration/test_tutorial.py",
    "tests/unit/experiments",
    "tests/unit/sim",
    "tests/unit/systems",
    "tests/unit/training",
    "tests/unit/validation",
)
"""Where tests simulate, here or in processes that they start."""
COMPILING = (*SIMULATING, "tests/unit/bound")
"""Where tests may have to compile: the engine, or the node model alone."""
MEMORY, IN_MEMORY_BYTES = Path("/dev/shm"), 8 << 30
"""Where a file is made and deleted for half of what it costs on a disk, of which a database of its own for each test takes 500, and what
has to be free there: each of the processes that share the tests out may come to need a gigabyte."""
LONG_S = 3600
"""Time for a test of the long suite, whose property tests draw many times as many examples."""
COMPILE_S = 600
"""Time for such a test: a minute of an idle core to compile the engine, several on a machine that others use too."""


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """In a fresh checkout one of the processes that share the tests out collects first, and the others when it is done.

    It compiles all modules to bytecode, and Hypothesis reads all their constants: 18 s of CPU, which each of them would take.
    """
    if not hasattr(session.config, "workerinput") or (REPOSITORY / ".hypothesis" / "constants").exists():
        with _nothing_to_collect():
            return (yield)
    with _lock("collection") as lock, _nothing_to_collect():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(lock, fcntl.LOCK_SH)
        return (yield)


@contextlib.contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """What is made here is garbage at no time: the collector of garbage would look through a million objects for nothing again and again,
    which is a third of the CPU of a collection of tests and an eighth of that of short tests."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that simulate find the engine compiled; they, and others that compile, have the time to do it. Long ones wait to be asked."""
    order = {place: k for k, place in enumerate(LONGEST)}
    places = {item.path: item.path.relative_to(REPOSITORY).as_posix() for item in items}
    items.sort(key=lambda item: order.get(places[item.path], len(order)))
    for item in items:
        if LONG:
            item.add_marker(pytest.mark.timeout(LONG_S), append=False)
        elif item.get_closest_marker("long") is not None:
            item.add_marker(pytest.mark.skip(reason="takes minutes; `make test-long` runs it"))
        place = places[item.path]
        needed = "compiled_engine" if place.startswith(SIMULATING) else ""
        if not needed and isinstance(item, pytest.Function) and hasattr(item.module, "LiveStack"):
            needed = "compiled_decisions"
        fixtures: list[str] = getattr(item, "fixturenames", [])
        if needed and needed not in fixtures:  # cases of one test share the list
            fixtures.insert(0, needed)  # a mark would come too late here
        if place.startswith(COMPILING) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(COMPILE_S))


class ByFile(LoadFileScheduling):  # type: ignore[misc,unused-ignore]
    """Hands out whole files, and those that share a stack as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return SHARING_A_STACK[0] if file in SHARING_A_STACK else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """For `--dist loadfile`, as `make test` has it."""
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_configure(config: pytest.Config) -> None:
    """Begin to compile where workers will run all tests."""
    shares_out = not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if shares_out and config.args == config.getini("testpaths"):
        compiling = subprocess.Popen(
            [sys.executable, "-c", "from tests.conftest import compile_engine; compile_engine()"], cwd=REPOSITORY
        )
        config.add_cleanup(lambda: _end(compiling))


def compile_engine() -> None:
    """Compile the decisions and the engine, or load their machine code, which is kept beside its sources; one process at a time."""
    compile_decisions()
    with _alone("engine"):
        engine.warm_up()


def compile_decisions() -> None:
    """Likewise the decisions by themselves, as the processes of a stack need them: seconds, and each of them would take them."""
    with _alone("decisions"):
        warm_up_lc(LcSettings())
        scheduling.warm_up()


@contextlib.contextmanager
def _alone(what: str) -> Iterator[None]:
    with _lock(what) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock(what: str) -> TextIO:
    folder = REPOSITORY / ".pytest_cache"
    folder.mkdir(exist_ok=True)
    return (folder / f"{what}.lock").open("w")


@pytest.fixture(scope="session")
def compiled_engine() -> None:
    """The machine code of the engine is there."""
    compile_engine()


@pytest.fixture(scope="session")
def compiled_decisions() -> None:
    """The machine code of the decisions is there."""
    compile_decisions()


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """One database, by role."""

    app: str
    reader: str
    owner: str
    admin: str


class ForTests(PostgresServer):
    """A server whose data need not survive the machine: hundreds of databases are made and dropped, each of which would be synced."""

    def command(self) -> list[str]:
        """As of a stack, but for the waiting until data is on the disk, and with little of a log beside it."""
        return [*super().command(), "-c", "fsync=off", "-c", "max_wal_size=256MB"]


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The session's PostgreSQL, in memory where there is enough; its data is deleted at the end."""
    password = secrets.token_urlsafe(12)
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > IN_MEMORY_BYTES:
        _discard_of_the_dead()
        home = MEMORY / f"tango-tests-{os.getpid()}"
        server = ForTests(home, password=password, data_of_root=MEMORY)
    else:
        home = tmp_path_factory.mktemp("postgres")
        server = ForTests(home, password=password)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.discard()
        shutil.rmtree(home)


def _discard_of_the_dead() -> None:
    """Nothing else would give the memory back that processes had which were killed."""
    for home in MEMORY.glob("tango-tests-*"):
        if not Path("/proc", home.name.rpartition("-")[2]).exists() and home.owner() == getpass.getuser():
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                shutil.rmtree((home / "data" / "postgres").resolve())
                shutil.rmtree(home)


@pytest.fixture(scope="session")
def postgres_admin_url(postgres_server: PostgresServer) -> str:
    """URL of the superuser, database `postgres`."""
    return postgres_server.admin_url()


@pytest.fixture(scope="session")
def _role_passwords(postgres_server: PostgresServer, _administrator: psycopg2.extensions.cursor) -> dict[str, str]:
    """Roles, and a migrated database `tango` that serves as a template: nobody may connect to it any more."""
    passwords = {role: secrets.token_urlsafe(12) for role in (OWNER, APP, READER)}
    prepare_database(
        postgres_server.admin_url(),
        owner_password=passwords[OWNER],
        app_password=passwords[APP],
        reader_password=passwords[READER],
        is_own_server=True,
    )
    grant_defaults(postgres_server.admin_url(DATABASE))
    migrate(postgres_server.url(OWNER, passwords[OWNER]))
    _administrator.execute(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false")
    return passwords


@pytest.fixture(scope="session")
def _administrator(postgres_server: PostgresServer) -> Iterator[psycopg2.extensions.cursor]:
    """Statements of the superuser, on one connection: each of its own would cost more than most statements."""
    connection = psycopg2.connect(postgres_server.admin_url(), connect_timeout=5)
    connection.autocommit = True
    yield connection.cursor()
    connection.close()


@pytest.fixture
def database_urls(
    postgres_server: PostgresServer, _role_passwords: dict[str, str], _administrator: psycopg2.extensions.cursor
) -> Iterator[DatabaseUrls]:
    """A fresh migrated database for one test, by role."""
    name = f"test_{next(_numbers)}"
    # Ten megabytes are copied in half the time that it takes to write them to the log, too.
    _administrator.execute(f"CREATE DATABASE {name} TEMPLATE {DATABASE} OWNER {OWNER} STRATEGY FILE_COPY")
    _administrator.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    _administrator.execute(f"GRANT CONNECT ON DATABASE {name} TO {APP}, {READER}")
    app, reader, owner = (postgres_server.url(role, _role_passwords[role], name) for role in (APP, READER, OWNER))
    yield DatabaseUrls(app=app, reader=reader, owner=owner, admin=postgres_server.admin_url(name))
    _administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(database_urls: DatabaseUrls) -> str:
    """URL of the application's role in a fresh migrated database."""
    return database_urls.app


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of the session's broker."""
    broker = Broker(tmp_path_factory.mktemp("broker"), password=secrets.token_urlsafe(12))
    broker.start()
    yield broker.url
    broker.stop()


@pytest.fixture(scope="session")
def traces_dir() -> Path:
    """The folder of real traces, TANGO_TRACES_DIR; tests that need it are skipped where it is absent."""
    path = Path(os.environ.get("TANGO_TRACES_DIR") or REPOSITORY.parent / "shared" / "traces")
    if not path.is_dir():
        pytest.skip(f"no real traces: {path} does not exist; set TANGO_TRACES_DIR to a folder of them")
    return path


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever it still does; a run of tests leaves no process."""
    process.kill()
    process.wait(30)
