"""Ties a process to its supervisor: run as a script, it arranges to be killed with its parent, then becomes the command.

The kernel sends the death signal when the thread that forked ends, so whoever starts children must do so from a thread that
lives as long as the supervisor. Run with `python -I -S`: no import but the standard library's, about 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str], *, death_signal: signal.Signals = signal.SIGKILL, user: str = "") -> list[str]:
    """The command that runs `command` tied to this process; as `user` if one is named, which only root may ask for."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), user, *command]


def main(arguments: Sequence[str]) -> None:
    """Become the command, in this order: drop rights (which clears the death signal), set the signal, check the parent, exec."""
    parent, death_signal, user, *command = arguments
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        os.umask(0o077)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != int(parent):
        # The supervisor died before the signal was set.
        sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
