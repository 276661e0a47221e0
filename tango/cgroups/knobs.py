"""What can be set of a control group, by which file in which version, and how Kubernetes' amounts become the kernel's."""

from __future__ import annotations

import enum


class Knob(enum.StrEnum):
    """Something that can be set. The value is its name in messages and in files, the same for both versions."""

    CPU_QUOTA = "cpu-quota"
    """Microseconds of CPU in each period; None: no limit."""
    CPU_BURST = "cpu-burst"
    """Microseconds that may be saved up from periods that did not use their quota. Never above the quota."""
    CPU_WEIGHT = "cpu-weight"
    """In the version's own scale. Not to be written while a group is idle, and lost when it becomes idle."""
    CPU_IDLE = "cpu-idle"
    """1: its tasks run when no sibling has a task to run."""
    MEMORY_MAX = "memory-max"
    """Bytes beyond which a task of the group is killed; None: no limit."""
    MEMORY_HIGH = "memory-high"
    """Bytes beyond which the group is slowed down and its memory reclaimed; None: no such mark. In version 1, the soft limit, which
    counts only when the node itself is short of memory."""


FILES: dict[int, dict[Knob, str]] = {
    1: {
        Knob.CPU_QUOTA: "cpu.cfs_quota_us",
        Knob.CPU_BURST: "cpu.cfs_burst_us",
        Knob.CPU_WEIGHT: "cpu.shares",
        Knob.CPU_IDLE: "cpu.idle",
        Knob.MEMORY_MAX: "memory.limit_in_bytes",
        Knob.MEMORY_HIGH: "memory.soft_limit_in_bytes",
    },
    2: {
        Knob.CPU_QUOTA: "cpu.max",
        Knob.CPU_BURST: "cpu.max.burst",
        Knob.CPU_WEIGHT: "cpu.weight",
        Knob.CPU_IDLE: "cpu.idle",
        Knob.MEMORY_MAX: "memory.max",
        Knob.MEMORY_HIGH: "memory.high",
    },
}
"""File of a knob, by version of the hierarchy. `cpu.idle` came with Linux 5.15, the burst with 5.14."""

LOWEST_WEIGHT = {1: 2, 2: 1}
"""The least weight that the kernel takes, by version: what a group gets that gives way to all others."""

PERIOD_US = 100_000
"""Period of a quota where none is set yet: the kubelet's default, and the kernel's."""
LEAST_QUOTA_US = 1000
"""The least quota that the kernel takes."""
LEAST_SHARES, MOST_SHARES = 2, 262_144


def quota_us(millicores: int | None, period_us: int = PERIOD_US) -> int | None:
    """The quota of a CPU limit, as the kubelet computes it; None: no limit."""
    return None if millicores is None else max(LEAST_QUOTA_US, millicores * period_us // 1000)


def millicores(quota: int | None, period_us: int = PERIOD_US) -> int | None:
    """The CPU limit of a quota, rounded down; None: no limit."""
    return None if quota is None else quota * 1000 // period_us


def weight(request_millicores: int, version: int) -> int:
    """The weight of a CPU request: shares in version 1, of which version 2's are a linear image.

    Source: kubernetes, pkg/kubelet/cm/helpers_linux.go (MilliCPUToShares, CPUSharesToCPUWeight). Newer container runtimes map shares to
    weights by a curve of their own; whoever writes weights of groups that a runtime has made must not mix the two.
    """
    shares = min(MOST_SHARES, max(LEAST_SHARES, request_millicores * 1024 // 1000))
    return shares if version == 1 else 1 + (shares - LEAST_SHARES) * 9999 // 262_142
