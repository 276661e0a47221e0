"""Which pending BE requests a placement looks at: the oldest, and every other time, while those fit nowhere, the ones behind them."""

from __future__ import annotations

from collections.abc import Mapping


class BeTurns:
    """The turns of one scheduler. A cycle asks for `behind` before it reads, and tells what came of it with `end`."""

    def __init__(self) -> None:
        self._behind: dict[tuple[int, str], tuple[float, int]] = {}
        """By run and tenant, the last request that was looked at behind the oldest, by due time and id."""
        self._is_behind = False

    @property
    def behind(self) -> Mapping[tuple[int, str], tuple[float, int]]:
        """By run and tenant, the request behind which this cycle looks, as `BeRequests.pending_be` takes it; empty: at the oldest."""
        return self._behind if self._is_behind else {}

    def stay(self) -> None:
        """The next cycle looks at the oldest, whosever turn it is."""
        self._is_behind = False

    def end(self, reached: Mapping[tuple[int, str], tuple[float, int]], *, is_full: bool, is_any_left: bool) -> None:
        """The cycle is over: how far it has `reached`, whether it looked at as much as it may, and whether any of that has no node.

        While the oldest fill a cycle and do not all find a node, every other one goes on behind them to the last, and then begins anew: the
        oldest still come first, and nobody waits for ever behind requests that no node can take.
        """
        if self._is_behind:
            self._behind = self._behind | dict(reached) if is_full else {}
            self._is_behind = False
        elif is_full and is_any_left:
            self._behind = self._behind or dict(reached)
            self._is_behind = bool(self._behind)
        else:
            self._behind = {}
