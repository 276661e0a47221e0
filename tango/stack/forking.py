"""The supervisor's end of the fork server (`workers.fork_server`): asks it for processes, and is told how they end.

One message is one packet of a UNIX socket: a request as JSON, with the descriptor of the log beside it, and back `{"started": pid}` for
each, in order, and `{"ended": pid, "status": …}`. A server that has gone has taken its forks with it: all count as killed, and the next
request starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

MESSAGE_BYTES = 1 << 17
"""Size of the longest message; environments are far shorter."""

ANSWERS_WITHIN_S = 60.0
"""Seconds in which the server starts a process: it takes a few to load what processes are made of, and then milliseconds each."""


class Forked:
    """A process that the fork server has started. Has what is used of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._status: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        """The exit status once it has ended; negative: the number of the signal that ended it."""
        return await asyncio.shield(self._status)

    def ended(self, status: int) -> None:
        """Give the exit status to whoever waits for it; a second call changes nothing."""
        if not self._status.done():
            self._status.set_result(status)


class ForkServer:
    """Starts a fork server when the first process is wanted, or earlier by `begin`. All methods run on the supervisor's loop."""

    def __init__(
        self, command: Callable[[], Sequence[str]], *, environment: Mapping[str, str], work_folder: Path, log_path: Path
    ) -> None:
        """`command` gives the tethered command line, to which the number of a descriptor is added."""
        self._command = command
        self._environment = environment
        self._work_folder = work_folder
        self._log_path = log_path
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._asked: deque[asyncio.Future[Forked]] = deque()
        """One for each request that was sent and not answered, in order."""
        self._running: dict[int, Forked] = {}

    async def begin(self) -> None:
        """Start the server, unless it runs. It takes requests from now on, and answers when it has loaded everything."""
        async with self._turn:
            await self._begin()

    async def start(
        self, program: Sequence[str], *, name: str, environment: Mapping[str, str], folder: Path, output: int
    ) -> Forked:
        """Start a process: a module and its arguments. `output` is a descriptor, for what the process prints.

        Raises: OSError if the server ends meanwhile, or does not answer within `ANSWERS_WITHIN_S`: it is ended then, with what it has
        started, since a server that hangs would not tell of ends either.
        """
        request = {"program": program, "name": name, "environment": dict(environment), "folder": str(folder)}
        # One after the other: a server that is still loading could not take many, and sending does not wait.
        async with self._turn:
            channel = await self._begin()
            asked: asyncio.Future[Forked] = asyncio.get_running_loop().create_future()
            self._asked.append(asked)
            socket.send_fds(channel, [json.dumps(request).encode()], [output])
            try:
                return await asyncio.wait_for(asked, ANSWERS_WITHIN_S)
            except TimeoutError:
                await self.close()
                raise OSError(
                    f"the fork server did not answer for {ANSWERS_WITHIN_S:g} s and was ended; see {self._log_path}"
                ) from None

    async def close(self) -> None:
        """End the server, and with it every process that still runs."""
        if self._process is not None:
            self._lost()
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def _begin(self) -> socket.socket:
        if self._channel is not None:
            return self._channel
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        output = os.open(self._log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                str(theirs.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self._environment},
                cwd=self._work_folder,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(output)
            theirs.close()
        ours.setblocking(False)
        self._channel = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._on_message)
        return ours

    def _on_message(self) -> None:
        assert self._channel is not None
        try:
            message = self._channel.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._lost()
            return
        told: dict[str, Any] = json.loads(message)
        if "started" in told:
            pid, asked = int(told["started"]), self._asked.popleft()
            self._running[pid] = Forked(pid)
            if asked.done():  # who asked has been cancelled: nobody would ever stop it
                os.kill(pid, signal.SIGKILL)
            else:
                asked.set_result(self._running[pid])
        else:
            self._running.pop(int(told["ended"])).ended(int(told["status"]))

    def _lost(self) -> None:
        """The server has gone."""
        if self._channel is not None:
            asyncio.get_running_loop().remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(OSError(f"the fork server ended; see {self._log_path}"))
        self._asked.clear()
        for forked in self._running.values():
            forked.ended(-signal.SIGKILL)
        self._running.clear()
