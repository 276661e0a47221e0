"""The state folder: where a stack keeps what other processes must know, and how they tell a live stack from a stale file.

The supervisor holds an exclusive lock on `run/lock` for its whole life. The kernel drops that lock however the supervisor ends,
so a state file whose lock is free describes a stack that is gone.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tango.errors import ConfigError, UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class StackInfo:
    """Addresses of a stack. It holds passwords: neither printed nor logged as a whole."""

    database_url: str = field(repr=False)
    """Of the role `tango_app`."""
    broker_url: str = field(repr=False)
    reader_url: str = field(default="", repr=False)
    """Of the role `tango_reader`, which may only SELECT; empty on a user's own server."""
    owner_url: str = field(default="", repr=False)
    """Of the role that owns the schema."""
    kubeconfig: str = ""
    checkpoint: str = ""
    """Path of a BE network's checkpoint; empty: the one that is shipped."""
    fleet_file: str = ""
    flower_url: str = ""
    flower_user: str = ""
    flower_password: str = field(default="", repr=False)
    supervisor_pid: int = 0
    ready: bool = False
    """Whether the start is over: all processes run and all nodes are Ready."""


def state_home(env: Mapping[str, str]) -> Path:
    """The state folder that an environment names: TANGO_HOME, else $XDG_STATE_HOME/tango, else ~/.local/state/tango."""
    if named := env.get("TANGO_HOME"):
        return Path(named).expanduser().absolute()
    if base := env.get("XDG_STATE_HOME"):
        return Path(base).expanduser().absolute() / "tango"
    return Path(env.get("HOME") or Path.home()) / ".local" / "state" / "tango"


def read_stack(home: Path) -> StackInfo | None:
    """The stack that runs in `home`; None where none does, whatever a file left there says.

    Raises: ConfigError if a stack runs and its file cannot be understood.
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
    """Publish a stack's addresses; only its user may read them."""
    write_private(home / "stack.json", json.dumps(asdict(info), indent=1))


def supervisor_pid(home: Path) -> int | None:
    """The process that holds the lock of `home`, or None."""
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
    """The supervisor's claim on a state folder, held until `release` or the end of the process."""

    def __init__(self, home: Path) -> None:
        """Take the lock. Raises: UsageError if another supervisor holds it."""
        path = private_folder(home / "run") / "lock"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # `supervisor_pid` takes a shared lock for microseconds; only what holds on is another supervisor.
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
        """Let the next supervisor in."""
        os.close(self._descriptor)


def private_folder(path: Path) -> Path:
    """Make a folder, and its missing parents, that nobody else may enter (0700); tighten it if it exists."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 so that a reader sees the old text or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
