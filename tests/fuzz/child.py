"""Drives doors with mutated inputs, in this process: `python -m tests.fuzz.child COUNT SEED FOLDER DOOR...`, with DATABASE_URL set.

Before each input the file `at` says which one it is, so that whoever waits for this process knows by what it was ended. It prints how many
inputs of each door were taken and refused, and every answer that was neither, with what repeats it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

from tests.fuzz.doors import doors

MOST_MEMORY = 6 << 30
"""Bytes of data that the process may have: an input costs its message, and not the machine."""
MOST_S = 120.0
"""Seconds after which an input has no end: the process says where it is, and ends."""


def main(count: int, seed: int, folder: Path, names: list[str]) -> None:
    """Print one line of JSON: the counts by door, and the failures."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    faulthandler.enable()
    warnings.simplefilter("ignore")
    known = doors(os.environ["DATABASE_URL"])
    counts: dict[str, dict[str, int]] = {}
    failures: list[str] = []
    for name in names:
        door, rng = known[name], random.Random(f"{seed} {name}")
        good = door.good()
        for data in good:  # a door that takes nothing would refuse everything, and pass
            door.enter(data, random.Random(0), folder)
        good += door.odd()
        counts[name] = {"taken": 0, "refused": 0}
        for index in range(count):
            data, chance = door.changed(rng, good), random.Random(f"{seed} {name} {index}")
            (folder / "input").write_bytes(data)
            (folder / "at").write_text(f"{name} {index}")
            faulthandler.dump_traceback_later(MOST_S, exit=True)
            try:
                door.enter(data, chance, folder)
                counts[name]["taken"] += 1
            except door.refusals:
                counts[name]["refused"] += 1
            except Exception:  # any other is what is looked for
                failures.append(f"{name} {index} (seed {seed}): {data[:2000]!r}\n{traceback.format_exc(limit=-4)}")
            finally:
                faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"counts": counts, "failures": failures}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3] if sys.argv[3] != "-" else scratch), sys.argv[4:])
    sys.stdout.flush()
    os._exit(0)  # Arrow's threads now and then abort the process at its exit (apache/arrow#34314)
