"""How much the tests do: what a change needs in minutes, or, under `make test-long`, what an issue needs before it is closed."""

from __future__ import annotations

import os

VARIABLE = "LONG_TESTS"
"""Set to anything, it runs tests marked `long`, and gives each property test `TIMES` as many examples."""
LONG = bool(os.environ.get(VARIABLE))
TIMES = 10


def example_count(count: int) -> int:
    """Examples of a property test: `count`, and `TIMES` as many in the long suite."""
    return count * TIMES if LONG else count
