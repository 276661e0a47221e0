"""Settling outcomes so that one which the store refuses costs the others nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import structlog

from tango.domain.lifecycle import Outcome
from tango.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Settles(Protocol):
    """A journal, or the centre's store."""

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """End attempts; gives how many were ended."""
        ...


def settle_apart(requests: Settles, outcomes: Sequence[Outcome]) -> int:
    """Settle outcomes together, or, where the store refuses them for good, each by itself; gives how many were refused.

    A refused one is logged and left to its lease: a sweep takes its row back. Together with others, again and again, it would
    keep all of them from being written. Settling twice counts once, so whatever a refused group has written does no harm.
    Raises: StoreUnavailable; all outcomes are to be settled again then.
    """
    try:
        requests.settle(outcomes)
    except StoreUnavailable:
        raise
    except Exception as error:
        if len(outcomes) > 1:
            return sum(settle_apart(requests, [outcome]) for outcome in outcomes)
        (one,) = outcomes
        log.exception("settle_refused", run_id=one.run_id, request_id=one.request_id, epoch=one.epoch, reason=str(error))
        return 1
    return 0
