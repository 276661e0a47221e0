"""Which pending BE requests a placement looks at: the oldest, and every other time, while those fit nowhere, the ones behind them."""

from __future__ import annotations

from collections.abc import Mapping

from tango.domain.runs import PendingRequests


class BeTurns:
    """The turns of one scheduler. A cycle asks for `behind` before it reads, and tells what came of it with `end`."""

    def __init__(self) -> None:
        self._behind: dict[int, tuple[float, int]] = {}
        """By run, the last request that was looked at behind the oldest, by due time and id."""
        self._is_behind = False

    @property
    def behind(self) -> Mapping[int, tuple[float, int]]:
        """By run, the request behind which this cycle looks, as `BeRequests.pending_be` takes it; empty: at the oldest."""
        return self._behind if self._is_behind else {}

    def end(self, batch: PendingRequests, *, limit: int, placed: int) -> None:
        """The cycle is over: what it looked at, up to `limit` requests, and how many of them found a node.

        While the oldest fill a cycle and do not all find a node, every other one goes on behind them to the last, and then begins anew: the
        oldest still come first, and nobody waits for ever behind requests that no node can take.
        """
        is_full = len(batch.pending) >= limit
        if self._is_behind:
            self._behind = self._behind | dict(batch.reached) if is_full else {}
            self._is_behind = False
        elif is_full and placed < len(batch.pending):
            self._behind = self._behind or dict(batch.reached)
            self._is_behind = bool(self._behind)
        else:
            self._behind = {}
