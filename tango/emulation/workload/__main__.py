"""`python -m tango.emulation.workload serve|run`; settings come from environment variables, as a pod's manifest sets them.

    serve   TANGO_PORT (8080)  TANGO_HOST (0.0.0.0)  TANGO_CLUSTER  TANGO_INSTANCE (pod name)  TANGO_CONCURRENCY (1)
            TANGO_MEMORY_MIB (a request)  TANGO_SERVICE_KEY (by which requests must be signed; without it all are served)
    run     TANGO_CPU_WORK_S  TANGO_MEMORY_MIB (0)  TANGO_CORES (by the CPU limit)  TANGO_TERMINATION_LOG (/dev/termination-log)

Defaults stand in parentheses. Exit status: 0 done, 1 the system refused the address or the memory, 2 a setting is wrong, 143 stopped by
SIGTERM before the work was done.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from tango.client.signatures import KEY_VARIABLE
from tango.emulation.workload.batch import BatchOptions, cores_of_limit, run
from tango.emulation.workload.service import ServiceOptions, serve


def service_options(environment: Mapping[str, str]) -> ServiceOptions:
    """Settings of `serve`. Raises: ValueError with the name of a wrong variable."""
    memory_mib = _number(environment, "TANGO_MEMORY_MIB", 0.0)
    cluster, pod = environment.get("TANGO_CLUSTER", ""), environment.get("TANGO_INSTANCE", "")
    return ServiceOptions(
        port=int(_number(environment, "TANGO_PORT", 8080, most=65535)),
        host=environment.get("TANGO_HOST", "0.0.0.0"),
        # As `tango.domain.identity.PodKey`; one that does not know what it is serves whatever reaches it.
        instance=f"{cluster}/{pod}" if cluster and pod else "",
        key=environment.get(KEY_VARIABLE, ""),
        concurrency=max(1, int(_number(environment, "TANGO_CONCURRENCY", 1))),
        memory_mib=_number(environment, "TANGO_CONCURRENCY", 1) * memory_mib if memory_mib else math.inf,
    )


def batch_options(environment: Mapping[str, str]) -> BatchOptions:
    """Settings of `run`. Raises: ValueError with the name of a wrong variable."""
    return BatchOptions(
        cpu_work_s=_number(environment, "TANGO_CPU_WORK_S"),
        memory_mib=_number(environment, "TANGO_MEMORY_MIB", 0.0),
        cores=max(1, int(_number(environment, "TANGO_CORES", cores_of_limit()))),
        termination_log=Path(environment.get("TANGO_TERMINATION_LOG", "/dev/termination-log")),
    )


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run one mode and return the exit status."""
    if arguments not in (["serve"], ["run"]):
        print("usage: python -m tango.emulation.workload serve|run", file=sys.stderr)
        return 2
    try:
        if arguments == ["serve"]:
            service = service_options(environment)
        else:
            batch = batch_options(environment)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if arguments == ["serve"]:
        try:
            asyncio.run(serve(service))
        except OSError as error:
            print(f"{service.host}:{service.port} cannot be listened on: {error}", file=sys.stderr)
            return 1
        return 0
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    return run(batch, stop)


def _number(environment: Mapping[str, str], name: str, default: float | None = None, *, most: float = sys.float_info.max) -> float:
    text = environment.get(name, "" if default is None else str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        bounds = f"from 0 to {most:g}" if most < sys.float_info.max else "of at least 0"
        raise ValueError(f"{name} is {text!r}, expected a number {bounds}")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
