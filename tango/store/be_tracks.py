"""What the centre has of BE requests for their distributed traces: read only where these are on, and of requests that are sampled."""

from __future__ import annotations

from collections.abc import Sequence

from tango.domain.identity import NodeKey
from tango.domain.requests import RequestState
from tango.domain.tracing import TRACEPARENT_VARIABLE, AttemptTrack, BeTrack
from tango.store.database import Database

_TRACKS = """
SELECT q.request_id, q.state::text, q.service, q.cluster, q.due_s, q.reason, j.env,
       l.epoch, l.cluster, l.node, l.pod, l.released_s, l.dispatched_s, l.started_s, l.finished_s,
       extract(epoch FROM l.ended_at - r.started_at)::float8, l.outcome, l.reason
FROM run r JOIN request q USING (run_id)
LEFT JOIN job j ON j.run_id = q.run_id AND j.request_id = q.request_id
LEFT JOIN attempt l ON l.run_id = q.run_id AND l.request_id = q.request_id
WHERE q.run_id = %(run)s AND q.request_id = ANY (%(ids)s::int[])
ORDER BY q.request_id, l.epoch
"""


class BeTracks:
    """The part of the request store that is read for traces."""

    _database: Database

    def tracks(self, run_id: int, request_ids: Sequence[int]) -> dict[int, BeTrack]:
        """By the primary keys of requests, jobs and attempts."""
        found: dict[int, BeTrack] = {}
        for row in self._database.rows(_TRACKS, {"run": run_id, "ids": sorted({int(k) for k in request_ids})}):
            request_id, state, service, entry, due_s, reason, env, epoch, cluster, node, pod, *times, outcome, why = row
            track = found.get(request_id)
            if track is None:
                track = found[request_id] = BeTrack(
                    state=RequestState(state),
                    service=service,
                    entry_cluster=entry,
                    due_s=due_s,
                    reason=reason,
                    traceparent=next((value for name, value in env or () if name == TRACEPARENT_VARIABLE), ""),
                    attempts=[],
                )
            if epoch is not None:
                released_s, dispatched_s, started_s, finished_s, ended_s = times
                track.attempts.append(
                    AttemptTrack(
                        epoch=epoch,
                        node=None if node is None else NodeKey(cluster, node),
                        pod=pod or "",
                        released_s=released_s,
                        dispatched_s=dispatched_s,
                        started_s=started_s,
                        finished_s=finished_s,
                        ended_s=ended_s,
                        reason="" if outcome == RequestState.SUCCEEDED else why or outcome,
                    )
                )
        return found
