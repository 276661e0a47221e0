"""How long an LC request may wait: the one rule by which it is given up, before its release and before its call."""

from __future__ import annotations

import math


def is_hopeless(*, waited_s: float, target_s: float, shed_after_targets: float, patience_s: float = math.inf) -> bool:
    """Whether a request has waited beyond what it may take, so that no answer would be of use; `shed_after_targets` 0: never, but for
    the patience of its caller."""
    return waited_s > min(shed_after_targets * target_s if shed_after_targets > 0 else math.inf, patience_s)
