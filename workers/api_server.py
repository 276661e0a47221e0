"""`python -m workers.api_server --cluster NAME --token-file FILE`: run the embedded Kubernetes API servers of some clusters in one process.

The options may be repeated, in groups that begin with `--cluster`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from tango import progress
from tango.emulation.api_server import ApiServerOptions, run_api_servers
from tango.errors import TangoError
from tango.telemetry.loops import watch_lag
from workers.garbage import collect_rarely


def main() -> None:
    """Parse the arguments and serve until SIGTERM. The ready file is made when all servers listen."""
    collect_rarely()
    one = argparse.ArgumentParser(description=__doc__)
    one.add_argument("--cluster", required=True)
    one.add_argument("--port", type=int, default=0)
    one.add_argument("--port-file", type=Path)
    one.add_argument("--token-file", type=Path, required=True)
    one.add_argument("--data-dir", type=Path)
    one.add_argument("--pods-dir", type=Path, help="where the virtual kubelet of the cluster keeps logs of containers")
    one.add_argument(
        "--rbac-after-s", type=float, default=0.0, help="seconds in which all but administrators get 403 after the start"
    )
    words = sys.argv[1:]
    # From one `--cluster` to the next; without any, argparse says what is missing.
    starts = [k for k, word in enumerate(words) if k and word.startswith("--cluster")]
    groups = [words[start:end] for start, end in zip([0, *starts], [*starts, len(words)], strict=True)]
    try:
        run_api_servers([ApiServerOptions(**vars(one.parse_args(group))) for group in groups], listening=_tell_supervisor)
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


def _tell_supervisor() -> None:
    progress.follow(asyncio.get_running_loop())
    watch_lag(asyncio.get_running_loop(), "apiserver")
    progress.tell("apiserver")
    if path := os.environ.get("TANGO_READY_FILE"):
        Path(path).touch(mode=0o600)


if __name__ == "__main__":
    main()
