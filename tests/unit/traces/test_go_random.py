"""Go's generator: the numbers that Go's own programs print."""

from __future__ import annotations

import pytest

from tango.traces.go_random import GoRandom


def test_the_first_numbers_are_those_that_every_go_program_printed() -> None:
    """`rand.Intn(100)` ten times with seed 1, the default before Go 1.20: known from Go's tour and its documentation."""
    chance = GoRandom(1)

    assert [chance.below(100) for _ in range(10)] == [81, 87, 47, 59, 81, 18, 25, 40, 56, 0]


def test_a_bound_that_is_a_power_of_two_takes_the_lowest_bits() -> None:
    """Go takes the bits as they are there, where other bounds take a remainder; one number is used either way."""
    some, others = GoRandom(7), GoRandom(7)

    assert [some.below(8) for _ in range(20)] == [(others.word() >> 32 & 0x7FFFFFFF) % 8 for _ in range(20)]


@pytest.mark.parametrize("seed", [0, 1, 42, 2**31 - 1, 2**40])
def test_shuffles_and_permutations_lose_nothing(seed: int) -> None:
    """Every item stands there once, in an order that the seed names again."""
    items = list(range(500))
    GoRandom(seed).shuffle(items)
    again = list(range(500))
    GoRandom(seed).shuffle(again)

    assert sorted(items) == list(range(500))
    assert items == again != list(range(500))
    assert sorted(GoRandom(seed).permutation(300).tolist()) == list(range(300))


def test_a_seed_counts_modulo_the_modulus_of_the_generator_that_fills_the_state() -> None:
    """Go reduces it, and takes another one in place of 0, which would leave all words 0."""
    assert GoRandom(2**31 - 1).word() == GoRandom(0).word() != GoRandom(1).word()
    assert GoRandom(2**31).word() == GoRandom(1).word()
