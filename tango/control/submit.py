"""Submit: store a run with all its requests, then ask a replayer to begin. PostgreSQL first, broker second."""

from __future__ import annotations

from dataclasses import dataclass

from tango.domain.runs import NewRequests, NewRun
from tango.errors import BrokerUnavailable
from tango.ports import Publisher, RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A stored run; `announced` is False when the broker was away, and the reconciler will announce it."""

    run_id: int
    announced: bool


def submit_run(run: NewRun, requests: NewRequests, *, store: RunStore, publisher: Publisher) -> Submitted:
    """Store the run in one transaction and publish its replay.

    Raises: StoreUnavailable, RequestRejected. A broker that is away costs nothing but time: the run is stored.
    """
    run_id = store.create_run(run, requests)
    try:
        publisher.replay(run_id)
    except BrokerUnavailable:
        return Submitted(run_id=run_id, announced=False)
    return Submitted(run_id=run_id, announced=True)
