"""The search for the greatest rate that is sustained."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tango.bench.search import CLOSE_ENOUGH, greatest_sustained
from tango.errors import TangoError


@dataclass(frozen=True)
class Tried:
    """A trial of a stack that bears `bears` a second."""

    offered_per_s: float
    bears: float

    @property
    def sustained(self) -> bool:
        """Up to what it bears."""
        return self.offered_per_s <= self.bears


@pytest.mark.parametrize("bears", [31.0, 100.0, 777.0, 10_000.0])
def test_the_greatest_rate_is_found_from_below_and_from_above(bears: float) -> None:
    """To within the factor that is said, and never more than is borne."""
    found = greatest_sustained(lambda rate: Tried(rate, bears), first=200.0, least=20.0)

    assert bears / CLOSE_ENOUGH <= found.offered_per_s <= bears


def test_a_stack_that_bears_next_to_nothing_is_told_as_such() -> None:
    """Trials of ever less would take for ever."""
    with pytest.raises(TangoError, match="not even 25 requests per second were sustained"):
        greatest_sustained(lambda rate: Tried(rate, 3.0), first=200.0, least=20.0)
