"""Counts of what journals have committed: LC requests that ended by service and outcome, and their latencies.

A transaction notes what it will count beside the change (`Connection.then`), and it is counted when it is committed: what is rolled back,
or done again because another held the lock, counts once or not at all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from tango.domain.lifecycle import TERMINAL
from tango.domain.requests import RequestState
from tango.telemetry import count, observe
from tango.telemetry.catalogue import LATENCY, SERVICE_REQUESTS

Ended = tuple[str, str, float | None, float]
"""(service, state, latency in seconds or None, target in seconds) of a request that has ended."""
TERMINAL_STATES = frozenset(str(state) for state in TERMINAL)
_SUCCEEDED = str(RequestState.SUCCEEDED)


def count_ended(ended: Sequence[Ended]) -> None:
    """Count requests of one transaction."""
    latencies: dict[str, list[float]] = defaultdict(list)
    outcomes: dict[tuple[str, str], int] = defaultdict(int)
    for service, state, latency_s, target_s in ended:
        outcome = state
        if state == _SUCCEEDED:
            outcome = "late"
            if latency_s is not None:
                latencies[service].append(latency_s)
                if latency_s <= target_s:
                    outcome = "in_time"
        outcomes[service, outcome] += 1
    for labels, number in outcomes.items():
        count(SERVICE_REQUESTS, *labels, by=number)
    for service, values in latencies.items():
        observe(LATENCY, service, values=values)
