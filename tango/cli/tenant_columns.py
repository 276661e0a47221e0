"""What tables say of each tenant of a simulated run."""

from __future__ import annotations

from tango.cli.output import ListColumn, share

TENANT_COLUMNS = (
    ListColumn("tenant", priority=10),
    ListColumn("weight", justify="right", priority=8),
    ListColumn("requests", justify="right", priority=7),
    ListColumn("succeeded", justify="right", wide=True),
    ListColumn("failed", justify="right", wide=True),
    ListColumn("cpu_seconds", title="CPU-s done", justify="right", priority=8),
    ListColumn("wait_mean_s", title="mean wait s", justify="right", priority=7),
    ListColumn("share", show=share, justify="right", priority=10),
    ListColumn("fair_share", show=share, justify="right", priority=10),
    ListColumn("below", show=share, justify="right", priority=5),
    ListColumn("withheld", show=share, justify="right", wide=True),
    ListColumn("over_quota", show=share, justify="right", wide=True),
    ListColumn("gave_way", justify="right", priority=6),
)
