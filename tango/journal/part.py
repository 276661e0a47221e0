"""What all parts of a journal have in common: the file, the settings, the clock, and the one table of transitions, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

import orjson

from tango.domain.lifecycle import Event, transition
from tango.domain.patience import call_within_s
from tango.domain.requests import RequestState
from tango.domain.services import ServiceClass
from tango.domain.state_lists import OPEN_STATES
from tango.journal.database import Connection, JournalDatabase
from tango.settings import LcSettings, LeaseSettings, StoreSettings

T = TypeVar("T")
Row = tuple[Any, ...]


class JournalPart:
    """One part of the methods of a journal."""

    def __init__(
        self,
        database: JournalDatabase,
        *,
        cluster: str,
        lease: LeaseSettings,
        lc: LcSettings,
        store: StoreSettings,
        wall_s: Callable[[], float],
    ) -> None:
        self._database = database
        self._cluster = cluster
        self._max_attempts = lease.max_attempts
        self._lc = lc
        self._chunk_rows = store.chunk_rows
        self._wall_s = wall_s

    def _limit_s(self, target_s: float, patience_s: float, lease_s: float) -> float:
        """Seconds after which a call has ended in any case: its own time-out, and a lease more for its result to be written."""
        lc = self._lc
        within_s = call_within_s(target_s=target_s, patience_s=patience_s, targets=lc.timeout_targets, least_s=lc.timeout_min_s)
        return lease_s + within_s


@cache
def follows(event: Event, state: str) -> tuple[str, str, bool, str] | None:
    """(state that follows, outcome of the attempt or "", whether a new epoch begins, reason that is always recorded or "") of an event
    for an LC request in this state; None where it cannot happen."""
    found = transition(event, RequestState(state), ServiceClass.LC)
    if found is None:
        return None
    return str(found.after or state), found.outcome, found.gives_out, str(found.reason or "")


_IS_OPEN = f"EXISTS (SELECT 1 FROM run WHERE run_id = ?2 AND status IN {OPEN_STATES})"


def rows_by_id(
    connection: Connection, columns: str, run_id: int, request_ids: Sequence[int], *, of_open_run: bool = False
) -> list[Row]:
    """These columns of the requests that there are among those named, each once, in order of id; `of_open_run`: none of a run whose
    requests may not move on."""
    wanted = orjson.dumps(sorted(set(request_ids))).decode()
    sql = f"SELECT {columns} FROM json_each(?1) v CROSS JOIN request r ON r.run_id = ?2 AND r.request_id = v.value"
    return connection.execute(f"{sql} WHERE {_IS_OPEN}" if of_open_run else sql, (wanted, run_id)).fetchall()


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, at most `size` at a time."""
    return (items[k : k + size] for k in range(0, len(items), size))
