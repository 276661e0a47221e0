"""`python -m workers.run_figures --run RUN --epoch EPOCH`: compute the figures of an ended run, and save them under this claim."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass

from tango.ports.figures import FiguresClaim
from tango.stack.tether import tethered

NICENESS = 10
"""nice(2) increment, so that the process gives way to those that serve requests."""


@dataclass(frozen=True, slots=True)
class ComputingProcess:
    """Such a process, which ends with the thread that has begun it."""

    process: subprocess.Popen[bytes]

    @classmethod
    def begin(cls, claim: FiguresClaim) -> ComputingProcess:
        """Start the process for the figures of one run."""
        words = (sys.executable, "-m", "workers.run_figures", "--run", str(claim.run_id), "--epoch", str(claim.epoch))
        return cls(subprocess.Popen(tethered(words), stdin=subprocess.DEVNULL))

    def wait(self, timeout_s: float) -> int | None:
        """See `Computing`."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """See `Computing`."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Compute and save."""
    from tango.bootstrap.environment import configure_logging
    from tango.bootstrap.stores import stores
    from tango.control.finish_run import finish_run

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=int, required=True)
    parser.add_argument("--epoch", type=int, required=True)
    options = parser.parse_args()
    configure_logging()
    os.nice(NICENESS)
    here = stores()
    finish_run(FiguresClaim(run_id=options.run, epoch=options.epoch), store=here.figures, records=here.records)


if __name__ == "__main__":
    main()
