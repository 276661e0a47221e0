"""`python -m workers.api_server`: run one embedded Kubernetes API server."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tango.emulation.api_server import ApiServerOptions, run_api_server
from tango.errors import TangoError


def main() -> None:
    """Parse the arguments and serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    try:
        run_api_server(ApiServerOptions(**vars(options)))
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
