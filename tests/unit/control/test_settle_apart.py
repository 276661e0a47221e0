"""Settling a group: what the store refuses costs the others nothing, and what it cannot take now is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tango.control.settle_apart import settle_apart
from tango.domain.lifecycle import Event, Outcome
from tango.errors import StoreError, StoreUnavailable


class Settling:
    """A store that refuses what is of one request."""

    def __init__(self, error: Exception, *, refused: int) -> None:
        self.error, self.refused = error, refused
        self.settled: list[int] = []

    def settle(self, outcomes: Sequence[Outcome]) -> int:
        """Raises: the planned error for a group with the refused request, of which it writes nothing."""
        if any(outcome.request_id == self.refused for outcome in outcomes):
            raise self.error
        self.settled += [outcome.request_id for outcome in outcomes]
        return len(outcomes)


def outcomes(count: int) -> list[Outcome]:
    """Of so many requests of a run, all succeeded."""
    return [Outcome(run_id=1, request_id=k, epoch=1, event=Event.SUCCEED, started_s=0.0, finished_s=1.0) for k in range(count)]


@pytest.mark.parametrize("error", [StoreError("refused"), ZeroDivisionError("a defect")], ids=["refused", "defect"])
def test_one_that_is_refused_costs_the_others_nothing(error: Exception) -> None:
    """They are written each by itself, and the refused one is counted."""
    store = Settling(error, refused=1)

    assert settle_apart(store, outcomes(4)) == 1  # type: ignore[arg-type]
    assert store.settled == [0, 2, 3]


def test_a_store_that_is_away_is_no_refusal() -> None:
    """Nothing is tried by itself then: all of it is settled when the store is back."""
    store = Settling(StoreUnavailable("away"), refused=1)

    with pytest.raises(StoreUnavailable):
        settle_apart(store, outcomes(4))  # type: ignore[arg-type]
    assert store.settled == []
