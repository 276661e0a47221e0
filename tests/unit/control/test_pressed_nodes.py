"""Nodes that get no BE because LC or memory there is short."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tango.control.pressed_nodes import PressedNodes
from tango.domain.smallest import smallest_snapshot
from tango.domain.snapshot import FleetSnapshot
from tango.settings import NodeAgentSettings

SETTINGS = NodeAgentSettings()


def snapshot_of(cpu: float = 0.0, memory: float = 0.0) -> FleetSnapshot:
    """One node of which its agent has told this."""
    return replace(smallest_snapshot(), lc_cpu_pressure=np.array([cpu]), memory_pressure=np.array([memory]))


def test_a_node_stays_pressed_until_it_is_below_the_lower_threshold() -> None:
    """A value between the two is what it was before."""
    nodes = PressedNodes(SETTINGS)
    between = (SETTINGS.cpu_pressure_low + SETTINGS.cpu_pressure_high) / 2

    seen = [nodes.follow(snapshot_of(cpu=cpu)).tolist() for cpu in (between, 0.9, between, 0.0, between)]

    assert seen == [[False], [True], [True], [False], [False]]


def test_a_node_of_which_nothing_is_told_any_more_is_open() -> None:
    """Its agent may be gone for good; what the kubelet tells of memory still holds."""
    nodes = PressedNodes(SETTINGS)
    nodes.follow(snapshot_of(cpu=0.9))

    assert nodes.follow(smallest_snapshot()).tolist() == [False]
    assert nodes.remark == ""


def test_the_remark_names_nodes_and_reasons() -> None:
    """For the record of a decision."""
    nodes = PressedNodes(SETTINGS)
    nodes.follow(snapshot_of(cpu=0.31, memory=0.5))

    assert nodes.remark == "no BE to c/n (LC lacks CPU 31%, memory is short 50%)"
