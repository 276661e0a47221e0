"""Ranges of seeds."""

from __future__ import annotations

from itertools import pairwise

from tango.domain.seeds import COMPARISON, TEST, TRAINING, VALIDATION


def test_the_ranges_of_seeds_are_disjoint() -> None:
    """One begins where the one before has ended: nothing is judged on what it was made with."""
    for one, following in pairwise((TRAINING, VALIDATION, TEST, COMPARISON)):
        assert one.stop == following.start
        assert one.step == following.step == 1


def test_those_that_judge_networks_take_them_from_their_range() -> None:
    """Validation picks the state that is kept, on seeds that no training plays."""
    from tango.training.learners import LEARNERS, configured

    for kind in LEARNERS:
        assert set(configured(*kind).validation_seeds) < set(VALIDATION)
