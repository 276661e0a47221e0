"""Python's collector of cycles, as suits processes that live long and handle many small objects at a time.

It looks at the young objects whenever 700 more containers are alive than at its last look. A batch of requests or events is some
thousands, which die by themselves when it is done: a twentieth of what a worker used went into looking at them.
"""

from __future__ import annotations

import gc

YOUNG, MIDDLE, OLD = 10_000, 20, 20
"""Containers more that are alive before young ones are looked at, some MiB; and how many such looks before older ones are."""


def collect_rarely() -> None:
    """From now on look for cycles less often than Python does by itself."""
    gc.set_threshold(YOUNG, MIDDLE, OLD)


def keep_what_is_there() -> None:
    """What there is now stays for the life of the process: it is not looked at again."""
    gc.collect()
    gc.freeze()
