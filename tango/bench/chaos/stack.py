"""The stack that is struck: started by its own command, so that its supervisor can be killed; its files on a disk that can be filled."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tango.bench.waiting import wait_until
from tango.bootstrap.environment import read_settings
from tango.bootstrap.stores import Stores
from tango.errors import TangoError
from tango.stack.state import ADDRESS_VARIABLES, read_stack
from tango.stack.tether import tethered

DISK_MIB = 2048
"""Size of the disk of the state folder: PostgreSQL's files, and the journals, of a few runs."""


@dataclass(slots=True)
class ChaosStack:
    """A stack of its own, started by its command so that its supervisor can be killed."""

    home: Path
    fleet: str
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Bring it up; returns when it is ready. Raises: TangoError with the end of what it said."""
        command = [sys.executable, "-c", "from tango.cli.main import run; run()", "up", "--fleet", self.fleet, "--line-rtt-ms", "0"]
        said = self.home.parent / "up.log"
        with said.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command), env=self._environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

        def is_over() -> bool:
            assert self._process is not None
            return self._process.poll() is not None

        wait_until(
            lambda: is_over() or ((info := read_stack(self.home)) is not None and info.ready),
            timeout_s=300.0,
            every_s=0.1,
            failure=f"the stack is not ready after five minutes; its logs are in {self.home / 'logs'}",
        )
        if is_over():
            raise TangoError(f"the stack did not start: {said.read_text(errors='replace')[-600:]}")

    def kill(self) -> None:
        """SIGKILL the supervisor; its processes end with it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            # The next one can begin only when nothing of this one is left.
            wait_until(lambda: read_stack(self.home) is None, timeout_s=30.0, every_s=0.05, failure="the killed stack lives on")

    def stop(self) -> None:
        """Take it down."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
            self._process.kill()
            self._process.wait(30)

    @contextmanager
    def stores(self) -> Iterator[Stores]:
        """Of its database as it is reached now."""
        here = Stores(read_settings(self._environment()))
        try:
            yield here
        finally:
            here.database.close()

    def _environment(self) -> dict[str, str]:
        return {k: v for k, v in os.environ.items() if k not in ADDRESS_VARIABLES} | {"TANGO_HOME": str(self.home)}


@contextmanager
def own_disk(folder: Path) -> Iterator[Path | None]:
    """A disk of its own under the folder; None where only root could make one."""
    place = folder / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", str(place)], capture_output=True, check=False
    )
    try:
        yield place if made.returncode == 0 else None
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)
