"""Refusals in memory, by the clock of `MemoryState`; pauses without a random part, so that tests know their length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tango.domain.refusals import Pauses, Refusal, RefusalState
from tango.settings import RefusalSettings
from tests.fakes.memory_state import MemoryState


@dataclass(slots=True)
class _Row:
    refusal: Refusal
    times: int
    since_s: float
    until_s: float


class MemoryRefusals:
    """Implements `tango.ports.refusals.RefusalStore`."""

    def __init__(
        self,
        state: MemoryState,
        settings: RefusalSettings | None = None,
        *,
        rows: dict[tuple[str, str, str, str], _Row] | None = None,
    ) -> None:
        """`rows`: those of another one, which then are of both."""
        self._state = state
        self._settings = settings or RefusalSettings()
        self._rows: dict[tuple[str, str, str, str], _Row] = {} if rows is None else rows

    def note(self, refusals: Sequence[Refusal], *, role: str) -> None:
        """Each scope once."""
        settings, now_s = self._settings, self._state.now_s()
        for refusal in {(r.cluster, r.service, r.node): r for r in refusals}.values():
            key = refusal.cluster, refusal.service, refusal.node, role
            row = self._rows.get(key)
            if row is None or row.until_s < now_s - settings.forget_s:
                row = self._rows[key] = _Row(refusal, 0, now_s, -1.0)
            row.refusal = refusal
            if row.until_s < now_s:
                row.times += 1
                pause_s = min(settings.longest_pause_s, settings.first_pause_s * 2 ** (row.times - 1))
                row.until_s = now_s + max(min(refusal.at_least_s, settings.longest_pause_s), pause_s)

    def clear(self, cluster: str, services: Sequence[str], *, role: str, node: str = "") -> None:
        """By scope."""
        gone = [(cluster, service, node, role) for service in ("", *services)]
        for key in gone:
            self._rows.pop(key, None)

    def pauses(self) -> Pauses:
        """What is not forgotten."""
        now_s = self._state.now_s()
        return Pauses(
            tuple(
                RefusalState(
                    cluster=cluster,
                    service=service,
                    node=node,
                    role=role,
                    kind=row.refusal.kind,
                    words=row.refusal.words,
                    times=row.times,
                    since_s=row.since_s,
                    left_s=row.until_s - now_s,
                )
                for (cluster, service, node, role), row in sorted(self._rows.items())
                if row.until_s > now_s - self._settings.forget_s
            )
        )
