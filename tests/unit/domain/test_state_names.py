"""Where states of requests are written out, because the module may not import the table or is loaded by every command, they are its own."""

from __future__ import annotations

from tango.cli.progress import COUNTS
from tango.client.jobs import ENDED
from tango.domain.lifecycle import TERMINAL, UNDER_WAY
from tango.domain.requests import RequestState


def test_the_client_knows_the_states_in_which_a_job_has_ended() -> None:
    """It imports nothing of ours."""
    assert set(ENDED) == set(TERMINAL)


def test_the_live_display_counts_each_state_in_one_column() -> None:
    """Under way is what waits or runs, and the rest has yet to come or has ended."""
    assert sorted(state for states in COUNTS.values() for state in states) == sorted(RequestState)
    assert {*COUNTS["waiting"], *COUNTS["running"]} == set(UNDER_WAY)
    assert {*COUNTS["succeeded"], *COUNTS["failed"]} == set(TERMINAL)
