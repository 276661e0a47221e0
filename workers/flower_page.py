"""`python -m workers.flower_page --port PORT ...`: Flower, all of which asks for the login.

Flower leaves `/metrics` open whatever login it is given: it says which tasks ran where, how often and how long. `/healthcheck` says `OK`
and stays open. Its broker page asks the broker itself, whose address Celery gives with the name of Tango's own transport
(`workers.broker_transport`) in front, which Flower does not know. The arguments are those of `celery -A workers.app flower`.
"""

from __future__ import annotations

import sys

from flower import urls
from flower.app import Flower
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


def name_broker(application: type[Flower], address: str) -> None:
    """Let Flower reach the broker at its plain address, whatever transport Celery speaks with it."""
    application.broker_uri_with_password = f"redis+{address}" if address.startswith("socket://") else address


def main() -> None:
    """Serve until SIGTERM."""
    # Not above: it reads the environment, and the fork server has this module loaded before it knows that of its children.
    from workers.app import app

    close_metrics()
    name_broker(Flower, str(app.conf.broker_url))
    app.start(argv=["flower", *sys.argv[1:]])


if __name__ == "__main__":
    main()
