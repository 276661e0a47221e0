"""`python -m workers.virtual_kubelet --cluster NAME --context CONTEXT`: run the virtual kubelets of some clusters in one process."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tango.bootstrap.environment import configure_logging, read_settings
from tango.emulation.virtual_kubelet import VirtualKubeletOptions, run_virtual_kubelets
from tango.errors import TangoError
from workers.garbage import collect_rarely


def main() -> None:
    """Parse the arguments and run until SIGTERM."""
    collect_rarely()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--cluster", required=True, action="append", help="may be repeated, with a context for each")
    parser.add_argument("--context", required=True, action="append")
    parser.add_argument(
        "--pods-dir", type=Path, action="append", help="for pods that run as local processes, one for each --cluster"
    )
    options = parser.parse_args()
    if len(options.cluster) != len(options.context):
        parser.error(f"expected a --context for each --cluster, found {len(options.context)} for {len(options.cluster)}")
    configure_logging()
    contexts = dict(zip(options.cluster, options.context, strict=True))
    if options.pods_dir and len(options.cluster) != len(options.pods_dir):
        parser.error(f"expected a --pods-dir for each --cluster, found {len(options.pods_dir)} for {len(options.cluster)}")
    pods_dirs = dict(zip(options.cluster, options.pods_dir or (), strict=False))
    try:
        run_virtual_kubelets(
            VirtualKubeletOptions(
                kubeconfig=options.kubeconfig,
                fleet=options.fleet,
                contexts=contexts,
                pods_dirs=pods_dirs,
                call_key=read_settings().call_key,
            )
        )
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
