"""CPU seconds of each test and file, with all processes that a test starts, those too that outlive it.

    pytest -p tests.cpu_times --cpu-times FILE.tsv ...

A process that runs tests moves into a control group of its own and reads its counter before and after every phase of a test, so that
stacks, workers and databases count, which `time` sees only when somebody waits for them. What a session's stack uses while it idles
counts for the test that is under way. Needs a writable control group v2, of which no controller has to be enabled.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where the rows go: test, phase, CPU seconds, wall seconds, separated by tabs."""
    parser.addoption("--cpu-times", metavar="FILE", help="append the CPU and wall seconds of every phase of every test")


def pytest_configure(config: pytest.Config) -> None:
    """In whatever process runs tests; one that only hands them out has no group."""
    path, hands_out = config.getoption("cpu_times"), not hasattr(config, "workerinput") and config.getoption("numprocesses", None)
    if path and not hands_out:
        config.pluginmanager.register(CpuTimes(Path(path)), "cpu-times-of-tests")


class CpuTimes:
    """The group of this process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._root = _mounted()
        self._group = self._root / f"tests-{os.getpid()}"
        self._group.mkdir()
        (self._group / "cgroup.procs").write_text(str(os.getpid()))

    def pytest_unconfigure(self) -> None:
        """Leave it, with what ends only with this process, and delete it."""
        for process in (self._group / "cgroup.procs").read_text().split():
            (self._root / "cgroup.procs").write_text(process)
        self._group.rmdir()

    def used_s(self) -> float:
        """CPU seconds of the group so far."""
        lines = (self._group / "cpu.stat").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("usage_usec")) / 1e6

    def _phase(self, item: pytest.Item, name: str) -> Generator[None, object, object]:
        cpu_s, wall_s = self.used_s(), time.monotonic()
        try:
            return (yield)
        finally:
            row = (item.nodeid, name, f"{self.used_s() - cpu_s:.3f}", f"{time.monotonic() - wall_s:.3f}")
            with self._path.open("a") as file:  # a line is one write, so that several processes may share the file
                file.write("\t".join(row) + "\n")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """With the fixtures that begin here."""
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """The test itself."""
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """With the fixtures that end here."""
        return (yield from self._phase(item, "teardown"))


def _mounted() -> Path:
    """Where control groups v2 are."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("no control group v2 is mounted: expected a line of /proc/mounts with type cgroup2")
