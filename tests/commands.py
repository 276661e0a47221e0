"""The command line `tango` and the programs of `workers`, for tests that start many: each is a process of its own, forked from one that
has loaded what they import.

A command is half a second of CPU and an API server a whole one, nearly all of it imports; forked they are a tenth of that. Everything
else is as in a process that was started: arguments, environment, folder, streams, signals, exit status. What they import is held by
`tests/unit/bootstrap/test_process_imports.py`, and the texts of the documentation are typed with the program itself.

`python -m tests.commands FD` is that process. Each packet on the socket FD is a program and its arguments, as JSON, with its three
streams and a pipe for its process id and its exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tango.stack.forking import MESSAGE_BYTES
from tango.stack.tether import die_with, tethered

ROOT = Path(__file__).parent.parent
PROGRAM = (sys.executable, "-c", "from tango.cli.main import run; run()")
"""The command line as a program."""
STARTS_OTHERS = ("up", "demo")
"""Commands whose child goes on by itself, and shows its command line and its environment to whoever looks for processes of a stack."""
LOADED = (
    "celery.app.amqp",
    "celery.apps.worker",
    "celery.bin.celery",
    "celery.concurrency.solo",
    "celery.worker.consumer",
    "jinja2",
    "kombu.transport.redis",
    "pandas",
    "tango.analysis.comparison",
    "tango.bootstrap.stores",
    "tango.bootstrap.submission",
    "tango.client.client",
    "tango.control.cancel_run",
    "tango.control.doctor",
    "tango.control.finish_run",
    "tango.control.run_figures",
    "tango.domain.job_json",
    "tango.emulation.api_server",
    "tango.emulation.virtual_kubelet",
    "tango.report",
    "tango.stack.supervisor",
    "tango.store.arrow_rows",
    "tango.store.health",
    "tango.store.run_lists",
    "tango.store.run_records",
    "tango.store.simulations",
    "tango.systems",
    "tango.traces.generators",
    "workers.publisher",
)
"""What commands and programs import beside the modules of `tango.cli`. Not `workers.app`, whose import reads the environment, and not
torch, which few of them need."""
CLI = "tango.cli"
"""The program that the command line is; every other is a module that `python -m` runs."""


class Started:
    """A program that goes on by itself. Has what is used of `subprocess.Popen`."""

    def __init__(self, program: Sequence[str], told: int) -> None:
        """`told` is the end of the pipe by which the process id comes, and the exit status in the end."""
        self._program = list(program)
        self._told = told
        self._found = b""
        while b" " not in self._found:
            if not (part := os.read(told, 64)):
                raise OSError(f"the process that runs programs has ended before it ran {' '.join(program)}")
            self._found += part
        self.pid = int(self._found.partition(b" ")[0])
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status once it has ended. Raises: subprocess.TimeoutExpired after so many seconds."""
        while self.returncode is None:
            ready, _, _ = select.select([self._told], [], [], timeout)
            if not ready:
                raise subprocess.TimeoutExpired(self._program, timeout or 0.0)
            self._found += (part := os.read(self._told, 64))
            if not part:
                os.close(self._told)
                # No status: the keeper was killed, and its child with it.
                self.returncode = int(self._found.partition(b" ")[2] or -signal.SIGKILL)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As to a process that was started; nothing happens once it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def start_program(module: str, *arguments: str, environment: Mapping[str, str] | None = None, output: int | None = None) -> Started:
    """Start `python -m MODULE ARGUMENTS` in the repository's folder.

    It gets the `environment` in place of ours, and prints to the descriptor `output` in place of our streams.
    """
    streams = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), *(os.dup(output or number) for number in (1, 2))]
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    message = {"program": module, "arguments": list(arguments), "environment": dict(environment or os.environ), "folder": str(ROOT)}
    try:
        _SERVER.send(json.dumps(message).encode(), [*streams, theirs])
    finally:
        for descriptor in (*streams, theirs):
            os.close(descriptor)
    return Started(["python", "-m", module, *arguments], ours)


def run_tango(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float = 120.0,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` with captured output would. Raises: subprocess.TimeoutExpired, and it is killed."""
    if not arguments or arguments[0] in STARTS_OTHERS:
        return subprocess.run(
            [*PROGRAM, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=dict(environment),
            cwd=folder,
            check=False,
        )
    outputs = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    told = {
        "program": CLI,
        "arguments": list(map(str, arguments)),
        "environment": dict(environment),
        "folder": str(folder or Path.cwd()),
    }
    try:
        _SERVER.send(json.dumps(told).encode(), [nothing, *(theirs for _, theirs in outputs)])
    finally:
        os.close(nothing)
        for _, theirs in outputs:
            os.close(theirs)
    try:
        out, err, ended = _read_all([ours for ours, _ in outputs], arguments, timeout_s)
    finally:
        for ours, _ in outputs:
            os.close(ours)
    _, _, status = ended.decode().partition(" ")
    if not status:
        raise OSError(f"the process that runs commands has ended while it ran `tango {' '.join(arguments)}`: {err.decode()}")
    return subprocess.CompletedProcess(["tango", *arguments], int(status), out.decode(), err.decode())


def _read_all(descriptors: Sequence[int], arguments: Sequence[str], timeout_s: float) -> list[bytes]:
    """What comes by each until its end. The last tells the process id first, by which it is killed if it takes too long."""
    found = {descriptor: bytearray() for descriptor in descriptors}
    waiting = select.poll()
    for descriptor in descriptors:
        waiting.register(descriptor, select.POLLIN)
    deadline_s = time.monotonic() + timeout_s
    left = len(descriptors)
    while left:
        ready = waiting.poll(max(0.0, deadline_s - time.monotonic()) * 1000.0)
        if not ready:
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(found[descriptors[-1]].partition(b" ")[0]), signal.SIGKILL)
            out, err, _ = (bytes(found[descriptor]) for descriptor in descriptors)
            raise subprocess.TimeoutExpired(["tango", *arguments], timeout_s, out, err)
        for descriptor, _ in ready:
            if part := os.read(descriptor, 1 << 16):
                found[descriptor] += part
            else:
                waiting.unregister(descriptor)
                left -= 1
    return [bytes(found[descriptor]) for descriptor in descriptors]


class _Server:
    """The tests' end: starts the process when the first command is given."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def send(self, message: bytes, descriptors: Sequence[int]) -> None:
        """Have a command run; the descriptors are its streams, and the pipe for how it ends."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            assert self._channel is not None
            socket.send_fds(self._channel, [message], descriptors)

    def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = tethered([sys.executable, "-m", "tests.commands", str(theirs.fileno())])
        # NumPy's threads would be there before the first fork, and one that waits for work costs nothing but trouble.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | {"OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL
            )
        if self._channel is not None:
            self._channel.close()
        self._channel = ours
        atexit.register(self._end, self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(30)


_SERVER = _Server()


def serve(channel: socket.socket) -> None:
    """Load, then fork for every program, until the tests have gone. A fork becomes the program and does not return."""
    from tango.cli.main import COMMANDS

    gc.disable()
    for name in (*(module.partition(":")[0] for module, _ in COMMANDS.values()), *LOADED):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the keepers
    server = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 4)
        if not message:
            return
        if os.fork() == 0:
            channel.close()
            _keep(server, json.loads(message), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _keep(server: int, command: Mapping[str, Any], descriptors: Sequence[int]) -> NoReturn:
    """Run it in a child, and tell its process id and how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, told = descriptors
    keeper = os.getpid()
    if (pid := os.fork()) == 0:
        os.close(told)
        die_with(keeper, signal.SIGKILL)
        _become(command, streams)
    die_with(server, signal.SIGKILL)
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):  # the test waits no longer
        os.write(told, f"{pid} ".encode())
        _, status = os.waitpid(pid, 0)
        os.write(told, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(command: Mapping[str, Any], streams: Sequence[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, encoding="utf-8"), os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
    os.environ.clear()
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    sys.path[:0] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place and place not in sys.path]
    sys.argv = [command["program"], *command["arguments"]]
    gc.enable()
    if command["program"] == CLI:
        from tango.cli.main import run

        sys.argv[0] = "-c"
        run()
    runpy.run_module(command["program"], run_name="__main__", alter_sys=True)
    sys.exit(0)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
