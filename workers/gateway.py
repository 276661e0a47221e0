"""`python -m workers.gateway --cluster NAME --port PORT …`: run the gateway of a cluster, or of several, until SIGTERM.

Options may be repeated: the first port is that of the first cluster, and so on. A host, a certificate and its key are those of all.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tango.bootstrap.environment import configure_logging, read_settings
from tango.bootstrap.gateway import Front, run_gateways
from tango.emulation.line import LOOPBACK
from tango.errors import UsageError
from workers.garbage import collect_rarely


def serve(
    clusters: Sequence[str],
    ports: Sequence[int],
    *,
    host: str = LOOPBACK,
    certificate: Path | None = None,
    key: Path | None = None,
    may_be_plain: bool = False,
) -> None:
    """Serve callers of these clusters, each on its port. Raises: UsageError, ConfigError."""
    if len(clusters) != len(ports):
        raise UsageError(f"{len(clusters)} clusters and {len(ports)} ports: name one --port for each --cluster, in the same order")
    if len(set(clusters)) != len(clusters):
        raise UsageError("a cluster is named twice; run a second process for a second gateway of a cluster")
    # These read the environment, and build what publishes.
    from workers.app import app
    from workers.publisher import CeleryPublisher
    from workers.roles import SWITCH_INTERVAL_S

    # The loop must not wait long for the threads that accept and publish.
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    fronts = [
        Front(cluster=cluster, host=host, port=port, certificate=certificate, key=key)
        for cluster, port in zip(clusters, ports, strict=True)
    ]
    ready = os.environ.get("TANGO_READY_FILE")
    ready_file = Path(ready) if ready else None
    run_gateways(fronts, CeleryPublisher(app), read_settings(), may_be_plain=may_be_plain, ready_file=ready_file)


def main() -> None:
    """Parse the arguments and run until SIGTERM."""
    collect_rarely()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True, action="append")
    parser.add_argument("--port", required=True, action="append", type=int)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--no-tls", action="store_true")
    options = parser.parse_args()
    configure_logging()
    serve(
        options.cluster,
        options.port,
        host=options.host,
        certificate=options.tls_cert,
        key=options.tls_key,
        may_be_plain=options.no_tls,
    )


if __name__ == "__main__":
    main()
