"""How long an LC request may wait, and when a cluster's LC waits so much that BE has to: one home for both worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tango.domain.shares import LcWait

WAITS_LONG_TARGETS = 0.5
"""Part of its target after which a request that waits for its dispatch counts as late: dispatch takes milliseconds, and half of what the
request may take is then gone before anything was done for it."""
UNCLAIMED_AFTER_S = 5.0
"""Seconds after its due time at which it is told that nobody has released a request: a release takes milliseconds, and a worker that takes
over from one that has died begins within `LEASE_S` of the keeper, 2 s."""
FEW_LATE = 2
"""So many late requests are no queue, however few there are in all: one that hangs, and one behind it."""


def given_up_after_s(target_s: float, shed_after_targets: float) -> float:
    """Seconds after its due time at which a request is given up; infinity where `shed_after_targets` is 0. Compiled steps inline it."""
    return shed_after_targets * target_s if shed_after_targets > 0.0 else math.inf


def patience_s(target_s: NDArray[np.float64], shed_after_targets: NDArray[np.float64]) -> NDArray[np.float64]:
    """(m,) `given_up_after_s` of each request."""
    return np.where(shed_after_targets > 0.0, shed_after_targets, np.inf) * target_s


def is_hopeless(*, waited_s: float, target_s: float, shed_after_targets: float, patience_s: float = math.inf) -> bool:
    """Whether a request has waited beyond what it may take, so that no answer would be of use; `patience_s` is its caller's."""
    return waited_s > min(given_up_after_s(target_s, shed_after_targets), patience_s)


def call_within_s(*, target_s: float, patience_s: float, targets: float, least_s: float) -> float:
    """Seconds that a call of a request may take: so many targets, at least `least_s`, and as long as its caller waits.

    `patience_s` is infinity where nobody waits, which gives it no longer.
    """
    return max(least_s, targets * target_s, patience_s if patience_s < math.inf else 0.0)


def crowded(waits: Mapping[str, LcWait], *, late_share: float) -> set[str]:
    """Clusters more than `late_share` of whose LC under way is late."""
    return {cluster for cluster, wait in waits.items() if wait.late > max(FEW_LATE, late_share * wait.under_way)}
