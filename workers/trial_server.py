"""`python -m workers.trial_server database|broker [--host H] [--port P]`: PostgreSQL or Valkey for a trial, for other hosts to reach.

The servers of the wheels that `tango up` starts too, here each by itself, on a network address, with its data in `TANGO_HOME`. For trials:
without TLS, backups or a standby. Passwords come from the environment: `TANGO_ADMIN_PASSWORD`, `TANGO_OWNER_PASSWORD`,
`TANGO_APP_PASSWORD`, `TANGO_READER_PASSWORD` for the database, `TANGO_BROKER_PASSWORD` for the broker.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
import redis

from tango import progress
from tango.bootstrap.environment import default_home
from tango.errors import ConfigError, TangoError
from tango.stack.broker import SETTINGS, server_binary
from tango.stack.home import prepare_home
from tango.stack.inherited import leave_out_others
from tango.stack.postgres import SUPERUSER, PostgresServer
from tango.stack.state import private_folder, write_private
from tango.store.roles import DATABASE, grant_defaults, prepare_database

LOOK_EVERY_S = 1.0
"""Seconds between two looks whether the server answers."""
ANSWERS_WITHIN_S = 15.0
"""Seconds for which an answer counts."""
STOP_WITHIN_S = 20.0
"""Seconds from the stop signal to SIGKILL: a checkpoint is written meanwhile."""
FROM_ANYWHERE = "host all all all scram-sha-256\n"
"""The line of pg_hba.conf by which roles with a password may connect from other hosts."""


def main() -> int:
    """Serve until SIGTERM; gives the server's exit status."""
    leave_out_others()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["database", "broker"])
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    home = prepare_home(default_home())
    if options.server == "database":
        return serve_database(home, options.host, options.port or 5432, os.environ)
    return serve_broker(home, options.host, options.port or 6379, os.environ)


def serve_database(home: Path, host: str, port: int, environment: Mapping[str, str]) -> int:
    """PostgreSQL, with the database and the roles that Tango needs, made at the first start. Raises: ConfigError without a password."""
    admin = _password(environment, "TANGO_ADMIN_PASSWORD")
    roles = {f"{role}_password": _password(environment, f"TANGO_{role.upper()}_PASSWORD") for role in ("owner", "app", "reader")}
    server = PostgresServer(home, password=admin)
    server.prepare()
    data = home / "data" / "postgres" / "data"
    data.chmod(0o700)  # a volume's driver may have opened it, and PostgreSQL would refuse it
    access = data / "pg_hba.conf"
    if FROM_ANYWHERE not in (text := access.read_text()):
        access.write_text(text + FROM_ANYWHERE)
    command = [*server.command(), "-c", f"listen_addresses={host}", "-c", f"port={port}"]
    reached = "127.0.0.1" if host == "0.0.0.0" else host
    url = f"postgresql://{SUPERUSER}:{quote(admin, safe='')}@{reached}:{port}/"
    prepared = False

    def answers() -> bool:
        nonlocal prepared
        try:
            psycopg2.connect(f"{url}postgres", connect_timeout=3).close()
            if not prepared:
                prepare_database(f"{url}postgres", **roles, is_own_server=True)
                grant_defaults(f"{url}{DATABASE}")
                prepared = True
        except psycopg2.OperationalError:
            return False
        return True

    return _serve(command, answers, "database", stop=signal.SIGINT)


def serve_broker(home: Path, host: str, port: int, environment: Mapping[str, str]) -> int:
    """Valkey. Raises: ConfigError without a password."""
    password = _password(environment, "TANGO_BROKER_PASSWORD")
    folder = private_folder(home / "data" / "broker")
    write_private(folder / "valkey.conf", SETTINGS.format(host=host, port=port, password=password, folder=folder))
    reached = "127.0.0.1" if host == "0.0.0.0" else host

    def answers() -> bool:
        try:
            with closing(redis.Redis(reached, port, password=password, socket_timeout=3, socket_connect_timeout=3)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    return _serve([str(server_binary()), str(folder / "valkey.conf")], answers, "broker", stop=signal.SIGTERM)


def _serve(command: list[str], answers: Callable[[], bool], role: str, *, stop: signal.Signals) -> int:
    stopped = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopped.set())
    progress.tell(role)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd="/", start_new_session=True)
    while server.poll() is None and not stopped.wait(LOOK_EVERY_S):
        progress.turned("look")
        if answers():
            progress.reached("ready", within_s=math.inf)
            progress.reached("server", within_s=ANSWERS_WITHIN_S)
    if server.poll() is None:
        server.send_signal(stop)
        try:
            server.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            server.kill()
    status = server.wait()
    return 0 if stopped.is_set() else status or 1


def _password(environment: Mapping[str, str], name: str) -> str:
    if not (found := environment.get(name)):
        raise ConfigError(f"{name} is not set: a server that other hosts reach needs a password")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)
