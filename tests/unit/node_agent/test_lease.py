"""The lease in which a node agent reports."""

from __future__ import annotations

from typing import Any

import pytest

from tango.node_agent.lease import lease, parsed_report
from tango.node_agent.reports import NodeReport, Totals

NOTHING = Totals.of([])
REPORT = NodeReport(lc=NOTHING, be=NOTHING, node_memory_pressure=0.12345, cpu_share=0.5, memory_mark_bytes=3 << 20, pods={})


def test_what_is_written_is_read() -> None:
    """Node, time and report; shares to three digits."""
    written = lease("n1", "tango", REPORT, now="2026-01-01T00:00:00.000000Z", seconds=40)

    read = parsed_report(written)

    assert read is not None
    assert (read.node, read.at, read.report) == ("n1", "2026-01-01T00:00:00.000000Z", REPORT.as_json())
    assert (read.report["node_memory_pressure"], read.report["be_memory_mark_mib"]) == (0.123, 3)


@pytest.mark.parametrize(
    "changed",
    [{"metadata": {}}, {"spec": {}}, {"spec": {"holderIdentity": "n1"}}]
    + [{"metadata": {"annotations": {"tango/node-report": text}}} for text in ("", "{", "[]", "7")],
)
def test_a_lease_that_says_nothing_is_left_out(changed: dict[str, Any]) -> None:
    """Whoever may write leases may write anything into one."""
    written = lease("n1", "tango", REPORT, now="2026-01-01T00:00:00.000000Z", seconds=40)

    assert parsed_report(written | changed) is None
