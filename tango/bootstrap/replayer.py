"""The replayer: it begins runs and releases their BE requests at their due times."""

from __future__ import annotations

from tango.bootstrap.stores import Stores
from tango.control.replay import Replay
from tango.ports.messages import Publisher


def replay_of(here: Stores, publisher: Publisher) -> Replay:
    """The replay of a replay worker."""
    return Replay(
        runs=here.runs,
        shares=here.shares.shares,
        requests=here.requests,
        leases=here.leases,
        publisher=publisher,
        clock=here.clock,
        settings=here.settings.replay,
    )
