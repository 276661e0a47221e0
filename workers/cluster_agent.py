"""`python -m workers.cluster_agent --cluster NAME`: run the agent of a cluster, or of several, in a process without Celery."""

from __future__ import annotations

import argparse

from tango.bootstrap.agent import run_cluster_agents
from tango.bootstrap.environment import configure_logging
from tango.stack.inherited import leave_out_others
from workers.garbage import collect_rarely


def main() -> None:
    """Parse the arguments and run until SIGTERM."""
    leave_out_others()
    collect_rarely()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True, action="append", help="may be repeated")
    options = parser.parse_args()
    configure_logging()
    run_cluster_agents(options.cluster)


if __name__ == "__main__":
    main()
