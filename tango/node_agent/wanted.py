"""What is to be set of a pod's groups, in an order that the kernel takes. Pure: current values come in, changes go out.

A child may never have more CPU than its parent in version 1, and gains nothing by it in version 2; a quota may never be below the burst.
So of each limit: containers that shrink, then the pod if it grows, then containers that grow, then the pod if it shrinks; and of each
quota: down with the burst first, up with the quota first.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

from tango.cgroups.groups import Group
from tango.cgroups.knobs import Knob, quota_us


@dataclass(frozen=True, slots=True)
class WantedValue:
    """A value that a knob of a control group is to have."""

    group: Group
    knob: Knob
    value: int | None


@dataclass(frozen=True, slots=True)
class Move:
    """A limit of one group, as it is and as it should be; None: no limit."""

    group: Group
    now: int | None
    wanted: int | None

    @property
    def grows(self) -> bool:
        """Whether there is more afterwards."""
        return self.now is not None and (self.wanted is None or self.wanted > self.now)


def in_order(knob: Knob, pod: Move, containers: Sequence[Move]) -> list[WantedValue]:
    """Grow the pod before its containers, shrink it after them; what is as it should be is left out."""
    shrink = [one for one in containers if not one.grows]
    grow = [one for one in containers if one.grows]
    moves = [*shrink, *([pod] if pod.grows else []), *grow, *([] if pod.grows else [pod])]
    return [WantedValue(one.group, knob, one.wanted) for one in moves if one.now != one.wanted]


def with_burst(change: WantedValue, *, burst_now_us: int | None, burst_found_us: int) -> list[WantedValue]:
    """A change of a quota, with the burst kept as it was found as far as the quota allows it. `burst_now_us` None: no such knob."""
    if burst_now_us is None:
        return [change]
    burst_us = burst_found_us if change.value is None else min(burst_found_us, change.value)
    burst = WantedValue(change.group, Knob.CPU_BURST, burst_us)
    if burst_us == burst_now_us:
        return [change]
    return [burst, change] if burst_us < burst_now_us else [change, burst]


def cpu_quota(cpu_millicores: int | None, period_us: int) -> int | None:
    """The quota of a limit; None: no limit."""
    return quota_us(cpu_millicores, period_us)


def whole_pages(memory_bytes: int | None) -> int | None:
    """A limit of memory as the kernel keeps it: in whole pages, rounded down."""
    return None if memory_bytes is None else memory_bytes // mmap.PAGESIZE * mmap.PAGESIZE
