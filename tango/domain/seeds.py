"""Ranges of seeds by purpose, kept apart so that nothing is judged on the data that it was trained or tuned on.

training     0 … 999,999              `tango train`, `tango tune`
validation   1,000,000 … 1,999,999    picks the state of a network that is kept
test         2,000,000 … 2,999,999    judges what was kept
comparison   3,000,000 …              `tango compare`
"""

from __future__ import annotations

TRAINING = range(0, 1_000_000)
VALIDATION = range(1_000_000, 2_000_000)
TEST = range(2_000_000, 3_000_000)
COMPARISON = range(3_000_000, 2**31)
