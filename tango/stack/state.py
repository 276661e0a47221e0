"""The state folder of a stack: its addresses, and the lock by which other processes tell a running stack from a stale file.

The supervisor holds an exclusive flock(2) on `run/lock` for its whole life. The kernel releases it however the supervisor ends, so a
`stack.json` whose lock is free describes a stack that no longer runs.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tango.errors import ConfigError, UsageError
from tango.files import made_folder, usable, write_whole

ADDRESS_VARIABLES = ("TANGO_DATABASE_URL", "TANGO_READER_URL", "TANGO_BROKER_URL", "TANGO_KUBECONFIG")
"""Variables that a shell may have of another stack, and that would make one of its own use the servers of that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """Addresses of a stack. It holds passwords: neither printed nor logged as a whole."""

    database_url: str = field(repr=False)
    """URL under the role `tango_app`, which the processes use."""
    broker_url: str = field(repr=False)
    reader_url: str = field(default="", repr=False)
    """URL under the role `tango_reader`, which may only SELECT; empty on a user's own server."""
    owner_url: str = field(default="", repr=False)
    """URL under the role that owns the schema, for migrations."""
    kubeconfig: str = ""
    """Path of the file with the contexts of all embedded clusters."""
    checkpoint: str = ""
    """Path of a BE network's checkpoint; empty: the one that is shipped."""
    fleet_file: str = ""
    """Path of the declaration of the fleet in force."""
    flower_url: str = ""
    flower_user: str = ""
    flower_password: str = field(default="", repr=False)
    console_url: str = ""
    console_token: str = field(default="", repr=False)
    """What people log in to the console with."""
    metrics_url: str = ""
    """Where Prometheus scrapes the figures of this host."""
    call_key: str = field(default="", repr=False)
    """What workers sign LC requests with."""
    token: str = field(default="", repr=False)
    """What the local user calls the gateways with."""
    gateways: Mapping[str, str] = field(default_factory=dict)
    """URLs of the gateways by cluster, in the order of the fleet."""
    cluster_brokers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """URLs of the brokers of clusters that have one of their own, by cluster."""
    supervisor_pid: int = 0
    ready: bool = False
    """Whether the start has finished: all processes are ready and all nodes are Ready."""


def state_home(env: Mapping[str, str]) -> Path:
    """The state folder that an environment names: TANGO_HOME, else $XDG_STATE_HOME/tango, else ~/.local/state/tango."""
    if named := env.get("TANGO_HOME"):
        return Path(named).expanduser().absolute()
    if base := env.get("XDG_STATE_HOME"):
        return Path(base).expanduser().absolute() / "tango"
    return Path(env.get("HOME") or Path.home()) / ".local" / "state" / "tango"


def read_stack(home: Path) -> StackInfo | None:
    """Addresses of the stack that runs in `home`; None if none runs, even if a file of an earlier one is there.

    Raises: ConfigError if a stack runs and its file cannot be parsed.
    """
    path = home / "stack.json"
    if not path.exists() or supervisor_pid(home) is None:
        return None
    try:
        document: dict[str, Any] = json.loads(path.read_text())
        return StackInfo(**{f.name: document[f.name] for f in fields(StackInfo) if f.name in document})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); stop the stack with `tango down` and start it again") from error


def write_stack(home: Path, info: StackInfo) -> None:
    """Write a stack's addresses to `stack.json`, mode 0600, atomically."""
    write_private(home / "stack.json", json.dumps(asdict(info), indent=1))


def supervisor_pid(home: Path) -> int | None:
    """Process id of the supervisor that holds the lock of `home`; None if nobody does; 0 while the holder has not written its id."""
    try:
        descriptor = os.open(home / "run" / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else 0
    else:
        return None
    finally:
        os.close(descriptor)


class HomeLock:
    """Exclusive ownership of a state folder, held until `release` or the end of the process."""

    def __init__(self, home: Path) -> None:
        """Take the lock. Raises: UsageError if another supervisor holds it, FileUnusable."""
        path = private_folder(home / "run") / "lock"
        with usable(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # `supervisor_pid` of another process holds a shared lock for microseconds. Twenty tries within 0.2 s outlast it; a lock that is
        # still held then belongs to a supervisor.
        for patience in reversed(range(20)):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if patience == 0:
                    os.close(self._descriptor)
                    raise UsageError(
                        f"a stack is already running in {home}; see `tango status`, stop it with `tango down`"
                    ) from None
                time.sleep(0.01)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Release the folder. Closing the descriptor drops the lock; the file stays, since deleting it would race with the next holder."""
        os.close(self._descriptor)


def private_folder(path: Path) -> Path:
    """Create a folder of mode 0700 with its missing parents; an existing one gets that mode. Returns `path`. Raises: FileUnusable."""
    with usable(path, "made private"):
        made_folder(path, mode=0o700).chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all. Raises: FileUnusable."""
    write_whole(path, text, mode=0o600)
