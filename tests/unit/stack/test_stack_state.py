"""The state folder: what others may read, and what counts as a running stack."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tango.errors import ConfigError, UsageError
from tango.stack.children import BACKOFF_BASE_S, BACKOFF_CAP_S, backoff_s
from tango.stack.credentials import StackCredentials
from tango.stack.home import fleet_to_start, prepare_home
from tango.stack.state import HomeLock, StackInfo, private_folder, read_stack, state_home, supervisor_pid, write_stack

INFO = StackInfo(database_url="postgresql://tango_app:hidden@/tango", broker_url="redis://:hidden@127.0.0.1:1/0")


def test_the_state_folder_is_the_one_the_environment_names_first() -> None:
    """TANGO_HOME wins over XDG_STATE_HOME, and that over ~/.local/state."""
    assert state_home({"TANGO_HOME": "/a", "XDG_STATE_HOME": "/b", "HOME": "/c"}) == Path("/a")
    assert state_home({"XDG_STATE_HOME": "/b", "HOME": "/c"}) == Path("/b/tango")
    assert state_home({"HOME": "/c"}) == Path("/c/.local/state/tango")


def test_a_state_file_counts_only_while_its_supervisor_lives(tmp_path: Path) -> None:
    """The lock, which the kernel drops with its holder, tells a running stack from a file left over."""
    write_stack(private_folder(tmp_path / "home"), INFO)
    home = tmp_path / "home"
    assert read_stack(home) is None
    lock = HomeLock(home)
    assert read_stack(home) == INFO
    lock.release()
    assert read_stack(home) is None


def test_a_second_supervisor_is_refused(tmp_path: Path) -> None:
    """Two stacks never share a state folder."""
    lock = HomeLock(tmp_path)
    with pytest.raises(UsageError, match="already running"):
        HomeLock(tmp_path)
    assert supervisor_pid(tmp_path) is not None
    lock.release()
    assert supervisor_pid(tmp_path) is None


def test_only_the_user_may_read_state_and_credentials(tmp_path: Path) -> None:
    """Folders are 0700, files with secrets 0600, from their first byte on."""
    home = prepare_home(tmp_path / "home")
    write_stack(home, INFO)
    first = StackCredentials(home)["postgres"]
    assert StackCredentials(home)["postgres"] == first
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for name in ("stack.json", "credentials.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


def test_addresses_show_no_password() -> None:
    """A representation, as in a traceback, holds no secret."""
    assert "hidden" not in repr(INFO)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    """A state folder named by mistake, such as /srv, is neither used nor given other permissions."""
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="other files"):
        prepare_home(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_without_a_name_the_fleet_in_force_is_started_again(tmp_path: Path) -> None:
    """The default is `demo` in a new folder, and what was there before in a used one."""
    demo = fleet_to_start(tmp_path, None)
    assert demo.name == "demo"
    (tmp_path / "fleet.yaml").write_text("not a fleet")
    with pytest.raises(ConfigError):
        fleet_to_start(tmp_path, None)


def test_pauses_double_up_to_a_cap_and_are_jittered() -> None:
    """Restarts of a broken process come ever more rarely, and not all at the same moment."""
    longest = [backoff_s(n, lambda: 0.0) for n in range(1, 12)]
    assert longest[:3] == [BACKOFF_BASE_S, 2 * BACKOFF_BASE_S, 4 * BACKOFF_BASE_S]
    assert longest[-1] == BACKOFF_CAP_S
    assert backoff_s(3, lambda: 1.0) == longest[2] / 2
