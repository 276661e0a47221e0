"""One stack for all tests that need one and change nothing in its settings or its fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.collector import Collector, collecting
from tests.foreign import FILLING, OTHERS, PASSED_OVER, STARTED
from tests.integration.live_stack import LiveStack

RATIO = 0.2
"""Share of the requests of `single_stack` that have a distributed trace."""


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """Where the traces of `single_stack` go."""
    with collecting() as found:
        yield found


@pytest.fixture(scope="session")
def single_stack(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[LiveStack]:
    """A stack of one cluster, every process of it running, in which a fifth of all requests has a distributed trace. A test that stops a
    process gives it back running.

    It and its commands are started in a shell that is full of other applications' variables, which no test may notice.
    """
    # Spans go through the proxy that the environment names, if any, as those of every exporter of OpenTelemetry do.
    traced = {"TANGO_TRACING_RATIO": str(RATIO), "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "no_proxy": "127.0.0.1"}
    stack = LiveStack(tmp_path_factory.mktemp("single") / "home", {**OTHERS, **STARTED, **FILLING, **PASSED_OVER, **traced})
    try:
        stack.start("single")
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="module")
def stack_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], LiveStack]]:
    """Starts a stack for a declaration of a fleet; it ends with the tests of the file."""
    started: list[LiveStack] = []

    def start(declaration: str) -> LiveStack:
        folder: Path = tmp_path_factory.mktemp("stack")
        (folder / "fleet.yaml").write_text(declaration)
        stack = LiveStack(folder / "home")
        started.append(stack)
        stack.start(folder / "fleet.yaml")
        return stack

    yield start
    for stack in started:
        stack.stop()
