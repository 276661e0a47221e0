"""More time for the first test that simulates: where no machine code is cached yet, it compiles the engine."""

from __future__ import annotations

from pathlib import Path

import pytest

SIMULATING = ("bound", "experiments", "sim")
COMPILE_S = 600
"""A minute of an idle core; several on a machine that others use too."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only for the tests of the rooms that simulate."""
    folders = [Path(__file__).parent / room for room in SIMULATING]
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in folders) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(COMPILE_S))
