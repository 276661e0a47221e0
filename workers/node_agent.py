"""`python -m workers.node_agent --node NAME`: run the agent of a node, which moves its pods' CPU and keeps BE out of LC's way."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tango.bootstrap.environment import configure_logging
from tango.bootstrap.node_agent import NodeAgentOptions, run_node_agent
from tango.errors import TangoError


def main() -> None:
    """Parse the arguments and run until SIGTERM. Exit status 2 where it may not run, with the reason on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--node", default=os.environ.get("NODE_NAME"), required="NODE_NAME" not in os.environ, help="default: $NODE_NAME"
    )
    parser.add_argument(
        "--cgroup-root", type=Path, default=Path("/sys/fs/cgroup"), help="where the node's control groups are mounted"
    )
    parser.add_argument(
        "--state", type=Path, default=Path("/run/tango/node-agent.json"), help="file of what is to be put back; on the node itself"
    )
    parser.add_argument(
        "--namespace",
        action="append",
        help="whose pods; may be repeated, Tango's own first; default: $TANGO_KUBE_NAMESPACE, or tango",
        metavar="NAME",
    )
    parser.add_argument("--kubeconfig", default="", help="default: the service account of the pod that this is")
    parser.add_argument("--context", default="", help="of the kubeconfig; default: its current one")
    options = parser.parse_args()
    if options.context and not options.kubeconfig:
        parser.error("--context is of a kubeconfig; give --kubeconfig too")
    configure_logging()
    try:
        run_node_agent(
            NodeAgentOptions(
                node=options.node,
                namespaces=tuple(options.namespace or ()),
                cgroup_root=options.cgroup_root,
                state=options.state,
                kubeconfig=options.kubeconfig,
                context=options.context,
            )
        )
    except TangoError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
