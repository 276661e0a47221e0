"""Go's generator of pseudo-random numbers (`math/rand` after `rand.Seed`), so that a seed of a study made in Go names the same order here.

It is an additive lagged Fibonacci generator over 64 bits, x[n] = x[n-607] + x[n-273] (Knuth, TAOCP volume 2, 3.2.2; the lags are those of
Mitchell and Reeds). A seed fills the 607 words by a linear congruential generator and mixes in the state of the same generator after
7.8e12 steps from seed 1, which Go has as a table. Here the table is computed: a step is linear, so the state after n steps is t^n modulo
the characteristic polynomial t^607 = t^334 + 1, by squaring. Go promises that the sequence of a seed stays as it is (Go 1 compatibility).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from tango.domain.gpus import Ints

_LONG, _SHORT = 607, 273
_MODULUS = 2**31 - 1
_FACTOR = 48271
_WARM_UP_STEPS = 20
_MIXED_IN_STEPS = 7_800_000_000_000
_INSTEAD_OF_ZERO = 89482311
_WORD = 2**64 - 1
_FIRST = _LONG - _SHORT - 1
"""Where the first number is written; each next one is written one place before."""

_Words = NDArray[np.uint64]


class GoRandom:
    """The numbers that Go's `math/rand` gives after `rand.Seed(seed)`."""

    def __init__(self, seed: int) -> None:
        self._words = [int(word) for word in _filled(seed % _MODULUS or _INSTEAD_OF_ZERO, (40, 20)) ^ _mixed_in()]
        self._tap, self._feed = 0, _LONG - _SHORT

    def word(self) -> int:
        """A number of 64 bits (`Uint64`)."""
        self._tap = (self._tap - 1) % _LONG
        self._feed = (self._feed - 1) % _LONG
        found = (self._words[self._feed] + self._words[self._tap]) & _WORD
        self._words[self._feed] = found
        return found

    def below(self, n: int) -> int:
        """A number from 0 to n - 1, for n up to 2^31 - 1 (`Intn`): without the numbers that would make some remainders likelier."""
        if n & (n - 1) == 0:
            return self._bits(31) & (n - 1)
        most = _MODULUS - 2**31 % n
        found = self._bits(31)
        while found > most:
            found = self._bits(31)
        return found % n

    def shuffle(self, items: list[int]) -> None:
        """Shuffle in place (`Shuffle`): Fisher-Yates from the end, bounded numbers by multiplication (Lemire, arXiv:1805.10941)."""
        for last in range(len(items) - 1, 0, -1):
            at = self._scaled(last + 1)
            items[last], items[at] = items[at], items[last]

    def permutation(self, n: int) -> Ints:
        """The numbers from 0 to n - 1 in random order, shape (n,) (`Perm`)."""
        found = [0] * n
        for k in range(n):
            at = self.below(k + 1)
            found[k] = found[at]
            found[at] = k
        return np.array(found, np.int64)

    def _bits(self, count: int) -> int:
        """The highest bits but the sign, as Go's `Int31` and `Uint32` take them of `Int63`."""
        return (self.word() & (2**63 - 1)) >> (63 - count)

    def _scaled(self, n: int) -> int:
        product = self._bits(32) * n
        if product & 0xFFFFFFFF < n:
            least = (2**32 - n) % n
            while product & 0xFFFFFFFF < least:
                product = self._bits(32) * n
        return product >> 32


def _filled(seed: int, shifts: tuple[int, int]) -> _Words:
    """(607,) words of three numbers each of the congruential generator, after 20 that are thrown away."""
    numbers, x = [], seed
    for _ in range(_WARM_UP_STEPS + 3 * _LONG):
        x = _FACTOR * x % _MODULUS
        numbers.append(x)
    high, middle, low = (numbers[_WARM_UP_STEPS + k :: 3] for k in range(3))
    words = [((a << shifts[0]) ^ (b << shifts[1]) ^ c) & _WORD for a, b, c in zip(high, middle, low, strict=True)]
    return np.array(words, np.uint64)


@cache
def _mixed_in() -> _Words:
    """(607,) words of the state after 7.8e12 steps from seed 1, in their places."""
    begun = _filled(1, (20, 10))
    place = (_FIRST - np.arange(_LONG)) % _LONG  # of x[k], the oldest first
    x = np.concatenate((begun[place], np.zeros(_LONG, np.uint64)))
    for n in range(_LONG, 2 * _LONG):
        x[n] = x[n - _LONG] + x[n - _SHORT]
    power = _power_of_t(_MIXED_IN_STEPS)
    later = np.array([(power * x[k : k + _LONG]).sum(dtype=np.uint64) for k in range(_LONG)], np.uint64)
    words = np.empty(_LONG, np.uint64)
    words[(place - _MIXED_IN_STEPS) % _LONG] = later
    return words


def _power_of_t(exponent: int) -> _Words:
    """(607,) coefficients of t^exponent modulo t^607 - t^334 - 1, over integers modulo 2^64."""
    found = np.zeros(_LONG, np.uint64)
    found[0] = 1
    for bit in f"{exponent:b}":
        found = _reduced(np.convolve(found, found))
        if bit == "1":
            found = _reduced(np.concatenate((np.zeros(1, np.uint64), found)))
    return found


def _reduced(long: _Words) -> _Words:
    words = long.copy()
    # t^k = t^(k-273) + t^(k-607): from the top, in pieces so short that none of them feeds itself.
    for top in range(len(words), _LONG, -_SHORT):
        low = max(top - _SHORT, _LONG)
        piece = words[low:top].copy()
        words[low - _SHORT : top - _SHORT] += piece
        words[low - _LONG : top - _LONG] += piece
    return words[:_LONG]
