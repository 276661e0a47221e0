"""Worlds in memory for tests of the use cases."""

from __future__ import annotations

import pytest

from tests.fakes.agent_world import two_nodes
from tests.fakes.cluster_watch import MemoryCluster
from tests.fakes.control_world import ControlWorld, control_world


@pytest.fixture
def world() -> ControlWorld:
    """In memory, without runs; it is ZERO_S."""
    return control_world()


@pytest.fixture
def cluster() -> MemoryCluster:
    """c1, with two ready nodes."""
    return two_nodes()
