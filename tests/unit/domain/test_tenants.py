"""What a tenant may be, and what its members mean as columns."""

from __future__ import annotations

import numpy as np
import pytest

from tango.domain.resource_axis import ResourceAxis
from tango.domain.tenant_columns import TenantColumns
from tango.domain.tenants import Tenant
from tango.errors import ConfigError


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"name": "Blue"}, r"tenant 'Blue': name is 'Blue', expected at most 63 of a-z"),
        ({"weight": 0.0}, r"weight is 0.0, expected a number from 1e-06 to 1e\+06"),
        ({"quota": (("pods", 3),)}, r"quota is 'pods', expected cpu, memory, or an extended resource"),
        ({"quota": (("cpu", -1),)}, r"quota of cpu is -1, expected 0 or more"),
        ({"most_jobs": -1}, r"jobs is -1, expected 0 or more"),
    ],
)
def test_a_tenant_that_cannot_be_is_refused_with_what_was_expected(members: dict[str, object], words: str) -> None:
    """The message names the tenant and the member."""
    with pytest.raises(ConfigError, match=words):
        Tenant(**{"name": "blue", **members})  # type: ignore[arg-type]


def test_who_is_not_declared_has_the_weight_one_and_no_quota() -> None:
    """And a quota of a resource that no service asks for limits nobody."""
    blue = Tenant(name="blue", weight=2.0, quota=(("cpu", 500), ("nvidia.com/gpu", 1000)))

    found = TenantColumns.of(("red", "blue"), {"blue": blue}, ResourceAxis())

    assert found.weight.tolist() == [1.0, 2.0]
    assert found.quota.tolist() == [[np.inf, 500.0], [np.inf, np.inf], [np.inf, np.inf]]
    assert found.any_quota
