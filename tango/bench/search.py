"""The greatest rate that a stack sustains, found by trials."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from tango.errors import TangoError

CLOSE_ENOUGH = 1.15
"""The search ends where the least rate that is too much is less than so many times the greatest that is sustained."""


class Tried(Protocol):
    """How a rate was borne."""

    @property
    def offered_per_s(self) -> float:
        """The rate."""
        ...

    @property
    def sustained(self) -> bool:
        """Whether it could go on so for ever."""
        ...


T = TypeVar("T", bound=Tried)


def greatest_sustained(trial: Callable[[float], T], *, first: float, least: float) -> T:
    """The trial at the greatest rate that is sustained, to within `CLOSE_ENOUGH`, beginning with `first`.

    Raises: TangoError where not even a rate below `least` is.
    """
    rate: float = first
    best: T | None = None
    too_much: float | None = None
    while True:
        tried = trial(rate)
        if tried.sustained:
            best = tried
        else:
            too_much = rate
        if best is None:
            if rate / 2 < least:
                raise TangoError(f"not even {rate:.0f} requests per second were sustained; see the messages above for why")
            rate /= 2
        elif too_much is None:
            rate *= 1.5
        elif too_much / best.offered_per_s < CLOSE_ENOUGH:
            return best
        else:
            rate = (best.offered_per_s + too_much) / 2
