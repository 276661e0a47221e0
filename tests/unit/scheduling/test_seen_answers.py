"""How answers are noted: averages that forget, failures in a row, and who is put out for them."""

from __future__ import annotations

import numpy as np
import pytest

from tango.domain.seen_answers import SEEN
from tango.scheduling.lc.seen_answers import EJECTED_AFTER, EJECTED_S, HALF_LIFE_S, note_answer, note_failure


def test_what_was_seen_a_half_life_ago_counts_for_half() -> None:
    """The first answer counts whole, one as late as the half-life moves the mean half of the way."""
    seen = np.zeros(2, SEEN)

    note_answer(seen, 1, 10.0, 1.0, 0.5)
    note_answer(seen, 1, 10.0 + HALF_LIFE_S, 3.0, 1.5)

    assert seen["answer_s"].tolist() == [0.0, 2.0]
    assert seen["served_s"].tolist() == [0.0, 1.0]
    assert seen["answers"].tolist() == [0, 2]


def test_many_answers_at_once_weigh_no_more_than_the_time_that_they_cover() -> None:
    """A hundred answers within a half-life move the mean half of the way, as one at its end does."""
    seen = np.zeros(1, SEEN)
    note_answer(seen, 0, 0.0, 1.0, 1.0)

    for k in range(100):
        note_answer(seen, 0, HALF_LIFE_S * (k + 1) / 100, 3.0, 3.0)

    assert seen["answer_s"][0] == pytest.approx(2.0)


def test_failures_in_a_row_put_a_replica_out_and_each_time_for_longer() -> None:
    """The fifth does it, for 30 s; when those are over it takes five more, and then it is out for a minute."""
    seen = np.zeros(10, SEEN)

    for k in range(EJECTED_AFTER):
        assert seen["out_until_s"][3] == 0.0
        note_failure(seen, 3, 0, 10, 1.0 + k)
    first = float(seen["out_until_s"][3])
    for k in range(EJECTED_AFTER):
        note_failure(seen, 3, 0, 10, 100.0 + k)

    assert first == pytest.approx(EJECTED_AFTER + EJECTED_S)
    assert seen["out_until_s"][3] == pytest.approx(100.0 + EJECTED_AFTER - 1 + 2 * EJECTED_S)
    assert seen["failing"][3] == pytest.approx(1.0)


def test_an_answer_between_failures_begins_the_row_anew() -> None:
    """Four, an answer, four: nobody is out."""
    seen = np.zeros(10, SEEN)

    for at_s in (1.0, 2.0):
        for _ in range(EJECTED_AFTER - 1):
            note_failure(seen, 0, 0, 10, at_s)
        note_answer(seen, 0, at_s, 0.1, 0.1)

    assert seen["out_until_s"][0] == 0.0


def test_no_more_than_a_tenth_is_put_out_and_always_one() -> None:
    """Of twenty replicas two, of three one, whoever else fails; another service's rows do not count."""
    seen = np.zeros(60, SEEN)

    for node in range(5):
        for _ in range(EJECTED_AFTER):
            note_failure(seen, 20 + node, 20, 20, 1.0)
    for node in range(2):
        for _ in range(EJECTED_AFTER):
            note_failure(seen, 40 + node, 40, 3, 1.0)

    assert np.flatnonzero(seen["out_until_s"]).tolist() == [20, 21, 40]
