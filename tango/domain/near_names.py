"""What somebody may have meant who has given a name that there is not, for the messages that refuse it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

NEAR = 0.7
"""Least likeness, from 0 to 1, of a name that is put forward: two letters of five may have changed places (0.8), but `a2c` (0.67) is
not taken for `sac`, nor `greed` (0.63) for `load-greedy`."""


def near_name(given: str | Iterable[str], known: Iterable[str], *, prefix: str = "") -> str:
    """` (did you mean 'tango'?)` for a name, or the first of several, that is nearly a known one, in any case; else an empty string.

    `prefix` is put before the name that is put forward.
    """
    by_folded = {name.casefold(): name for name in sorted(known)}
    for name in [given] if isinstance(given, str) else given:
        if found := get_close_matches(name.casefold(), by_folded, n=1, cutoff=NEAR):
            return f" (did you mean {prefix + by_folded[found[0]]!r}?)"
    return ""
