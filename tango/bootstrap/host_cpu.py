"""What the kernel counts of this host's CPUs."""

from __future__ import annotations

import psutil

from tango.domain.host_use import CpuTimes


def cpu_times() -> CpuTimes:
    """By psutil, from /proc/stat on Linux; a system that knows no stolen or awaited time has none."""
    found = psutil.cpu_times()
    # What guests use is counted once more as user time.
    counted = {name: value for name, value in found._asdict().items() if not name.startswith("guest")}
    return CpuTimes(
        total_s=sum(counted.values()), idle_s=found.idle + counted.get("iowait", 0.0), stolen_s=counted.get("steal", 0.0)
    )
