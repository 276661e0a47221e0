"""What the agent has set, and what it found there before: written to a file first, so that nothing is lost with the process.

A kubelet, a container runtime and systemd write the same files. The ledger's rules keep them from fighting:

- what is there and was not written by the agent is somebody else's will: it becomes what is restored in the end, and counts as rewritten;
- what is rewritten over and over is left alone for a while, and told;
- what follows the API object (the limits of a resize under way) is what the kubelet itself will write: it is not taken back in the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType

from tango.boot import boot_id as this_boot
from tango.cgroups.groups import Group, Hierarchy, KnobRefused
from tango.cgroups.knobs import Knob
from tango.files import write_whole
from tango.node_agent.wanted import WantedValue

FORMAT = "tango-node-agent/1"
REWRITES, REWRITES_WITHIN_S = 5, 60.0
"""So many times in so many seconds somebody else may write a knob before the agent leaves it alone for as long. A kubelet that catches up
with a row of resizes writes two or three times; what goes on is another controller."""
LIMITS = (Knob.CPU_QUOTA, Knob.MEMORY_MAX, Knob.MEMORY_HIGH)
"""Knobs of which the lowest on the way up counts."""


@dataclass(slots=True)
class Entry:
    """What stands in the ledger of one knob of one group."""

    found: int | None
    """What was there before the agent, or what somebody else has written since."""
    wrote: int | None
    """What the agent has written, or was about to."""
    follows_object: bool
    """Whether it is what the API object says."""
    is_kept: bool = False
    """Only kept to be put back: the kernel forgets it for another knob's sake, and the agent has not written it."""
    rewritten_s: list[float] = field(default_factory=list)
    """When others have written it, on the agent's clock, newest last."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What was wanted of a knob, and what holds."""

    path: str
    knob: Knob
    wanted: int | None
    effective: int | None
    """The lowest of the group's own and of those above it."""
    refused: str = ""
    """Why it was not written: the kernel's words, or that others write it too; empty: it was."""


_NOTHING: Mapping[Knob, Entry] = MappingProxyType({})


class Ledger:
    """Of one node. `path`: the file it is kept in. Not for several threads.

    Raises: FileUnusable, as it is made and from whatever writes, if the file cannot be written: then nothing of the kernel's has been
    changed either.
    """

    def __init__(self, hierarchy: Hierarchy, path: Path, *, boot_id: str | None = None) -> None:
        self._hierarchy = hierarchy
        self._path = path
        self._boot_id = this_boot() if boot_id is None else boot_id
        self._entries: dict[str, dict[Knob, Entry]] = {}
        """By group and knob."""
        self.taken_over = self._load()
        """Knobs that an agent before this one had set, in this boot."""
        self._keep()

    def found(self, group: Group, knob: Knob) -> int | None:
        """What was there before the agent. Raises: OSError if the group is gone."""
        entry = self.held(group).get(knob)
        return group.read(knob) if entry is None else entry.found

    def apply(self, changes: Iterable[WantedValue], *, now_s: float, follows_object: bool = False) -> list[Setting]:
        """Set values in this order, each read back. Groups that have gone are left out. After a refusal the rest is tried all the same.

        Values that are set already by somebody else are no changes, and nothing is noted of them.
        """
        wanted = [(change, told) for change in changes if (told := self._note(change, now_s, follows_object)) is not None]
        if wanted:
            self._keep()
        settings = [_read_back(change, told) if told else _set(change) for change, told in wanted]
        return [setting for setting in settings if setting is not None]

    def keep(self, group: Group, knob: Knob) -> None:
        """Note what is there now, to be put back by `release`, where setting another knob makes the kernel forget it."""
        value = group.read(knob)
        self._entries.setdefault(group.path, {})[knob] = Entry(value, value, follows_object=False, is_kept=True)

    def release(self, groups: Iterable[Group], knobs: Iterable[Knob] = tuple(Knob)) -> list[Setting]:
        """Put back what was found, in an order that the kernel takes; what others have written since stays theirs."""
        keys = [(group.path, knob) for group in groups if group.path in self._entries for knob in knobs if knob in self.held(group)]
        changes = [change for path, knob in keys if (change := self._back(path, knob)) is not None]
        for path, knob in keys:
            self._drop(path, knob)
        settings = [setting for change, _ in sorted(changes, key=_release_order) if (setting := _set(change)) is not None]
        if keys:
            self._keep()
        return settings

    def follow(self, group: Group, knobs: Iterable[Knob]) -> None:
        """Forget these without a change: the kubelet has written the same by now."""
        dropped = [knob for knob in knobs if knob in self.held(group)]
        for knob in dropped:
            self._drop(group.path, knob)
        if dropped:
            self._keep()

    def release_others(self, mine: Iterable[Group]) -> list[Setting]:
        """Put back what was found of all groups but these."""
        kept = {group.path for group in mine}
        return self.release([self._hierarchy.group(path) for path in self._entries if path not in kept])

    def sweep(self) -> None:
        """Forget groups that are gone."""
        gone = [path for path in self._entries if not self._hierarchy.group(path).exists()]
        for path in gone:
            del self._entries[path]
        if gone:
            self._keep()

    def restore(self) -> list[Setting]:
        """Put everything back but what follows an API object, and forget all."""
        for path, knob in [
            (path, knob) for path, held in self._entries.items() for knob, entry in held.items() if entry.follows_object
        ]:
            self._drop(path, knob)
        settings = self.release([self._hierarchy.group(path) for path in self._entries])
        self._keep()
        return settings

    def held(self, group: Group) -> Mapping[Knob, Entry]:
        """What the agent has set of a group."""
        return self._entries.get(group.path, _NOTHING)

    def _note(self, change: WantedValue, now_s: float, follows_object: bool) -> str | None:
        """Note a change. None: nothing is to be done; empty: it is to be written; else why it is not."""
        try:
            current = change.group.read(change.knob)
        except OSError:
            return None  # the group is gone, or its kernel has no such knob
        entry = self.held(change.group).get(change.knob)
        if entry is None:
            if current == change.value:
                return None
            entry = Entry(current, change.value, follows_object)
            self._entries.setdefault(change.group.path, {})[change.knob] = entry
        elif current not in (entry.wrote, change.value):
            entry.found = current
            entry.rewritten_s.append(now_s)
        entry.rewritten_s = [at_s for at_s in entry.rewritten_s if now_s - at_s < REWRITES_WITHIN_S]
        entry.follows_object, entry.is_kept = follows_object, False
        if len(entry.rewritten_s) >= REWRITES:
            entry.wrote = current
            return f"others have written it {len(entry.rewritten_s)} times in {REWRITES_WITHIN_S:g} s; left alone"
        entry.wrote = change.value
        return None if current == change.value else ""

    def _drop(self, path: str, knob: Knob) -> None:
        del self._entries[path][knob]
        if not self._entries[path]:
            del self._entries[path]

    def _back(self, path: str, knob: Knob) -> tuple[WantedValue, bool] | None:
        """(the change that puts back what was found, whether there is more afterwards); None: nothing is to be done."""
        entry, group = self._entries[path][knob], self._hierarchy.group(path)
        try:
            current = group.read(knob)
        except OSError:
            return None
        if current == entry.found or (current != entry.wrote and not entry.is_kept):
            return None
        grows = current is not None and (entry.found is None or entry.found > current)
        return WantedValue(group, knob, entry.found), grows

    def _load(self) -> int:
        try:
            stored = json.loads(self._path.read_text())
            if stored["format"] != FORMAT or stored["boot"] != self._boot_id or stored["version"] != self._hierarchy.version:
                return 0
            for path, knob, entry in stored["entries"]:
                self._entries.setdefault(path, {})[Knob(knob)] = Entry(**{**entry, "rewritten_s": []})
        except (OSError, ValueError, KeyError, TypeError):
            # None yet, or one that was not written by this program: what is set now is taken for what was found.
            self._entries = {}
        self.sweep()
        return sum(map(len, self._entries.values()))

    def _keep(self) -> None:
        entries = [[path, knob, asdict(entry)] for path, held in self._entries.items() for knob, entry in held.items()]
        stored = {"format": FORMAT, "boot": self._boot_id, "version": self._hierarchy.version, "entries": entries}
        write_whole(self._path, json.dumps(stored), mode=0o600)


def _set(change: WantedValue) -> Setting | None:
    """Write and read back; None if the group is gone."""
    try:
        change.group.write(change.knob, change.value)
    except KnobRefused as error:
        return None if error.is_gone else _read_back(change, str(error))
    return _read_back(change, "")


def _read_back(change: WantedValue, refused: str) -> Setting | None:
    group, knob = change.group, change.knob
    try:
        effective = group.effective(knob) if knob in LIMITS else group.read(knob)
    except OSError:
        return None
    return Setting(group.path, knob, change.value, effective, refused)


def _release_order(back: tuple[WantedValue, bool]) -> tuple[int, bool, int, bool]:
    """No longer idle before the weight, which is refused else; what shrinks from the containers up, with the burst before its quota, then
    what grows from the pod down, with the quota before its burst."""
    change, grows = back
    first = {Knob.CPU_IDLE: 0, Knob.CPU_WEIGHT: 1}.get(change.knob, 2)
    depth = change.group.path.count("/")
    return first, grows, depth if grows else -depth, change.knob is (Knob.CPU_BURST if grows else Knob.CPU_QUOTA)
