"""Runs in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tango.domain.identity import PodKey
from tango.domain.lifecycle import IN_FLIGHT, LIVE, TERMINAL, Event
from tango.domain.requests import Reason
from tango.domain.retention import StoredRun
from tango.domain.runs import (
    ENDED,
    OPEN,
    NewRequests,
    NewRun,
    RunInfo,
    RunKind,
    RunStatus,
    StateCounts,
    can_become,
    require_ended,
)
from tango.domain.services import ServiceClass
from tango.domain.tenants import DEFAULT_TENANT
from tango.errors import StoreError, UsageError
from tango.ports.runs import Swept
from tests.fakes.memory_state import MemoryState, Row, Run, Share


class MemoryRunStore:
    """Implements `tango.ports.runs.RunStore`."""

    def __init__(self, state: MemoryState, *, chunk_rows: int = 1000) -> None:
        self._state = state
        self._chunk_rows = chunk_rows

    def create_run(self, run: NewRun, requests: NewRequests) -> int:
        """All rows or, where one does not hold what its column takes, none."""
        with self._state.lock:
            run_id = max(self._state.runs, default=0) + 1
            rows = [_row(run_id, k, requests) for k in range(len(requests))]
            names = ("name", "system", "fleet", "seed", "speed", "reassure")
            info = RunInfo(
                run_id=run_id,
                status=RunStatus.ACCEPTED,
                started_at_s=None,
                accepted=len(rows),
                **{name: getattr(run, name) for name in names},
            )
            self._state.runs[run_id] = Run(info, rows, tenant=run.tenant or DEFAULT_TENANT)
            lc = Counter(row.cluster for row in rows if row.service_class is ServiceClass.LC)
            self._state.shares |= {(run_id, cluster): Share(accepted=n) for cluster, n in lc.items()}
            return run_id

    def run(self, run_id: int) -> RunInfo:
        """One run."""
        if run_id not in self._state.runs:
            was = f" any more: it was deleted on some day ({self._state.deleted[run_id]})" if run_id in self._state.deleted else ""
            latest = ", ".join(f"{r.run_id} ({r.name})" for r in self.runs(limit=5)) or "none yet"
            raise UsageError(f"there is no run {run_id}{was}; the latest runs: {latest}")
        return self._state.runs[run_id].info

    def runs(self, *, limit: int = 50, kind: RunKind | None = None) -> list[RunInfo]:
        """Newest first."""
        newest = [self._state.runs[k].info for k in sorted(self._state.runs, reverse=True)]
        return [info for info in newest if kind in (None, info.kind)][:limit]

    def active_runs(self) -> list[RunInfo]:
        """Open."""
        return [run.info for _, run in sorted(self._state.runs.items()) if run.info.status in OPEN]

    def cancelling_runs(self) -> list[int]:
        """By id."""
        return [k for k, run in sorted(self._state.runs.items()) if run.info.status is RunStatus.CANCELLING]

    def begin(self, run_id: int, *, at_s: float) -> float:
        """Set the zero once."""
        with self._state.lock:
            info = self.run(run_id)
            if info.started_at_s is None:
                self._state.runs[run_id].info = replace(info, started_at_s=at_s)
            return self._state.runs[run_id].info.started_at_s or at_s

    def set_status(self, run_id: int, status: RunStatus) -> None:
        """Forward only."""
        with self._state.lock:
            run = self._state.runs[run_id]
            if can_become(run.info.status, status):
                run.info = replace(run.info, status=status)
                run.ended_at_s = self._state.now_s() if status in ENDED else run.ended_at_s

    def cancel(self, run_id: int) -> bool:
        """The run alone."""
        with self._state.lock:
            stops = self.run(run_id).status in OPEN
            if stops:
                self.set_status(run_id, RunStatus.CANCELLING)
            return stops

    def sweep_cancelled(self, run_id: int, *, beyond: int = -1) -> Swept:
        """One chunk."""
        with self._state.lock:
            run = self._state.runs.get(run_id)
            if run is None or run.info.status is not RunStatus.CANCELLING:
                return Swept(cancelled=0, last_request=None, pods=())
            rows = [row for row in run.rows if row.request_id > beyond and row.state in LIVE and self._is_left(row)]
            rows = rows[: self._chunk_rows]
            pods = tuple(PodKey(row.target_cluster, row.pod) for row in rows if row.state in IN_FLIGHT and row.pod)
            for row in rows:
                if row.service_class is ServiceClass.LC:
                    self._state.shares[run_id, row.cluster].terminal += 1
                found = self._state.happens(row, Event.CANCEL)
                if found and found.outcome:
                    self._state.end(row, found.outcome, str(Reason.CANCELLED))
            return Swept(cancelled=len(rows), last_request=rows[-1].request_id if rows else None, pods=pods)

    def close_cancelled(self, run_id: int) -> bool:
        """Once nothing is live."""
        with self._state.lock:
            closes = self.run(run_id).status is RunStatus.CANCELLING
            closes &= all(row.state in TERMINAL for row in self._state.runs[run_id].rows)
            if closes:
                self.set_status(run_id, RunStatus.CANCELLED)
            return closes

    def counts(self, run_id: int) -> StateCounts:
        """Per state."""
        with self._state.lock:
            by_state: dict[str, int] = defaultdict(int)
            for row in self._state.runs[run_id].rows if run_id in self._state.runs else []:
                by_state[str(row.state)] += 1
            return StateCounts(by_state=dict(by_state))

    def terminal(self, run_ids: Sequence[int]) -> dict[int, int]:
        """Counted anew."""
        return {run_id: self.counts(run_id).terminal for run_id in run_ids}

    def fold_counts(self) -> set[int]:
        """Nothing is kept: all are busy of which something is under way."""
        live = {run_id for run_id in self._state.runs if self.counts(run_id).terminal < self.counts(run_id).accepted}
        return live

    def all_terminal(self, run_id: int) -> bool:
        """Whether nothing will change any more."""
        if run_id not in self._state.runs:
            return False
        if self.run(run_id).kind is RunKind.LIVE and not self._is_let_go(run_id):
            return False
        shares = (share for (of_run, _), share in self._state.shares.items() if of_run == run_id)
        be = (row for row in self._state.runs[run_id].rows if row.service_class is ServiceClass.BE)
        return all(share.terminal == share.accepted for share in shares) and all(row.state in TERMINAL for row in be)

    def _is_let_go(self, run_id: int) -> bool:
        """Whether nothing can be added to a live run any more."""
        shares = (share for (of_run, _), share in self._state.shares.items() if of_run == run_id)
        return self._state.runs[run_id].closed_at_s is not None and all(share.complete for share in shares)

    def stored(self) -> list[StoredRun]:
        """A thousand bytes a request."""
        return [
            StoredRun(
                run_id=run_id,
                kind=run.info.kind,
                name=run.info.name,
                status=run.info.status,
                accepted=run.info.accepted,
                ended_at_s=run.ended_at_s,
                size_bytes=1000 * len(run.rows),
            )
            for run_id, run in sorted(self._state.runs.items())
        ]

    def delete_attempts(self, run_id: int, *, beyond: int = -1) -> int | None:
        """Of one chunk of requests."""
        with self._state.lock:
            require_ended(self.run(run_id))
            of_run = sorted({a.request_id for a in self._state.attempts if a.run_id == run_id and a.request_id > beyond})
            chunk = of_run[: self._chunk_rows]
            self._state.attempts = [a for a in self._state.attempts if a.run_id != run_id or a.request_id not in chunk]
            return chunk[-1] if chunk else None

    def delete(self, run_id: int, *, why: str = "", within_s: float = 60.0) -> None:
        """Everything of a run that is over; nobody is ever in the way."""
        with self._state.lock:
            require_ended(self.run(run_id))
            del self._state.runs[run_id]
            self._state.shares = {of: share for of, share in self._state.shares.items() if of[0] != run_id}
            self._state.decisions = [d for d in self._state.decisions if d[1] != (run_id,)]
            self._state.attempts = [a for a in self._state.attempts if a.run_id != run_id]
            self._state.orders.pop(run_id, None)
            if why:
                self._state.deleted[run_id] = why

    def delete_observations(self, *, before_s: float) -> int:
        """None are kept."""
        return 0

    def _is_left(self, row: Row) -> bool:
        """Whether it belongs to the centre: BE, or LC that no journal has taken, nor will."""
        if row.service_class is ServiceClass.BE:
            return True
        share = self._state.shares[row.run_id, row.cluster]
        return not share.opened or (share.complete and row.request_id > share.handed_to)


def _row(run_id: int, k: int, requests: NewRequests) -> Row:
    for name in ("due_s", "cpu_work_s", "memory_mib"):
        if np.isnan(getattr(requests, name)[k]):
            raise StoreError(f"request {k} has no {name}")
    if not 0 <= requests.service[k] < len(requests.services) or not 0 <= requests.cluster[k] < len(requests.clusters):
        raise StoreError(f"request {k} has no service or cluster")
    target_s = float(requests.target_s[k])
    return Row(
        run_id=run_id,
        request_id=k,
        service_class=ServiceClass(int(requests.service_class[k])),
        service=requests.services[requests.service[k]],
        cluster=requests.clusters[requests.cluster[k]],
        due_s=float(requests.due_s[k]),
        target_s=None if np.isnan(target_s) else target_s,
        cpu_work_s=float(requests.cpu_work_s[k]),
        memory_mib=float(requests.memory_mib[k]),
        tenant="" if requests.tenant is None else requests.tenants[requests.tenant[k]],
    )
