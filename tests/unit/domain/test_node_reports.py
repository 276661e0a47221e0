"""What a node's agent reports, in an annotation that anybody may write who may write leases."""

from __future__ import annotations

import pytest

from tango.domain.node_reports import NodeAgentReport


@pytest.mark.parametrize(
    ("said", "taken"),
    [(0.25, 0.25), (1, 1.0), (-3, 0.0), (7, 1.0), (10**400, 1.0), (-(10**400), 0.0), (float("nan"), None), (True, None)],
    ids=["share", "whole", "below", "above", "far above", "far below", "nan", "truth"],
)
def test_a_share_is_from_0_to_1_whatever_is_written(said: object, taken: float | None) -> None:
    """A whole number that no float holds would end the agent that reads it."""
    report = NodeAgentReport(node="n1", at="", report={"lc": {"cpu_pressure": said}})

    assert report.lc_cpu_pressure == taken
