"""How the LC requests of one entry cluster were answered, by service and node: what dispatch policies that go by experience are told."""

from __future__ import annotations

import numpy as np

SEEN = np.dtype(
    [
        ("at_s", np.float64),  # when the last answer or failure came, on the clock of the snapshot's `at_s`
        ("answers", np.int64),  # so far; 0: nothing is known of times
        ("answer_s", np.float64),  # from sending to the answer, the network included; smoothed
        ("served_s", np.float64),  # from the start of service to its end; smoothed
        ("failing", np.float64),  # share of the attempts that failed; smoothed
        ("failed_in_row", np.int64),  # since the last answer
        ("ejections", np.int64),  # how often it was put out for failing
        ("out_until_s", np.float64),  # until when it is out
    ],
    align=True,
)
"""One service on one node, as one cluster has seen it. All zero: nothing was sent there yet."""
