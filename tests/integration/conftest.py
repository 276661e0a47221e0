"""One stack for all tests that need one and change nothing in its settings or its fleet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.foreign import FILLING, OTHERS, PASSED_OVER, STARTED
from tests.integration.live_stack import LiveStack


@pytest.fixture(scope="session")
def single_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """A stack of one cluster, every process of it running. A test that stops a process gives it back running.

    It and its commands are started in a shell that is full of other applications' variables, which no test may notice.
    """
    stack = LiveStack(tmp_path_factory.mktemp("single") / "home", {**OTHERS, **STARTED, **FILLING, **PASSED_OVER})
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
