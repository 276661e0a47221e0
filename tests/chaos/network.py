"""The network of a chaos world: sites, the ways between them, and what is wrong with these for a while."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.chaos.timeline import Timeline

CENTRE = "centre"
LOCAL_S, LINE_S = (0.0002, 0.002), (0.01, 0.03)
"""Seconds of a call within a site, and over a line: least and most while all is well."""


@dataclass(slots=True)
class Way:
    """What is wrong between two sites, each until a time."""

    cut_until_s: float = 0.0
    slow_until_s: float = 0.0
    slow_by_s: float = 0.0
    lossy_until_s: float = 0.0
    """Answers get lost: the effect has happened, and whoever asked does not know."""
    loses: float = 0.0
    """With which probability."""


@dataclass(slots=True)
class Network:
    """All ways, by pairs of sites in order of their names; a site has one to itself."""

    timeline: Timeline
    dice: random.Random
    ways: dict[tuple[str, str], Way] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    """Which kinds of trouble a call has met: a fault that nobody met proves nothing."""

    def way(self, a: str, b: str) -> Way:
        """The way between two sites."""
        key = (a, b) if a <= b else (b, a)
        found = self.ways.get(key)
        if found is None:
            found = self.ways[key] = Way()
        return found

    def latency_s(self, a: str, b: str) -> float:
        """Of one call now."""
        least_s, most_s = LOCAL_S if a == b else LINE_S
        drawn_s = least_s + (most_s - least_s) * self.dice.random()
        way = self.ways.get((a, b) if a <= b else (b, a))
        if way is not None and way.slow_until_s > self.timeline.now_s:
            self.seen.add("slow line")
            drawn_s += way.slow_by_s * self.dice.random()
        return drawn_s

    def open_in_s(self, a: str, b: str) -> float:
        """Seconds until the way is open; 0: it is."""
        way = self.ways.get((a, b) if a <= b else (b, a))
        if way is None or way.cut_until_s <= self.timeline.now_s:
            return 0.0
        self.seen.add("cut line")
        return way.cut_until_s - self.timeline.now_s

    def loses_answer(self, a: str, b: str) -> bool:
        """Whether the answer of a call that has had its effect is lost."""
        way = self.ways.get((a, b) if a <= b else (b, a))
        lost = way is not None and way.lossy_until_s > self.timeline.now_s and self.dice.random() < way.loses
        if lost:
            self.seen.add("lost answer")
        return lost

    def heal(self) -> None:
        """All is well from now on."""
        self.ways.clear()
