"""One container as a local process: in a session of its own, its output in the container's log, its end with exit code and CPU time.

It is not isolated: it sees the machine's files, processes and network as its user does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field

from tango.emulation.pod_logs import BLOCK, BoundedLog
from tango.emulation.virtual_kubelet.launching import UMASK, Launch

LAST_OUTPUT_S = 1.0
"""Seconds for the rest of the output of a process that has ended; longer waits only what it has left behind in another session."""
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a process ended. Times are Unix seconds."""

    code: int
    """As a container's: 128 and the signal's number for one that a signal ended."""
    cpu_s: float
    """CPU-seconds that it and the children that it waited for have used."""
    finished_s: float


@dataclass(slots=True, eq=False)
class LocalProcess:
    """A process that runs. Made by `started`, bound to the running loop."""

    pid: int
    started_s: float
    ended: asyncio.Future[Exit] = field(repr=False)
    cpu_s: float = 0.0
    """CPU-seconds of its group so far, and `memory_mib` that it holds now, as last measured."""
    memory_mib: float = 0.0
    killed_for_memory: bool = False

    @classmethod
    def started(cls, launch: Launch, log: BoundedLog) -> LocalProcess:
        """Start it. The log is closed when it has ended. Raises: OSError for a program or folder that is not there."""
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        try:
            process = subprocess.Popen(
                launch.argv,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=dict(launch.environment),
                cwd=launch.folder,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                umask=UMASK,
            )
        except BaseException:
            os.close(reading)
            log.close()
            raise
        finally:
            os.close(writing)
        made = cls(pid=process.pid, started_s=time.time(), ended=loop.create_future())
        output = threading.Thread(target=_keep_output, args=(reading, log), name=f"output-{process.pid}", daemon=True)
        output.start()
        args = (process, output, loop, made.ended)
        threading.Thread(target=_reap, args=args, name=f"reap-{process.pid}", daemon=True).start()
        return made

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and all that it has started; nothing where it has ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, and SIGKILL if it has not ended within `grace_s` seconds."""
        self.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self.ended), grace_s)
        self.signal(signal.SIGKILL)
        await self.ended


def _die_with_parent() -> None:
    """Between fork and exec: the process gets SIGKILL when the kubelet ends in whatever way, and no core file of it is written."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, from <linux/prctl.h>


def _keep_output(reading: int, log: BoundedLog) -> None:
    """Read all that a process writes: one whose output nobody reads would hang. What the disk does not take is lost."""
    with contextlib.closing(os.fdopen(reading, "rb", buffering=0)) as output:
        while block := output.read(BLOCK):
            with contextlib.suppress(OSError, ValueError):
                log.write(block)
    with contextlib.suppress(OSError):
        log.close()


def _reap(
    process: subprocess.Popen[bytes], output: threading.Thread, loop: asyncio.AbstractEventLoop, ended: asyncio.Future[Exit]
) -> None:
    # Looked at before it is reaped: while the leader is there nobody else can have its group's number.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    finished_s = time.time()
    output.join(LAST_OUTPUT_S)
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    found = Exit(code=code, cpu_s=usage.ru_utime + usage.ru_stime, finished_s=finished_s)

    def tell() -> None:
        if not ended.done():
            ended.set_result(found)

    with contextlib.suppress(RuntimeError):  # the loop has been closed
        loop.call_soon_threadsafe(tell)
