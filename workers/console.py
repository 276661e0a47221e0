"""`python -m workers.console --port PORT`: serve the console until SIGTERM. `TANGO_CONSOLE_TOKEN` is what people log in with.

Where something before it ends TLS, `--host` is an address of the network and `--name` the name by which browsers call it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tango.bootstrap.console import ConsolePlace, run_console
from tango.bootstrap.environment import configure_logging, read_settings
from tango.emulation.line import LOOPBACK
from tango.stack.inherited import leave_out_others


def main() -> None:
    """Parse the arguments and run until SIGTERM."""
    leave_out_others()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True, type=int)
    parser.add_argument("--host", default=LOOPBACK)
    parser.add_argument("--name", action="append", default=[])
    options = parser.parse_args()
    configure_logging()
    ready = os.environ.get("TANGO_READY_FILE")
    place = ConsolePlace(host=options.host, port=options.port, names=tuple(options.name), ready_file=Path(ready) if ready else None)
    run_console(place, read_settings())


if __name__ == "__main__":
    main()
