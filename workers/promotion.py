"""`python -m workers.promotion --digest DIGEST --actor NAME`: make a checkpoint live, as the console asks, and say what came of it.

Ends with 1 where it is refused; either way standard output has one line for people.
"""

from __future__ import annotations

import argparse
import sys

from tango.bootstrap.environment import configure_logging
from tango.bootstrap.stores import stores
from tango.control.checkpoints import promote
from tango.domain.checkpoints import SHORT
from tango.errors import TangoError


def main() -> int:
    """Load the checkpoint as a test, and give it the role."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--actor", required=True)
    options = parser.parse_args()
    configure_logging()
    try:
        found, _ = promote(options.digest, store=stores().checkpoints, actor=options.actor)
    except TangoError as error:
        print(error)
        return 1
    print(f"{found.name} ({found.digest[:SHORT]}) decides from the scheduler's next tick on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
