"""How much best-effort (BE) work is held back on a node, by slack and pressure of its latency-critical (LC) pods. Pure.

BE runs only when no LC task wants the CPU (`cpu.idle`, or the least weight), which costs nothing that LC leaves; that holds whenever there
is LC here. What is decided here is what comes on top, when LC suffers all the same (caches, memory bandwidth, hyper-threads, reclaim):

| LC instances here               | pressure on LC | CPU share of BE                              |
|---------------------------------|----------------|----------------------------------------------|
| one was grown since the last look | any          | multiplied by `tighten`, not below the floor |
|                                 | above high     | the same                                     |
| one was grown within `grown_s`  | any            | stays                                        |
|                                 | above low      | stays                                        |
| otherwise                       | below low      | after `hold_s`: up by `relax`                |

A quota against pressure has to earn itself. Idle BE takes no CPU that LC wants, so that others may have it: pods that are not Tango's, the
system, the host of a virtual machine. After `futile_cuts` steps that have lowered the pressure by less than `helped` asks for BE gets back
what they took, and pressure counts for nothing for `futile_s`.

The slack of LC is known where answers are counted, at the centre. It comes here as what re-assurance makes of it: an instance is grown
while its slack is below `SharingSettings.grow_below`, again and again until it no longer is. So no figure has to be sent, and none can be
old. Thresholds that differ by direction, the hold, and steps that are large down and small up keep it from swinging: additive increase,
multiplicative decrease. Memory goes the same way by memory pressure, with a mark (`memory.high`) above which BE is slowed and reclaimed,
so that LC gets memory before anything has to be evicted.

Source: Heracles (Lo et al., ISCA 2015), sections 4.2 and 4.3, for growing BE while slack allows it and cutting it back at once; the
thresholds here are on pressure stall information in place of core counts and power.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tango.settings import NodeAgentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What was measured since the last look. Pressures are shares of that time, from 0 to 1; None: this kernel does not say."""

    lc_grown: bool
    """Whether an LC instance here was grown: its slack is short."""
    lc_grown_lately: bool
    """The same, within `NodeAgentSettings.grown_s`."""
    lc_cpu_pressure: float | None
    """The most of an LC pod: none of its tasks had a CPU that others had."""
    lc_memory_pressure: float | None
    """The most of an LC pod: some of its tasks waited for memory."""
    node_memory_pressure: float | None
    """All tasks of the node waited for memory."""
    be_memory_bytes: int
    """In use by all BE pods."""
    be_memory_floor_bytes: int
    """Below which their mark does not go."""


@dataclass(frozen=True, slots=True)
class Restraint:
    """What BE may take."""

    cpu_share: float = 1.0
    """Of the CPU that LC leaves; 1: no quota."""
    memory_bytes: int | None = None
    """Mark above which BE's memory is reclaimed; None: no mark."""
    cpu_calm_since_s: float | None = None
    memory_calm_since_s: float | None = None
    cuts: int = 0
    """Steps down by pressure since it was last below low."""
    cut_at_pressure: float = 0.0
    """What it was at the first of them."""
    share_before_cuts: float = 1.0
    """What BE would have without them."""
    blameless_until_s: float = -math.inf
    """Until when pressure is no reason to cut BE back, since that has not helped."""


FREE = Restraint()


def next_restraint(now: Restraint, signals: Signals, *, at_s: float, settings: NodeAgentSettings) -> Restraint:
    """What BE may take from now on."""
    return _memory(_cpu(now, signals, at_s, settings), signals, at_s, settings)


def _cpu(now: Restraint, signals: Signals, at_s: float, settings: NodeAgentSettings) -> Restraint:
    pressure = 0.0 if at_s < now.blameless_until_s else signals.lc_cpu_pressure or 0.0
    if signals.lc_grown:
        now = replace(now, share_before_cuts=max(settings.cpu_floor, now.share_before_cuts * settings.tighten))
        return replace(now, cpu_share=_tightened(now, settings), cpu_calm_since_s=None)
    if pressure > settings.cpu_pressure_high:
        return _cut_by_pressure(now, pressure, at_s, settings)
    if signals.lc_grown_lately or pressure > settings.cpu_pressure_low:
        return replace(now, cpu_calm_since_s=None)
    since_s = at_s if now.cpu_calm_since_s is None else now.cpu_calm_since_s
    now = replace(now, cuts=0)
    if now.cpu_share < 1.0 and at_s - since_s >= settings.hold_s:
        return replace(now, cpu_share=min(1.0, now.cpu_share + settings.relax), cpu_calm_since_s=at_s)
    return replace(now, cpu_calm_since_s=since_s)


def _cut_by_pressure(now: Restraint, pressure: float, at_s: float, settings: NodeAgentSettings) -> Restraint:
    """One step down, or all of them up again where they have not helped."""
    if now.cuts == 0:
        now = replace(now, cut_at_pressure=pressure, share_before_cuts=now.cpu_share)
    elif now.cuts >= settings.futile_cuts and pressure > settings.helped * now.cut_at_pressure:
        return replace(
            now, cpu_share=now.share_before_cuts, cuts=0, cpu_calm_since_s=None, blameless_until_s=at_s + settings.futile_s
        )
    return replace(now, cpu_share=_tightened(now, settings), cuts=now.cuts + 1, cpu_calm_since_s=None)


def _tightened(now: Restraint, settings: NodeAgentSettings) -> float:
    return max(settings.cpu_floor, now.cpu_share * settings.tighten)


def _memory(now: Restraint, signals: Signals, at_s: float, settings: NodeAgentSettings) -> Restraint:
    pressure = max(signals.lc_memory_pressure or 0.0, signals.node_memory_pressure or 0.0)
    used, mark = signals.be_memory_bytes, now.memory_bytes
    if pressure > settings.memory_pressure_high:
        # From what is in use and not from the mark, so that the first step is felt.
        lower = int(min(used, mark if mark is not None else used) * settings.memory_tighten)
        return replace(now, memory_bytes=max(signals.be_memory_floor_bytes, lower), memory_calm_since_s=None)
    if mark is None or pressure > settings.memory_pressure_low:
        return replace(now, memory_calm_since_s=None)
    since_s = at_s if now.memory_calm_since_s is None else now.memory_calm_since_s
    if at_s - since_s < settings.hold_s:
        return replace(now, memory_calm_since_s=since_s)
    higher = int(mark / settings.memory_tighten)
    # Far above what is in use the mark does nothing but wait for the next growth.
    return replace(now, memory_bytes=None if higher > 2 * used else higher, memory_calm_since_s=at_s)


def shares_of(total: int, used: Mapping[str, int]) -> dict[str, int]:
    """A total given out by what each uses now; none gets less than a tenth of an even share, so that one that begins can show it."""
    if not used:
        return {}
    least = max(1, total // (10 * len(used)))
    rest, in_use = max(0, total - least * len(used)), sum(used.values())
    return {name: least + (rest * amount // in_use if in_use else rest // len(used)) for name, amount in used.items()}
