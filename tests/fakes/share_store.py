"""Shares, copies and positions in memory, over the same `MemoryState` as the other stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tango.domain.lifecycle import LIVE, TERMINAL
from tango.domain.requests import RequestState
from tango.domain.runs import ENDED, OPEN, RunKind
from tango.domain.services import ServiceClass
from tango.domain.shares import (
    AcceptedCopy,
    Followed,
    JournalGap,
    LcInFlight,
    LcWait,
    PublishedFleet,
    RequestCopy,
    ShareRows,
    ShareState,
    Shipment,
    ShippedTo,
)
from tests.fakes.fleet_store import MemoryFleetStore
from tests.fakes.memory_state import Attempt, MemoryState, Row, Share


class MemoryShareStore:
    """Implements `tango.ports.shares.ShareStore`."""

    def __init__(self, state: MemoryState, fleet: MemoryFleetStore) -> None:
        self._state = state
        self._fleet = fleet

    def centre(self) -> str:
        """One for each state."""
        return f"centre {id(self._state)}"

    def followed(self, clusters: Sequence[str]) -> Followed:
        """Runs that have not ended."""
        with self._state.lock:
            runs = [run.info for _, run in sorted(self._state.runs.items()) if run.info.status not in ENDED]
            found = {
                cluster: [
                    (info, self._share(info.run_id, cluster)) for info in runs if (info.run_id, cluster) in self._state.shares
                ]
                for cluster in clusters
            }
            return Followed(shares=found, is_open=any(run.kind is not RunKind.LIVE for run in runs))

    def open_share(self, run_id: int, cluster: str) -> bool:
        """While the run is open."""
        with self._state.lock:
            run, share = self._state.runs.get(run_id), self._state.shares.get((run_id, cluster))
            if run is None or share is None or run.info.status not in OPEN:
                return False
            share.opened = True
            return True

    def share_rows(self, run_id: int, cluster: str, *, beyond: int, limit: int) -> ShareRows:
        """Live ones, in order of id."""
        with self._state.lock:
            run = self._state.runs.get(run_id)
            live = [r for r in (run.rows if run else []) if r.state in LIVE and r.service_class is ServiceClass.LC]
            rows = [r for r in live if r.cluster == cluster and r.request_id > beyond][:limit]
            return ShareRows(
                request_id=np.array([r.request_id for r in rows], np.int64),
                service=tuple(r.service for r in rows),
                due_s=np.array([r.due_s for r in rows], np.float64),
                target_s=np.array([1e9 if r.target_s is None else r.target_s for r in rows], np.float64),
                cpu_work_s=np.array([r.cpu_work_s for r in rows], np.float64),
                memory_mib=np.array([r.memory_mib for r in rows], np.float64),
                epoch=np.array([r.epoch for r in rows], np.int32),
                attempt=np.array([r.attempt for r in rows], np.int32),
            )

    def handed(self, run_id: int, cluster: str, *, up_to: int, complete: bool) -> None:
        """Forward only."""
        with self._state.lock:
            share = self._state.shares.get((run_id, cluster))
            if share is not None and share.handed_to <= up_to:
                share.handed_to, share.complete = up_to, share.complete or complete

    def shares(self, run_id: int) -> list[ShareState]:
        """By cluster."""
        with self._state.lock:
            return [self._share(*of) for of in sorted(self._state.shares) if of[0] == run_id]

    def apply(self, shipment: Shipment) -> int:
        """Once, and in order."""
        with self._state.lock:
            position = self.position(shipment.cluster, shipment.journal)
            if shipment.first != position + 1:
                return position
            for accepted in shipment.accepted:
                self._accept(accepted, shipment.cluster)
            for copy in shipment.requests:
                for row in self._rows(copy.run_id, copy.request_id, shipment.cluster):
                    self._copy(row, copy)
            known = {(a.run_id, a.request_id, a.epoch) for a in self._state.attempts}
            for a in shipment.attempts:
                for row in self._rows(a.run_id, a.request_id, shipment.cluster):
                    if (a.run_id, a.request_id, a.epoch) not in known:
                        self._state.attempts.append(
                            Attempt(
                                run_id=a.run_id,
                                request_id=a.request_id,
                                epoch=a.epoch,
                                service=a.service,
                                cluster=a.cluster or "",
                                node=a.node or "",
                                service_class=row.service_class,
                                latency_s=a.latency_s,
                                outcome=a.outcome,
                                reason=a.reason,
                                work_lost_s=a.work_lost_s,
                                ended_at_s=a.ended_at_s,
                            )
                        )
            self._state.decisions += [
                (d.record, (d.run_id,)) for d in shipment.decisions if (d.run_id, shipment.cluster) in self._state.shares
            ]
            self._state.positions[shipment.cluster, shipment.journal] = shipment.last, self._state.now_s()
            return shipment.last

    def go_on(self, cluster: str, journal: str, *, first: int) -> int:
        """Forward only."""
        with self._state.lock:
            before = self.position(cluster, journal)
            missing = max(0, first - 1 - before)
            self._state.positions[cluster, journal] = max(first - 1, before), self._state.now_s()
            if missing:
                lost, _ = self._state.gaps.get(cluster, (0, 0.0))
                self._state.gaps[cluster] = lost + missing, self._state.now_s()
            return missing

    def gaps(self) -> list[JournalGap]:
        """By name."""
        return [
            JournalGap(cluster=cluster, missing=missing, at_s=at_s) for cluster, (missing, at_s) in sorted(self._state.gaps.items())
        ]

    def position(self, cluster: str, journal: str) -> int:
        """0 where nothing was shipped."""
        return self._state.positions.get((cluster, journal), (0, 0.0))[0]

    def positions(self) -> list[ShippedTo]:
        """The latest journal of each cluster."""
        with self._state.lock:
            latest: dict[str, ShippedTo] = {}
            for (cluster, journal), (sequence, at_s) in self._state.positions.items():
                if cluster not in latest or latest[cluster].at_s < at_s:
                    latest[cluster] = ShippedTo(cluster=cluster, journal=journal, sequence=sequence, at_s=at_s)
            return [latest[cluster] for cluster in sorted(latest)]

    def note_in_flight(self, cluster: str, found: Sequence[LcInFlight], wait: LcWait) -> None:
        """Replace what is known."""
        with self._state.lock:
            self._state.in_flight[cluster] = list(found)
            self._state.lc_waits[cluster] = wait

    def lc_waits(self) -> dict[str, LcWait]:
        """Where anything is late, and the agent is heard of."""
        away = self._fleet.away()
        with self._state.lock:
            return {cluster: wait for cluster, wait in self._state.lc_waits.items() if wait.late and cluster not in away}

    def published_fleet(self, cluster: str, *, at_s: float) -> PublishedFleet:
        """Without the cluster's own LC in flight."""
        snapshot = self._fleet.snapshot(at_s=at_s, without_lc_of=cluster)
        return PublishedFleet(snapshot=snapshot, instances=tuple(self._fleet.instances()))

    def _share(self, run_id: int, cluster: str) -> ShareState:
        share = self._state.shares[run_id, cluster]
        return ShareState(
            run_id=run_id,
            cluster=cluster,
            accepted=share.accepted,
            handed_to=share.handed_to,
            complete=share.complete,
            terminal=share.terminal,
        )

    def _rows(self, run_id: int, request_id: int, entry: str) -> list[Row]:
        found = self._state.requests(run_id, [request_id])
        return [row for row in found if row.service_class is ServiceClass.LC and row.cluster == entry]

    def _accept(self, accepted: AcceptedCopy, entry: str) -> None:
        """Of a run that is not there any more nothing is written; a cluster that joined later has its share from here on."""
        copy = accepted.copy
        run = self._state.runs.get(copy.run_id)
        if run is None or run.info.kind is not RunKind.LIVE or copy.request_id in run.places:
            return
        share = self._state.shares.setdefault((copy.run_id, entry), Share(accepted=0, opened=True))
        row = self._state.add(
            Row(
                run_id=copy.run_id,
                request_id=copy.request_id,
                service_class=ServiceClass.LC,
                service=accepted.service,
                cluster=entry,
                due_s=accepted.due_s,
                target_s=accepted.target_s,
                cpu_work_s=accepted.cpu_work_s,
                memory_mib=accepted.memory_mib,
                state=RequestState.RELEASED,
            )
        )
        share.accepted += 1
        self._copy(row, copy)
        if copy.state == RequestState.SUCCEEDED and copy.finished_s is not None and copy.started_s is not None:
            row.cpu_work_s = min(row.cpu_work_s, max(copy.finished_s - copy.started_s, 0.0) or row.cpu_work_s)

    def _copy(self, row: Row, copy: RequestCopy) -> None:
        if row.state not in LIVE or row.epoch > copy.epoch:
            return
        row.state, row.epoch, row.attempt = RequestState(copy.state), copy.epoch, copy.attempt
        row.target_cluster, row.node, row.owner = copy.cluster or "", copy.node or "", copy.owner or ""
        row.late, row.started_s, row.finished_s, row.reason = copy.late, copy.started_s, copy.finished_s, copy.reason
        self._state.shares[row.run_id, row.cluster].terminal += row.state in TERMINAL
