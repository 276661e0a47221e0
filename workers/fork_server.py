"""`python -m workers.fork_server FD`: the processes of a local stack as forks of one that has loaded what they are made of.

Starting an interpreter and importing Celery, NumPy, Numba and Tango takes a process one to two seconds of CPU and 50 to 110 MiB. A fork
begins with all of it, and shares the pages that it does not write to with the others. FD is a socket to the supervisor, over which
`tango.stack.forking` asks for processes and is told how they end; a fork whose server has gone is killed by the kernel.

Forking is safe only before there is a second thread. So nothing here begins one, and what is loaded must not either: no connection, no
pool, no compiled kernel. `workers.app` is not loaded, because its import reads the environment, which each process has of its own.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import setproctitle

from tango.stack.forking import MESSAGE_BYTES
from tango.stack.tether import die_with

LOADED = (
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.worker.components",
    "celery.worker.consumer",
    "flower.command",
    "workers.flower_page",
    "kombu.transport.redis",
    "tango.bootstrap.agent",
    "tango.bootstrap.cluster_worker",
    "tango.bootstrap.console",
    "tango.bootstrap.gateway",
    "tango.bootstrap.replayer",
    "tango.bootstrap.scheduler",
    "tango.emulation.api_server",
    "tango.emulation.virtual_kubelet",
)
"""What the processes of a stack import. Not torch, which only the scheduler needs and which takes 200 MiB."""
PR_SET_NAME = 15
"""Number of the operation of prctl(2), from <linux/prctl.h>."""


def main() -> None:
    """Load, then fork until the supervisor closes the socket. A fork becomes what was asked for."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    # Objects that the collector never looks at stay on pages that it never writes to.
    gc.disable()
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    request = serve(channel)
    if request is not None:
        gc.enable()
        become(request)


def serve(channel: socket.socket) -> Mapping[str, Any] | None:
    """Fork for every request. Returns in each fork, with what it is to become; in the server None, once the supervisor has gone."""
    server = os.getpid()
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    waiting = select.poll()
    for descriptor in (channel.fileno(), woken):
        waiting.register(descriptor, select.POLLIN)
    while True:
        ready = [descriptor for descriptor, _ in waiting.poll()]
        if woken in ready:
            os.read(woken, 4096)
            _tell_ended(channel)
        if channel.fileno() not in ready:
            continue
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
        if not message:
            return None
        if (pid := os.fork()) == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _detach(server, descriptors[0])
            for descriptor in (woken, waker):
                os.close(descriptor)
            channel.close()
            found: Mapping[str, Any] = json.loads(message)
            return found
        os.close(descriptors[0])
        channel.send(json.dumps({"started": pid}).encode())


def _tell_ended(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        channel.send(json.dumps({"ended": pid, "status": os.waitstatus_to_exitcode(status)}).encode())


def _detach(server: int, output: int) -> None:
    """Leave the server's session and streams, and end when it ends."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for descriptor in {nothing, output} - {0, 1, 2}:
        os.close(descriptor)
    die_with(server, signal.SIGKILL)


def become(request: Mapping[str, Any]) -> None:
    """Run a module as a program, with the arguments, environment, folder and name that were asked for."""
    module, *arguments = request["program"]
    # `ps` shows the command line, which would be that of this server. First of all, since the library looks where the environment is, and
    # without writing over it: /proc/PID/environ tells whose stack a process is of.
    os.environ["SPT_NOENV"] = "1"
    setproctitle.setproctitle(f"tango {request['name']}")
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = [module, *arguments]
    ctypes.CDLL(None).prctl(PR_SET_NAME, request["name"].encode()[:15])
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
