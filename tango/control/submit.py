"""Submit: store a run with all its requests, then ask a replayer to begin.

The store comes first and the message second: a run without a message is announced by the reconciler, but a message without its run would
be lost work.
"""

from __future__ import annotations

from dataclasses import dataclass

from tango.domain.runs import NewRequests, NewRun
from tango.errors import BrokerUnavailable
from tango.ports import Publisher, RunStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """A stored run."""

    run_id: int
    announced: bool
    """False: the broker was unreachable; the reconciler announces the run later."""


def submit_run(run: NewRun, requests: NewRequests, *, store: RunStore, publisher: Publisher) -> Submitted:
    """Store the run in one transaction and publish its replay.

    An unreachable broker is no error: the run is stored and begins later. Raises: StoreUnavailable, RequestRejected.
    """
    run_id = store.create_run(run, requests)
    try:
        publisher.replay(run_id)
    except BrokerUnavailable:
        return Submitted(run_id=run_id, announced=False)
    return Submitted(run_id=run_id, announced=True)
