"""How far a simulation lies from the run that it is of."""

from __future__ import annotations

import pytest

from tango.analysis.twin import LEAST_REQUESTS, STATISTICS, mean_absolute_errors, service_errors
from tango.domain.outcomes import RunOutcomes
from tests.fakes.run_records import outcomes_of

SERVICES = ("web", "chat", "rare")


def _run(
    *latencies_s: float, counts: tuple[int, ...] = (LEAST_REQUESTS, LEAST_REQUESTS, LEAST_REQUESTS - 1), **of: object
) -> RunOutcomes:
    """So many requests of each service, all of a service with its latency; one of each before the measured span, and one that failed."""
    rows: list[dict[str, object]] = []
    for service, (latency_s, count) in enumerate(zip(latencies_s, counts, strict=True)):
        rows += [{"service": service, "due": 50.0, "start": 50.0, "end": 50.0 + latency_s} for _ in range(count)]
        rows.append({"service": service, "due": 1.0, "start": 1.0, "end": 90.0})
        rows.append({"service": service, "due": 50.0, "start": 50.0, "end": 90.0, "state": "failed"})
    return outcomes_of(rows, services=SERVICES, **of)


def test_errors_are_relative_to_the_live_run_and_of_services_with_enough_requests() -> None:
    """What came before the measured span, failed, or is too rare for a tail is left out; latencies are in trace time."""
    found = service_errors(_run(0.1, 0.2, 0.3, speed=2.0), _run(0.11, 0.18, 0.3, speed=2.0))

    assert [(error.service, error.requests) for error in found] == [("web", LEAST_REQUESTS), ("chat", LEAST_REQUESTS)]
    assert found[0].live == pytest.approx(dict.fromkeys(STATISTICS, 200.0))
    assert found[0].error == pytest.approx(dict.fromkeys(STATISTICS, 0.1))
    assert found[1].error == pytest.approx(dict.fromkeys(STATISTICS, -0.1))
    assert mean_absolute_errors(found) == pytest.approx(dict.fromkeys(STATISTICS, 0.1))


def test_without_enough_requests_there_is_no_error() -> None:
    """A run of seconds says nothing of tails."""
    few = _run(0.1, 0.1, 0.1, counts=(5, 5, 5))

    assert service_errors(few, few) == []
    assert mean_absolute_errors([]) == {}
