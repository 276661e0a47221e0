"""Figures of ended runs in memory, over the same `MemoryState` as the other stores."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tango.domain.runs import OPEN, RunStatus
from tango.ports.figures import Figures, FiguresClaim
from tests.fakes.memory_state import MemoryState, Order


class MemoryFiguresStore:
    """Implements `tango.ports.figures.FiguresStore`."""

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def order(self, run_id: int) -> bool:
        """Once."""
        with self._state.lock:
            is_new = run_id in self._state.runs and run_id not in self._state.orders
            if is_new:
                self._state.orders[run_id] = Order()
            return is_new

    def claim(self, *, lease_s: float, most_claims: int) -> FiguresClaim | None:
        """The first that is free."""
        with self._state.lock:
            for run_id, order in sorted(self._state.orders.items()):
                if order.kept is None and not order.failure and order.lease_until_s < self._state.now_s():
                    order.epoch, order.lease_until_s = order.epoch + 1, self._state.now_s() + lease_s
                    if order.epoch <= most_claims:
                        return FiguresClaim(run_id=run_id, epoch=order.epoch)
                    order.failure = f"given up after {most_claims} attempts"
                    self._complete(run_id)
            return None

    def renew(self, claim: FiguresClaim, *, lease_s: float) -> bool:
        """Under its epoch."""
        with self._state.lock:
            order = self._state.orders[claim.run_id]
            stands = order.epoch == claim.epoch and order.kept is None
            if stands:
                order.lease_until_s = self._state.now_s() + lease_s
            return stands

    def save(self, claim: FiguresClaim, kept: Mapping[str, Any], figures: Figures) -> bool:
        """Under its epoch, once."""
        with self._state.lock:
            order = self._state.orders.get(claim.run_id)
            if order is None or order.epoch != claim.epoch or order.kept is not None:
                return False
            order.kept = json.loads(json.dumps(kept))
            self._state.runs[claim.run_id].metrics = dict(figures)
            self._complete(claim.run_id)
            return True

    def kept(self, run_id: int) -> dict[str, Any] | None:
        """As saved."""
        order = self._state.orders.get(run_id)
        return None if order is None else order.kept

    def failure(self, run_id: int) -> str:
        """As noted."""
        order = self._state.orders.get(run_id)
        return "" if order is None else order.failure

    def _complete(self, run_id: int) -> None:
        run = self._state.runs[run_id]
        if run.info.status in OPEN:
            run.info = dataclasses.replace(run.info, status=RunStatus.COMPLETED)
