"""`python -m workers.health [ROLE] [--ready]`: whether the processes here get on, or that of one role; exits with 1 and says what hangs.

For exec probes of Kubernetes and health checks of containers. Without `--ready` it asks what only a new process would mend (loops that do
not turn, tasks that do not end), and so never complains of a database, broker or API server that is away. Roles: agent, worker, gateway,
scheduler, replayer, simulator, beat, node-agent; `TANGO_HEALTH_DIR` names the folder in which they tell.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tango.progress import HEALTH_DIR, complaints


def main(arguments: list[str]) -> int:
    """Judge and print; gives the exit status."""
    roles = [word for word in arguments if word != "--ready"]
    folder = os.environ.get(HEALTH_DIR)
    if not folder or len(roles) > 1 or any(role.startswith("-") for role in roles):
        print(f"usage: {HEALTH_DIR}=FOLDER python -m workers.health [ROLE] [--ready]", file=sys.stderr)
        return 2
    found = complaints(Path(folder), roles[0] if roles else None, ready="--ready" in arguments)
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
