"""Ties a child process to its supervisor by Linux's parent-death signal, prctl(2) PR_SET_PDEATHSIG.

Run as a script, this module sets the signal for its own process and then executes the command in its place. The kernel sends the
signal when the *thread* that forked ends, so children must be started from a thread that lives as long as the supervisor. Run with
`python -I -S` and with the standard library alone, this costs about 20 ms a start.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
"""Number of the prctl operation, from <linux/prctl.h>."""


def tethered(command: Sequence[str], *, death_signal: signal.Signals = signal.SIGKILL, user: str = "") -> list[str]:
    """The command line that runs `command` so that it gets `death_signal` when this process dies.

    With `user` the command runs under that account, which only root may ask for.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(death_signal)), user, *command]


def main(arguments: Sequence[str]) -> None:
    """Execute the command in place of this process; `arguments` are those of `tethered`. Raises: OSError if prctl fails."""
    # The order matters: setuid clears the death signal, so rights are dropped first; and a parent that died before the signal was
    # set will never trigger it, so the parent is checked after.
    parent, death_signal, user, *command = arguments
    if user:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    # Whatever the shell's: what a stack writes is nobody else's, and its own.
    os.umask(0o077)
    die_with(int(parent), int(death_signal))
    os.execvp(command[0], command)


def die_with(parent: int, death_signal: int) -> None:
    """Have the kernel send this process a signal when its parent ends; ends at once if that is so already. Raises: OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
