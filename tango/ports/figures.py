"""The figures of ended live runs: ordered once, claimed by whoever computes them, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Figures = Mapping[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresClaim:
    """Somebody's task to compute the figures of a run, until its lease is over."""

    run_id: int
    epoch: int


class FiguresStore(Protocol):
    """Orders, claims and results. Raises: StoreUnavailable, StoreError."""

    def order(self, run_id: int) -> bool:
        """Ask for the figures of a run whose requests are all terminal, and note its end; give whether this call asked first."""
        ...

    def claim(self, *, lease_s: float, most_claims: int) -> FiguresClaim | None:
        """Take the oldest order that has no result and no lease, under a new epoch; None where there is none.

        An order that was claimed `most_claims` times ends without figures: the run is completed, and `failure` says why.
        """
        ...

    def renew(self, claim: FiguresClaim, *, lease_s: float) -> bool:
        """Extend the lease; False where a newer claim was made or the result is there."""
        ...

    def save(self, claim: FiguresClaim, kept: Mapping[str, Any], figures: Figures) -> bool:
        """Keep the result, the numbers as `run_metric` has them, and complete a run that is open; False where a newer claim was made.

        `kept` is JSON all through. Twice under one claim: the first counts.
        """
        ...

    def kept(self, run_id: int) -> dict[str, Any] | None:
        """What `save` was given; None where there is nothing."""
        ...

    def failure(self, run_id: int) -> str:
        """Why a run has no figures although it has ended; empty where it has, or is still to get them."""
        ...
