"""`python -m workers.metrics [--host H] [--port P] [--cluster C …]`: the figures of this host, for Prometheus.

Of what the environment names: the database (`TANGO_DATABASE_URL`), the broker (`TANGO_BROKER_URL`), the folder in which processes count
(`TANGO_METRICS_DIR`), the stack in `TANGO_HOME`. `--cluster` names clusters whose queues are looked at where no database is named.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import signal
import threading
from pathlib import Path

from tango import progress


def main() -> None:
    """Serve until SIGTERM."""
    # Not above: the application reads the environment, and the fork server loads modules before it knows that of its children.
    from tango.bootstrap.environment import configure_logging, default_home, read_settings
    from tango.bootstrap.metrics import Exporter
    from tango.stack.state import read_stack
    from workers.app import create_app
    from workers.broker_figures import BrokerFigures

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--cluster", action="append", default=[])
    options = parser.parse_args()
    configure_logging()
    settings = read_settings()
    told = {name: value for name in ("host", "port") if (value := getattr(options, name)) is not None}
    settings = dataclasses.replace(settings, metrics=dataclasses.replace(settings.metrics, **told))
    home = default_home()
    stack = read_stack(home)
    apart = stack.cluster_brokers if stack is not None else {}
    apps = {name: create_app(dataclasses.replace(settings, broker_url=url)) for name, url in apart.items()}
    brokers = BrokerFigures(create_app(settings), apps) if settings.broker_url else None
    listener = Exporter(settings, home, brokers, clusters=options.cluster).serve()
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    if path := os.environ.get("TANGO_READY_FILE"):
        Path(path).touch(mode=0o600)
    print(f"metrics are served on http://{settings.metrics.host}:{listener.port}/metrics", flush=True)
    progress.reached("ready", within_s=math.inf)
    progress.tell("metrics")
    while not ending.wait(1.0):
        progress.turned("main")
    listener.close()


if __name__ == "__main__":
    main()
