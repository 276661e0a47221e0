"""The margin of answers: by how much they came later than expected, by service."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango.control.answer_margin import IN_TIME, MOST_TARGETS, AnswerMargin
from tests.fakes.store_world import CHAT, WEB

TARGET_S = 0.5


def test_before_the_first_answer_there_is_none() -> None:
    """A plan is taken at its word."""
    assert AnswerMargin().seconds((WEB, CHAT)).tolist() == [0.0, 0.0]


def test_most_answers_come_within_it() -> None:
    """Of answers that scatter, as many as are meant to be are not later than the margin; those of another service do not count."""
    margin, rng = AnswerMargin(), np.random.default_rng(1)
    late_s = rng.exponential(0.04, 4000)

    for late_by_s in late_s[:1000]:
        margin.answered(WEB.name, late_by_s=late_by_s, target_s=TARGET_S)
    within = []
    for late_by_s in late_s[1000:]:
        within.append(late_by_s <= margin.seconds((WEB,))[0])
        margin.answered(WEB.name, late_by_s=late_by_s, target_s=TARGET_S)

    assert np.mean(within) == pytest.approx(IN_TIME, abs=0.02)
    assert margin.seconds((CHAT,)).tolist() == [0.0]


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_it_is_never_negative_and_never_takes_more_than_its_share_of_the_target(late_s: list[float]) -> None:
    """Whatever happened before."""
    margin = AnswerMargin()
    for late_by_s in late_s:
        margin.answered(WEB.name, late_by_s=late_by_s, target_s=TARGET_S)

    assert 0.0 <= margin.seconds((WEB,))[0] <= MOST_TARGETS * TARGET_S
