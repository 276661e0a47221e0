"""The node agent itself: pods come and go, the kernel is looked at, BE is held back as far as LC needs it.

What it does to a pod depends on the pod alone (`see`) or on the node (`step`):

- **A resize under way** (the specification says other limits than the kubelet reports): the limits are set as specified, CPU at once,
  memory up when the kubelet has admitted it and down when what is in use fits. The kubelet writes the same values later.
- **A BE pod that is not being resized** is idle (or has the least weight) while there is LC here, and has the quota and the memory mark
  that `isolation` gives it. While it is being resized all that is taken back first, for the kernel refuses a weight to an idle group.

A look costs CPU that LC and BE are to have. So it reads what a decision now needs and no more: while nothing presses that is the pressure
on LC pods and whether BE pods are idle still, every `NodeAgentSettings.calm_tick_s`; what BE uses is read while a quota or a mark gives it
out, and for a report.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tango.cgroups.groups import CpuAccount, Group, Hierarchy, Pressure, pressure_of
from tango.cgroups.knobs import LOWEST_WEIGHT, Knob
from tango.cgroups.open_groups import OpenFile, OpenGroup
from tango.cgroups.pod_groups import PodFinder, PodGroups
from tango.node_agent.isolation import FREE, Signals, next_restraint, shares_of
from tango.node_agent.ledger import Entry, Ledger, Setting
from tango.node_agent.pods import ContainerFacts, ContainerLimits, PodFacts, pod_facts
from tango.node_agent.reports import NodeReport, PodReport, Totals
from tango.node_agent.wanted import Move, WantedValue, cpu_quota, in_order, whole_pages, with_burst
from tango.settings import NodeAgentSettings

NODE_PRESSURE = Path("/proc/pressure")


@dataclass(slots=True)
class _Seen:
    """What the kernel had accounted of a group at a look."""

    at_s: float
    cpu: CpuAccount
    cpu_pressure: Pressure | None
    memory_pressure: Pressure | None
    memory_bytes: int = 0
    """0 where it was not asked for."""


class _Pod:
    """A pod of this node, with what the kernel had accounted of it at looks."""

    def __init__(self, facts: PodFacts, groups: PodGroups, now_s: float) -> None:
        self.facts, self.is_moving = facts, facts.is_moving
        self.groups = groups
        self.accounts = OpenGroup(groups.pod)
        self.before: _Seen | None = None
        self.now = self.seen(now_s)
        """At the last look; `before`: at the one before it."""
        self.told = self.now
        """At the last report, apart from looks, which would else measure what happened in the moment after a report."""
        self.settings: dict[tuple[str, Knob], Setting] = {}
        """Of all that was ever wanted of its groups, the last."""

    @property
    def all_groups(self) -> list[Group]:
        return [self.groups.pod, *self.groups.containers.values()]

    def become(self, facts: PodFacts, groups: PodGroups) -> None:
        """Take over what the API and the kernel say of this pod now."""
        self.facts, self.is_moving = facts, facts.is_moving
        if groups.pod.path != self.groups.pod.path:
            self.accounts.close()
            self.accounts = OpenGroup(groups.pod)
        self.groups = groups

    def seen(self, now_s: float, *, with_memory: bool = True) -> _Seen | None:
        """What the kernel has accounted; None if the group is gone."""
        of = self.accounts
        try:
            memory_bytes = of.memory_bytes() if with_memory else 0
            return _Seen(now_s, of.cpu(), of.pressure("cpu"), of.pressure("memory"), memory_bytes)
        except (OSError, ValueError, KeyError):
            return None

    def look(self, now_s: float, *, with_memory: bool = True) -> None:
        """Once for each point in time; of a group that is gone nothing changes."""
        if (self.now is None or self.now.at_s < now_s) and (seen := self.seen(now_s, with_memory=with_memory)) is not None:
            self.before, self.now = self.now, seen

    def note(self, settings: Iterable[Setting]) -> None:
        self.settings |= {(one.path, one.knob): one for one in settings}


class NodeAgent:
    """Of one node. Its methods are quick (some reads and writes of the kernel's files) and not for several threads.

    Raises: FileUnusable, from whatever writes, if the ledger's file cannot be written.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        ledger: Ledger,
        settings: NodeAgentSettings,
        *,
        cpu_millicores: int,
        clock: Callable[[], float],
        node_pressure: Path = NODE_PRESSURE,
    ) -> None:
        self._hierarchy = hierarchy
        self._finder = PodFinder(hierarchy)
        self._ledger = ledger
        self._settings = settings
        self._cpu_millicores = cpu_millicores
        self._clock = clock
        self._node_pressure = OpenFile(node_pressure / "memory")
        self._node_before: tuple[float, Pressure] | None = None
        self._node_memory: float | None = None
        self._pods: dict[str, _Pod] = {}
        self._waiting: dict[str, PodFacts] = {}
        """Pods whose groups are not there yet."""
        self.restraint = FREE
        self._lc_grown, self._lc_grown_at_s = False, -float("inf")
        """Whether an LC pod was grown since the last look, and when one was last."""
        self._is_due = True
        """Whether pods have come, gone, grown or moved since the last look."""
        self._signals: Signals | None = None

    def see(self, pod: dict[str, Any]) -> list[Setting]:
        """A pod as the API now has it: act on it. Of one that may not be touched, or does not run, what was set is taken back.

        Returns what was written. Raises: ValueError for a quantity that is none.
        """
        facts = pod_facts(pod)
        if facts is None:
            return self.gone(pod["metadata"]["uid"])
        groups = self._finder.find(facts.uid, [container.container_id for container in facts.containers])
        if groups is None:
            self._waiting[facts.uid] = facts
            return []
        self._waiting.pop(facts.uid, None)
        known = self._pods.get(facts.uid)
        self._is_due = self._is_due or known is None or known.is_moving or facts.is_moving
        if known is None:
            known = self._pods[facts.uid] = _Pod(facts, groups, self._clock())
        elif facts.is_lc and facts.has_grown(known.facts):
            self._is_due = self._lc_grown = True
            self._lc_grown_at_s = self._clock()
        known.become(facts, groups)
        return self._move(known)

    def gone(self, uid: str) -> list[Setting]:
        """A pod is no more, or no longer runs."""
        self._waiting.pop(uid, None)
        pod = self._pods.pop(uid, None)
        if pod is None:
            return []
        self._is_due = True
        pod.accounts.close()
        self._follow(pod)
        return self._ledger.release(pod.all_groups)

    def seen_all(self) -> list[Setting]:
        """All pods of the node have been seen: what an agent before this one had set of others is put back."""
        return self._ledger.release_others([group for pod in self._pods.values() for group in pod.all_groups])

    @property
    def next_look_s(self) -> float:
        """Seconds after which the next look is due: at once when pods have changed, soon while anything presses or is under way."""
        if self._is_due:
            return 0.0
        return self._settings.tick_s if self._waiting or self._is_pressed else self._settings.calm_tick_s

    @property
    def lc_cpu_pressure(self) -> float | None:
        """At the last look: the most of an LC pod, from 0 to 1; None: not known."""
        return None if self._signals is None else self._signals.lc_cpu_pressure

    def step(self) -> None:
        """Look at the kernel, decide, hold BE back."""
        now_s, self._is_due = self._clock(), False
        for facts in list(self._waiting.values()):
            groups = self._finder.find(facts.uid, [container.container_id for container in facts.containers])
            if groups is not None:
                del self._waiting[facts.uid]
                self._pods[facts.uid] = _Pod(facts, groups, now_s)
        lc, be = self._by_class()
        self._look(lc, be, now_s)
        for pod in self._pods.values():
            if pod.is_moving or pod.facts.held_back or self._is_ahead(pod):
                self._move(pod)
        self._node_memory = self._node_stalled(now_s)
        self._signals, self._lc_grown = self._measured(lc, be, now_s), False
        self.restraint = next_restraint(self.restraint, self._signals, at_s=now_s, settings=self._settings) if lc else FREE
        self._hold_back(be, lc_here=bool(lc))

    def restore(self) -> list[Setting]:
        """Put back what was found, but what follows an API object; then the agent may go."""
        for pod in self._pods.values():
            pod.accounts.close()
        self._pods, self._waiting, self.restraint = {}, {}, FREE
        return self._ledger.restore()

    def report(self) -> NodeReport:
        """What the kernel has accounted since the last report, and how things stand."""
        self._ledger.sweep()
        now_s = self._clock()
        pods = {}
        for pod in self._pods.values():
            seen = pod.seen(now_s) or pod.told
            pods[pod.facts.name] = _pod_report(pod, pod.told, seen)
            pod.told = seen
        lc, be = (Totals.of([one for one in pods.values() if one.is_lc is is_lc]) for is_lc in (True, False))
        return NodeReport(
            lc=lc,
            be=be,
            node_memory_pressure=self._node_memory,
            cpu_share=self.restraint.cpu_share,
            memory_mark_bytes=self.restraint.memory_bytes,
            pods=pods,
        )

    @property
    def _is_pressed(self) -> bool:
        """Whether BE is cut back, or may have to be at the next look."""
        if self.restraint.cpu_share < 1.0 or self.restraint.memory_bytes is not None or self._signals is None:
            return True
        now, settings = self._signals, self._settings
        if now.lc_grown_lately or any(pod.is_moving for pod in self._pods.values()):
            return True
        memory = max(now.lc_memory_pressure or 0.0, now.node_memory_pressure or 0.0)
        return (now.lc_cpu_pressure or 0.0) > settings.cpu_pressure_low or memory > settings.memory_pressure_low

    def _by_class(self) -> tuple[list[_Pod], list[_Pod]]:
        """(LC, BE)."""
        lc = [pod for pod in self._pods.values() if pod.facts.is_lc]
        return lc, [pod for pod in self._pods.values() if not pod.facts.is_lc]

    def _is_ahead(self, pod: _Pod) -> bool:
        """Whether something of a pod is set that was set for a resize."""
        held = (self._ledger.held(group) for group in pod.groups.containers.values())
        return any(Knob.MEMORY_HIGH in one for one in held) or any(
            entry.follows_object for group in pod.all_groups for entry in self._ledger.held(group).values()
        )

    # Limits of a resize under way

    def _move(self, pod: _Pod) -> list[Setting]:
        facts = pod.facts
        if facts.held_back:
            if any(entry.follows_object for group in pod.all_groups for entry in self._ledger.held(group).values()):
                taken_back = self._ledger.release(pod.all_groups)  # it was moved ahead of a kubelet that has refused since
                pod.note(taken_back)
                return taken_back
            return []
        ahead = {group.path for group in pod.all_groups if any(e.follows_object for e in self._ledger.held(group).values())}
        settings: list[Setting] = []
        if facts.is_moving or ahead:
            # Also where the kubelet has nothing to do and never had: a size was asked for and taken back before it began. Then it will not
            # write what was set ahead of it, so that is put right here.
            here = [(one, pod.groups.containers.get(one.container_id)) for one in facts.containers]
            moving = [(one, group) for one, group in here if group is not None and (one.is_moving or group.path in ahead)]
            settings += [] if facts.is_lc else self._let_go(pod)
            with contextlib.suppress(OSError):  # a group has gone: the next look finds what there is
                changes, marks = self._memory_changes(pod, moving)
                changes += self._cpu_changes(pod, moving)
                settings += self._ledger.apply(changes, now_s=self._clock(), follows_object=True)
                settings += self._ledger.apply(marks, now_s=self._clock())
        if not facts.is_moving:
            self._follow(pod)
            settings += self._ledger.release(pod.groups.containers.values(), [Knob.MEMORY_HIGH])
        pod.note(settings)
        return settings

    def _follow(self, pod: _Pod) -> None:
        """The kubelet has done what the agent did ahead of it, or will: that is no longer the agent's."""
        for group in pod.all_groups:
            self._ledger.follow(group, [knob for knob, entry in self._ledger.held(group).items() if entry.follows_object])

    def _let_go(self, pod: _Pod) -> list[Setting]:
        """Take back what holds a BE pod, but not what it is being resized to."""
        held = {knob for group in pod.all_groups for knob, entry in self._ledger.held(group).items() if not entry.follows_object}
        return self._ledger.release(pod.all_groups, held) if held else []

    def _cpu_changes(self, pod: _Pod, moving: list[tuple[ContainerFacts, Group]]) -> list[WantedValue]:
        def move(group: Group, limits: ContainerLimits) -> Move:
            return Move(group, group.read(Knob.CPU_QUOTA), cpu_quota(limits.cpu_millicores, group.period_us()))

        whole = move(pod.groups.pod, pod.facts.wanted)
        parts = [move(group, one.wanted) for one, group in moving]
        return [part for change in in_order(Knob.CPU_QUOTA, whole, parts) for part in self._with_burst(change)]

    def _memory_changes(self, pod: _Pod, moving: list[tuple[ContainerFacts, Group]]) -> tuple[list[WantedValue], list[WantedValue]]:
        """(limits that can be set now, marks where more is in use: that is reclaimed first, since a limit would kill)."""
        whole = Move(pod.groups.pod, pod.groups.pod.read(Knob.MEMORY_MAX), whole_pages(pod.facts.wanted.memory_bytes))
        parts: list[Move] = []
        marks: list[WantedValue] = []
        for one, group in moving:
            part = Move(group, group.read(Knob.MEMORY_MAX), whole_pages(one.wanted.memory_bytes))
            if part.grows and not one.is_admitted:
                return [], []  # memory that the kubelet has not counted may be promised to another pod
            if _is_below_use(part):
                marks.append(WantedValue(group, Knob.MEMORY_HIGH, part.wanted))
            else:
                parts.append(part)
        if marks or _is_below_use(whole):
            return [
                WantedValue(part.group, Knob.MEMORY_MAX, part.wanted)
                for part in parts
                if part.now != part.wanted and not part.grows
            ], marks
        return in_order(Knob.MEMORY_MAX, whole, parts), []

    def _with_burst(self, change: WantedValue) -> list[WantedValue]:
        if not change.group.has(Knob.CPU_BURST):
            return [change]
        now, found = change.group.read(Knob.CPU_BURST), self._ledger.found(change.group, Knob.CPU_BURST)
        return with_burst(change, burst_now_us=now, burst_found_us=found or 0)

    # What BE may take

    def _hold_back(self, pods: list[_Pod], *, lc_here: bool) -> None:
        """Of what was set before only idleness is looked at while BE has no quota and no mark: it is what others set back."""
        restrained = [pod for pod in pods if lc_here and not pod.is_moving]
        quotas = self._quotas(restrained)
        marks = self._marks(restrained)
        for pod in pods:
            if pod.is_moving:
                continue
            held = self._ledger.held(pod.groups.pod)
            if not lc_here:
                if held:
                    pod.note(self._ledger.release(pod.all_groups))
                continue
            changes: list[WantedValue] = []
            with contextlib.suppress(OSError, ValueError, IndexError):
                changes += [] if self._is_idle(pod, held) else self._idle(pod)
                if quotas or Knob.CPU_QUOTA in held or Knob.CPU_BURST in held:
                    changes += self._quota(pod, quotas.get(pod.facts.uid))
                if marks or Knob.MEMORY_HIGH in held:
                    changes += self._mark(pod, marks.get(pod.facts.uid))
            if changes:
                pod.note(self._ledger.apply(changes, now_s=self._clock()))

    def _is_idle(self, pod: _Pod, held: Mapping[Knob, Entry]) -> bool:
        """Whether the kernel still has what was set."""
        if Knob.CPU_IDLE in held:
            return held[Knob.CPU_IDLE].wrote == 1 and pod.accounts.read(Knob.CPU_IDLE) == 1
        return Knob.CPU_WEIGHT in held and pod.accounts.read(Knob.CPU_WEIGHT) == LOWEST_WEIGHT[self._hierarchy.version]

    def _idle(self, pod: _Pod) -> list[WantedValue]:
        """Idle, or where the kernel has no such class the least weight."""
        group = pod.groups.pod
        if not group.has(Knob.CPU_IDLE):
            return [WantedValue(group, Knob.CPU_WEIGHT, LOWEST_WEIGHT[self._hierarchy.version])]
        if group.read(Knob.CPU_IDLE) == 0:
            self._ledger.keep(group, Knob.CPU_WEIGHT)  # lost with the first write
        return [WantedValue(group, Knob.CPU_IDLE, 1)]

    def _quota(self, pod: _Pod, quota_millicores: int | None) -> list[WantedValue]:
        """The pod's quota, and in version 1, where no child may have more, its containers'."""
        groups = pod.all_groups if self._hierarchy.version == 1 else [pod.groups.pod]
        if quota_millicores is None:
            pod.note(self._ledger.release(groups, [Knob.CPU_QUOTA, Knob.CPU_BURST]))
            return []
        moves = []
        for group in groups:
            found, wanted = self._ledger.found(group, Knob.CPU_QUOTA), cpu_quota(quota_millicores, group.period_us())
            lowest = wanted if found is None else found if wanted is None else min(found, wanted)
            moves.append(Move(group, group.read(Knob.CPU_QUOTA), lowest))
        return [part for change in in_order(Knob.CPU_QUOTA, moves[0], moves[1:]) for part in self._with_burst(change)]

    def _mark(self, pod: _Pod, mark_bytes: int | None) -> list[WantedValue]:
        group = pod.groups.pod
        if mark_bytes is None or not group.has(Knob.MEMORY_HIGH):
            pod.note(self._ledger.release([group], [Knob.MEMORY_HIGH]))
            return []
        return [WantedValue(group, Knob.MEMORY_HIGH, whole_pages(mark_bytes))]

    def _quotas(self, pods: list[_Pod]) -> dict[str, int]:
        """Millicores of each BE pod, by UID; none where there is no quota."""
        if self.restraint.cpu_share >= 1.0:
            return {}
        lc = sum(_millicores(pod.before, pod.now) for pod in self._pods.values() if pod.facts.is_lc)
        left = max(0, self._cpu_millicores - lc)
        return shares_of(int(left * self.restraint.cpu_share), {pod.facts.uid: _millicores(pod.before, pod.now) for pod in pods})

    def _marks(self, pods: list[_Pod]) -> dict[str, int]:
        if self.restraint.memory_bytes is None:
            return {}
        return shares_of(self.restraint.memory_bytes, {pod.facts.uid: pod.now.memory_bytes for pod in pods if pod.now})

    # What the kernel has accounted

    def _look(self, lc: list[_Pod], be: list[_Pod], now_s: float) -> None:
        """LC where the kernel tells of its pressure, all while quotas or marks are given out by what each uses."""
        is_given_out = self.restraint.cpu_share < 1.0 or self.restraint.memory_bytes is not None
        for pod in lc if is_given_out or self._hierarchy.version == 2 else ():
            pod.look(now_s, with_memory=False)
        for pod in be if is_given_out else ():
            pod.look(now_s)

    def _measured(self, lc: list[_Pod], be: list[_Pod], now_s: float) -> Signals:
        lc_memory = max((value for pod in lc if (value := _stalled(pod.before, pod.now)) is not None), default=None)
        # A first mark is below what is in use now, a first quota is shared by what each has used since it was last looked at.
        cpu = max((value for pod in lc if (value := _crowded(pod.before, pod.now)) is not None), default=None)
        pressed = self._lc_grown or (cpu or 0.0) > self._settings.cpu_pressure_high
        if pressed or max(lc_memory or 0.0, self._node_memory or 0.0) > self._settings.memory_pressure_high:
            for pod in [*lc, *be]:
                pod.look(now_s)
        return Signals(
            lc_grown=self._lc_grown,
            lc_grown_lately=now_s - self._lc_grown_at_s < self._settings.grown_s,
            lc_cpu_pressure=cpu,
            lc_memory_pressure=lc_memory,
            node_memory_pressure=self._node_memory,
            be_memory_bytes=sum(pod.now.memory_bytes for pod in be if pod.now),
            be_memory_floor_bytes=int(self._settings.memory_floor * sum(pod.facts.memory_request_bytes for pod in be)),
        )

    def _node_stalled(self, now_s: float) -> float | None:
        try:
            total = pressure_of(self._node_pressure.text())
        except (OSError, ValueError):
            return None
        before, self._node_before = self._node_before, (now_s, total)
        if before is None or now_s <= before[0]:
            return None
        return min(1.0, (total.full_us - before[1].full_us) / 1e6 / (now_s - before[0]))


def _is_below_use(move: Move) -> bool:
    """Whether a limit of memory would be lower than what is in use."""
    return move.wanted is not None and not move.grows and move.group.memory_bytes() > move.wanted


def _between(before: _Seen | None, now: _Seen | None) -> tuple[_Seen, _Seen, float] | None:
    """(a look, a later one, microseconds between them)."""
    if before is None or now is None or now.at_s <= before.at_s:
        return None
    return before, now, (now.at_s - before.at_s) * 1e6


def _millicores(before: _Seen | None, now: _Seen | None) -> int:
    """CPU that a pod used between two looks."""
    since = _between(before, now)
    return 0 if since is None else int((since[1].cpu.used_us - since[0].cpu.used_us) * 1000 / since[2])


def _throttled(before: _Seen | None, now: _Seen | None) -> float | None:
    """Share of the periods in which it ran out of its quota; None: there were none."""
    since = _between(before, now)
    if since is None or since[1].cpu.periods == since[0].cpu.periods:
        return None
    return (since[1].cpu.throttled - since[0].cpu.throttled) / (since[1].cpu.periods - since[0].cpu.periods)


def _crowded(before: _Seen | None, now: _Seen | None) -> float | None:
    """Share of time in which none of its tasks had a CPU that others had: what its own quota kept from it does not count."""
    since = _between(before, now)
    if since is None or since[0].cpu_pressure is None or since[1].cpu_pressure is None:
        return None
    full_us = since[1].cpu_pressure.full_us - since[0].cpu_pressure.full_us
    own_us = since[1].cpu.throttled_us - since[0].cpu.throttled_us
    return min(1.0, max(0.0, (full_us - own_us) / since[2]))


def _stalled(before: _Seen | None, now: _Seen | None) -> float | None:
    """Share of time in which some of its tasks waited for memory."""
    since = _between(before, now)
    if since is None or since[0].memory_pressure is None or since[1].memory_pressure is None:
        return None
    return min(1.0, (since[1].memory_pressure.some_us - since[0].memory_pressure.some_us) / since[2])


def _pod_report(pod: _Pod, before: _Seen | None, now: _Seen | None) -> PodReport:
    held = [setting for setting in pod.settings.values() if setting.refused or setting.wanted != setting.effective]
    return PodReport(
        is_lc=pod.facts.is_lc,
        cpu_used_millicores=_millicores(before, now),
        memory_bytes=now.memory_bytes if now else 0,
        cpu_pressure=_crowded(before, now),
        memory_pressure=_stalled(before, now),
        throttled=_throttled(before, now),
        differs=tuple(held),
        held_back=pod.facts.held_back,
    )
