"""When a queue is hopeless."""

from __future__ import annotations

import math
from contextlib import ExitStack

from tango.gateway.outlook import ALWAYS_LET_IN, WINDOW_S, Outlook

STAYING = ExitStack()
"""Those who wait to the end of the tests: a context that nobody holds is left."""


def waiting(count: int) -> Outlook:
    """So many wait for `web`, and nothing has ended."""
    outlook = Outlook()
    for _ in range(count):
        STAYING.enter_context(outlook.waits("web"))
    return outlook


def test_who_waits_takes_his_work_on_the_service_s_cores() -> None:
    """40 requests of 0.1 s on 2 cores: 2 s at the least. Another service's queue is another's."""
    outlook = waiting(40)

    assert outlook.wait_s("web", at_s=0.0, work_s=0.1, cores=2.0) == 2.0
    assert outlook.wait_s("chat", at_s=0.0, work_s=0.1, cores=2.0) == 0.0


def test_where_the_cores_are_not_known_nobody_is_refused_by_them() -> None:
    """A service whose instances have not been observed yet."""
    assert waiting(40).wait_s("web", at_s=0.0, work_s=0.1, cores=0.0) == 0.0


def test_a_burst_after_a_calm_is_not_judged_by_the_calm() -> None:
    """Two answers a second were all that was asked for, and nothing was given up."""
    outlook = waiting(50)
    for k in range(4):
        outlook.ends("web", at_s=k * 0.5, answered=True)

    assert outlook.wait_s("web", at_s=2.0, work_s=0.001, cores=10.0) == 50 * 0.001 / 10.0


def test_while_requests_are_given_up_what_is_answered_is_the_limit() -> None:
    """20 answers in the window beside one given up: 10 a second, so that 40 who wait take 4 s."""
    outlook = waiting(40)
    for k in range(20):
        outlook.ends("web", at_s=k * 0.05, answered=True)
    outlook.ends("web", at_s=1.0, answered=False)

    assert outlook.wait_s("web", at_s=1.0, work_s=0.001, cores=10.0) == 40 / (20 / WINDOW_S)


def test_a_service_that_answers_nothing_is_tried_by_a_few_at_a_time() -> None:
    """Else nobody would see that it answers again; and what it did is forgotten after the window."""
    some, few = waiting(ALWAYS_LET_IN), waiting(ALWAYS_LET_IN - 1)
    for outlook in (some, few):
        outlook.ends("web", at_s=0.0, answered=False)

    assert [outlook.wait_s("web", at_s=0.0, work_s=0.0, cores=1.0) for outlook in (some, few)] == [math.inf, 0.0]
    assert some.wait_s("web", at_s=WINDOW_S + 0.1, work_s=0.0, cores=1.0) == 0.0


def test_who_waits_no_more_counts_no_more() -> None:
    """Whether he was answered, given up or never let in."""
    outlook = waiting(ALWAYS_LET_IN - 1)
    with outlook.waits("web"):
        within = outlook.wait_s("web", at_s=0.0, work_s=1.0, cores=1.0)

    assert (within, outlook.wait_s("web", at_s=0.0, work_s=1.0, cores=1.0)) == (ALWAYS_LET_IN, 0.0)
