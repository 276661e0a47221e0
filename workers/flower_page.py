"""`python -m workers.flower_page --port PORT ...`: Flower, all of which asks for the login.

Flower leaves `/metrics` open whatever login it is given: it says which tasks ran where, how often and how long. `/healthcheck` says `OK`
and stays open. The arguments are those of `celery -A workers.app flower`.
"""

from __future__ import annotations

import sys

from flower import urls
from flower.views import monitor


class Metrics(monitor.Metrics):  # type: ignore[misc,unused-ignore]
    """Flower's metrics, for those who may look at its pages."""

    def prepare(self) -> None:
        """Answer 401 without a login; Flower looks at it as soon as it is asked who calls, and raises that itself for a wrong one."""
        if not self.current_user:
            self.send_error(401)


def close_metrics() -> None:
    """Ask for the login on `/metrics` too, in the list that Flower makes its application of."""
    urls.handlers[:] = [
        (handler[0], Metrics) if isinstance(handler, tuple) and handler[1] is monitor.Metrics else handler
        for handler in urls.handlers
    ]


def main() -> None:
    """Serve until SIGTERM."""
    # Not above: it reads the environment, and the fork server has this module loaded before it knows that of its children.
    from workers.app import app

    close_metrics()
    app.start(argv=["flower", *sys.argv[1:]])


if __name__ == "__main__":
    main()
