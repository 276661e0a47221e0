"""What each tenant got: counts over its own BE requests, shares as means over the placements at which tenants competed."""

from __future__ import annotations

import numpy as np
import pytest

from tango.analysis.tenant_figures import tenant_figures
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenant_shares import TenantSeries
from tests.fakes.run_records import outcomes_of


def series(tenant: list[int], *, share: list[tuple[float, float]]) -> TenantSeries:
    """Blue, with the weight 3, and red, at one placement a second; fair would be three quarters and one."""
    k = len(share)
    return TenantSeries(
        tenants=TenantColumns(names=("blue", "red"), weight=np.array([3.0, 1.0]), quota=np.full((3, 2), np.inf)),
        tenant=np.array(tenant, np.int32),
        at_s=np.arange(k, dtype=np.float64),
        share=np.array(share, np.float64).reshape(k, 2),
        fair_share=np.tile([0.75, 0.25], (k, 1)),
        is_below=np.array([[row[0] < 0.75, False] for row in share], np.bool_).reshape(k, 2),
        is_withheld=np.zeros((k, 2), np.bool_),
        is_over_quota=np.zeros((k, 2), np.bool_),
        gave_way=np.array([0, 4]),
    )


def test_each_tenant_has_what_its_own_be_requests_came_to() -> None:
    """LC of the same tenant is not counted, nor what belongs to none of them; a wait is to the start of what counted."""
    outcomes = outcomes_of(
        [
            {"cls": 1, "due": 10.0, "start": 12.0, "end": 30.0, "work": 5.0},
            {"cls": 1, "due": 10.0, "start": 14.0, "end": 30.0, "work": 7.0},
            {"cls": 1, "due": 10.0, "state": "failed", "work": 9.0},
            {"cls": 1, "due": 10.0, "state": "pending", "work": 9.0},
            {"cls": 0, "due": 10.0, "start": 10.1, "end": 10.2},
            {"cls": 1, "due": 10.0, "start": 11.0, "end": 30.0, "work": 1.0},
        ]
    )

    blue, red = tenant_figures(outcomes, series([0, 0, 0, 0, 0, 1], share=[(0.5, 0.5), (0.75, 0.25)]))

    assert (blue.tenant, blue.weight, blue.requests) == ("blue", 3.0, 4)
    assert (blue.succeeded, blue.failed, blue.unfinished) == (2, 1, 1)
    assert (blue.cpu_seconds, blue.wait_mean_s) == (12.0, 3.0)
    assert (blue.share, blue.fair_share, blue.below) == pytest.approx((0.625, 0.75, 0.5))
    assert (red.requests, red.wait_mean_s, red.gave_way) == (1, 1.0, 4)


def test_where_tenants_never_competed_there_are_no_shares() -> None:
    """And no wait where nothing succeeded."""
    blue, red = tenant_figures(outcomes_of([{"cls": 1, "state": "failed"}]), series([0], share=[]))

    assert (blue.share, blue.fair_share, blue.below, blue.wait_mean_s) == (None, None, None, None)
    assert red.requests == 0
