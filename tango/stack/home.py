"""The state folder of a stack before it starts: made or refused, and the fleet that it is started with.

Apart from `local`, so that a command that only starts a supervisor does not load what the supervisor needs.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

from tango.domain.fleet import Fleet
from tango.errors import ConfigError, FileUnusable, UsageError
from tango.fleets import load_fleet
from tango.stack.state import private_folder

DEFAULT_FLEET = "demo"


def line_file(home: Path) -> Path:
    """The file by which the line of a stack in this state folder is steered."""
    return home / "run" / "line.json"


def fleet_to_start(home: Path, named: str | None) -> Fleet:
    """The named fleet, else the one of the last start in `home`, else the demo's. Raises: UsageError, ConfigError as `load_fleet`."""
    if named:
        return load_fleet(named)
    kept = home / "fleet.yaml"
    return load_fleet(kept) if kept.exists() else load_fleet(DEFAULT_FLEET)


def prepare_home(home: Path) -> Path:
    """Create the state folder with mode 0700 and return it.

    Raises: ConfigError, before anything is changed, for a folder of another user or one with other files that others may enter.
    """
    try:
        return _prepared(home)
    except FileUnusable as error:
        raise ConfigError(f"{error} (TANGO_HOME or --home)") from error
    except OSError as error:
        raise ConfigError(f"{home} cannot be made: {error.strerror}; name another with TANGO_HOME or --home") from error


def _prepared(home: Path) -> Path:
    if home.exists():
        found = home.stat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise ConfigError(f"{home} is not a folder of yours; name another with TANGO_HOME or --home")
        # A folder that others may enter and that has files, but no lock of ours, is likely a mistyped --home such as ~ or /tmp.
        if found.st_mode & 0o077 and not (home / "run" / "lock").exists() and any(home.iterdir()):
            raise ConfigError(
                f"{home} holds other files and others may enter it; name an empty or new folder with TANGO_HOME or --home"
            )
    return private_folder(home)


def require_linux() -> None:
    """Raises: UsageError on any other system: the stack needs the parent-death signal and a loopback address for each pod."""
    if sys.platform != "linux":
        raise UsageError(f"the local stack runs on Linux; this is {sys.platform}")
