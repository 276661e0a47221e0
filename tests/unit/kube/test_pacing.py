"""How often a client may call."""

from __future__ import annotations

from tango.kube.pacing import Pace


def test_some_calls_go_at_once_and_the_rest_at_the_rate() -> None:
    """Ten a second, three at once: the fourth waits a tenth of a second, and each after it another."""
    pace = Pace(10.0, 3, now_s=lambda: 100.0)

    assert [round(pace.turn_s(), 6) for _ in range(6)] == [0.0, 0.0, 0.0, 0.1, 0.2, 0.3]


def test_a_pause_gives_back_what_may_go_at_once_and_no_more() -> None:
    """However long it was."""
    now_s = [0.0]
    pace = Pace(10.0, 2, now_s=lambda: now_s[0])
    for _ in range(4):
        pace.turn_s()
    now_s[0] = 1000.0

    assert [round(pace.turn_s(), 6) for _ in range(3)] == [0.0, 0.0, 0.1]
