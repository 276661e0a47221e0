"""How often a client may call."""

from __future__ import annotations

from tango.kube.pacing import SLOWED_EVERY_S, Pace


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


def test_a_server_that_is_asked_too_much_is_asked_half_as_often() -> None:
    """At once, and none in a heap; several refusals of one moment are one."""
    now_s = [100.0]
    pace = Pace(10.0, 5, now_s=lambda: now_s[0])

    pace.slowed()
    pace.slowed()

    assert [round(pace.turn_s(), 6) for _ in range(3)] == [0.0, 0.2, 0.4]


def test_the_rate_falls_to_a_floor_and_comes_back_bit_by_bit() -> None:
    """Half of it again ten seconds after; all of it when nothing was refused for twenty."""
    now_s = [0.0]
    pace = Pace(32.0, 1, now_s=lambda: now_s[0])

    def gap_s() -> float:
        return -pace.turn_s() + pace.turn_s()

    for _ in range(10):
        now_s[0] += SLOWED_EVERY_S
        pace.slowed()
    slowest = gap_s()
    now_s[0] += 100.0
    recovered = gap_s()
    now_s[0] += 1.0
    pace.slowed()
    now_s[0] += 5.0

    assert 0.5 < slowest <= 1.0
    assert (round(recovered * 32, 6), round(gap_s() * 32, 6)) == (1.0, round(1 / 0.75, 6))
