"""`python -m workers.virtual_kubelet`: run the virtual kubelet of one cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tango.bootstrap.environment import configure_logging
from tango.emulation.virtual_kubelet import VirtualKubeletOptions, run_virtual_kubelet
from tango.errors import TangoError


def main() -> None:
    """Parse the arguments and run until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--context", required=True)
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--cluster", required=True)
    options = parser.parse_args()
    configure_logging()
    try:
        run_virtual_kubelet(VirtualKubeletOptions(**vars(options)))
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
