"""A running stack for tests of whole runs, used through the commands that users have."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from tests.commands import PROGRAM, ROOT, run_tango


@dataclass(frozen=True, slots=True)
class LiveStack:
    """The commands, bound to one state folder."""

    home: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    """Variables of every command."""
    before: tuple[str, ...] = ()
    """Words that every command begins with, such as `ip netns exec NAME`."""
    _kept: dict[str, psycopg2.extensions.connection] = field(default_factory=dict, repr=False, compare=False)
    """The connection by which rows are read: a new one costs 20 ms of CPU, and tests that wait look many times a second."""
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def tango(
        self, *arguments: str, timeout_s: float = 180.0, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with further environment `variables`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | dict(variables or {})
        environment |= {**self.settings, "TANGO_HOME": str(self.home), "PYTHONPATH": str(ROOT)}
        if not self.before:
            return run_tango(arguments, environment=environment, timeout_s=timeout_s)
        return subprocess.run(
            [*self.before, *PROGRAM, *arguments], capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )

    def json(self, *arguments: str) -> Any:
        """What a command prints with `-o json`; it must succeed."""
        done = self.tango(*arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, fleet: Path | str) -> None:
        """Bring it up."""
        done = self.tango("up", "--fleet", str(fleet), "--detach")
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Take it down and delete its data; `down` must succeed and leave no process."""
        done = self.tango("down")
        left = self.processes()
        if (self.home / "data" / "postgres").is_symlink():
            shutil.rmtree((self.home / "data" / "postgres").resolve())
        assert done.returncode == 0, done.stderr
        assert left == []
        assert not (self.home / "stack.json").exists()

    def processes(self) -> list[str]:
        """Command lines of live processes that were told this state folder, or that name it."""
        found = []
        for process in Path("/proc").iterdir():
            if not process.name.isdecimal() or int(process.name) == os.getpid():
                continue
            try:
                told = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                if os.fsencode(self.home) in told:
                    found.append((process / "cmdline").read_text().replace("\0", " "))
            except OSError:  # it has ended meanwhile
                continue
        return found

    def submit(self, trace: Path, *options: str) -> int:
        """Submit a trace; give the run."""
        return int(self.json("run", "submit", str(trace), *options)["run"])

    def kill(self, process: str) -> None:
        """SIGKILL the process of this name."""
        os.kill(next(row["pid"] for row in self.status() if row["name"] == process), signal.SIGKILL)
        if process == "postgres":  # what is kept may be answered for a moment by a server that has lost its parent
            with self._turn:
                while self._kept:
                    self._kept.popitem()[1].close()

    def status(self) -> list[dict[str, Any]]:
        """What `tango status` prints, from the file that it reads: the command takes a second, in which a run would go on."""
        return list(json.loads((self.home / "run" / "status.json").read_text())["processes"])

    def all_run(self) -> bool:
        """Whether every process does, after some were killed."""
        return all(row["state"] == "running" for row in self.status())

    def ended(self, run_id: int, *, within_s: float) -> dict[str, Any]:
        """The figures of a run once it is completed; fails when it is not in time."""
        # Asked in SQL: a command is half a second of CPU, which the run itself needs on a small machine.
        deadline_s = time.monotonic() + within_s
        while (status := self.rows("SELECT status FROM run WHERE run_id = %s", (run_id,))[0][0]) != "completed":
            assert time.monotonic() < deadline_s, (
                f"{status}, not completed within {within_s} s: {self.json('run', 'show', str(run_id))}"
            )
            time.sleep(0.2)
        return dict(self.json("run", "show", str(run_id)))

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query by the reader's role. Raises: psycopg2.OperationalError while the database is away."""
        url = json.loads((self.home / "stack.json").read_text())["reader_url"].replace("+psycopg2", "")
        with self._turn:
            if (kept := self._kept.pop(url, None)) is not None:
                try:
                    found = _fetched(kept, query, parameters)
                except (psycopg2.OperationalError, psycopg2.InterfaceError):  # the server has ended meanwhile, and may be back
                    kept.close()
                else:
                    self._kept[url] = kept
                    return found
            connection = psycopg2.connect(url, connect_timeout=5)
            connection.autocommit = True
            found = _fetched(connection, query, parameters)
            self._kept[url] = connection
            return found


def active_tasks(told: Mapping[str, str]) -> list[dict[str, object]]:
    """Tasks that hold a slot of a cluster's worker, found by what `tango env` has told."""
    inspect = (sys.executable, "-m", "celery", "-A", "workers.app", "inspect", "active", "-j")
    done = subprocess.run(
        inspect, capture_output=True, text=True, timeout=30, cwd=ROOT, env={**told, "PATH": "/usr/bin", "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 0, done.stderr
    return [task for worker, tasks in json.loads(done.stdout).items() if worker.startswith("worker-") for task in tasks]


def _fetched(connection: psycopg2.extensions.connection, query: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters)
        return cursor.fetchall()
