"""`python -m tests.chaos --seeds 0..100`: run seeds of the chaos world, print what failed and what was covered."""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial

HASH_SEED = "PYTHONHASHSEED"


def main(arguments: list[str]) -> int:
    """Exit status 1: some seed failed."""
    if os.environ.get(HASH_SEED) != "0":  # the order of sets of words is a part of what a seed replays
        os.execve(sys.executable, [sys.executable, "-m", "tests.chaos", *arguments], {**os.environ, HASH_SEED: "0"})
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", default="0..20", help="FIRST..LAST (LAST is not run), or one seed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--verbose", action="store_true", help="print faults as they strike, and the trace of a failure")
    parser.add_argument("--digests", action="store_true", help="print a digest of all steps of each seed")
    parser.add_argument("--stop", action="store_true", help="stop at the first seed that fails")
    parser.add_argument("--plant", help="a bug to plant first (tests.chaos.mutations)")
    parser.add_argument("--kinds", help="draw these kinds of faults alone, with commas between them; a part of what a seed replays")
    parser.add_argument("--within-s", type=float, default=float("inf"), help="begin no further seed after so many seconds")
    options = parser.parse_args(arguments)
    first, dots, last = options.seeds.partition("..")
    seeds = range(int(first), int(last) if dots else int(first) + 1)

    if options.plant:
        from tests.chaos.mutations import plant

        plant(options.plant)
    from tests.chaos.faults import KINDS
    from tests.chaos.report import Report
    from tests.chaos.seeds import run_seed

    kinds = tuple(options.kinds.split(",")) if options.kinds else ()
    if unknown := sorted(set(kinds) - set(KINDS)):
        parser.error(f"no kind of fault: {', '.join(unknown)}; there are: {', '.join(KINDS)}")
    report, began_s = Report(), time.monotonic()
    if options.jobs == 1:
        for seed in seeds:
            if time.monotonic() - began_s > options.within_s:
                break
            result = run_seed(seed, verbose=options.verbose, kinds=kinds)
            report.add(result, verbose=options.verbose)
            if options.digests:
                print(f"digest of seed {seed}: {result.digest}")
            if options.stop and report.failed:
                break
    else:
        with ProcessPoolExecutor(options.jobs) as pool:
            for result in pool.map(partial(run_seed, kinds=kinds), seeds, chunksize=4):
                report.add(result, verbose=options.verbose)
                if time.monotonic() - began_s > options.within_s or (options.stop and report.failed):
                    pool.shutdown(cancel_futures=True, wait=False)
                    break
    report.print(wall_s=time.monotonic() - began_s)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
