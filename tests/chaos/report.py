"""What many seeds have shown together."""

from __future__ import annotations

import resource
from collections import Counter
from dataclasses import dataclass, field

from tests.chaos.faults import KINDS
from tests.chaos.seeds import Result
from tests.chaos.world import LASTS_S


@dataclass(slots=True)
class Report:
    """Sums over seeds."""

    seeds: int = 0
    failed: list[Result] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    met: Counter[str] = field(default_factory=Counter)
    transitions: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    callers: Counter[str] = field(default_factory=Counter)
    defects: Counter[str] = field(default_factory=Counter)
    overlapping: int = 0
    events: int = 0
    steps: int = 0

    def add(self, result: Result, *, verbose: bool = False) -> None:
        """One more."""
        self.seeds += 1
        self.kinds += result.kinds
        self.met.update(result.met)
        self.transitions += result.transitions
        self.restarts += result.restarts
        self.ended += result.ended
        self.callers += result.callers
        self.defects.update({text.partition(" in ")[0][:160] for text in result.defects})
        self.overlapping += bool(result.overlaps)
        self.events, self.steps = self.events + result.events, self.steps + result.steps
        if result.failure:
            self.failed.append(result)
            print(f"seed {result.seed} FAILED: {result.failure}")
            for words in result.faults:
                print(f"    {words}")
            if verbose:
                print(result.trace)

    def print(self, *, wall_s: float) -> None:
        """For people."""
        hours, cpu = self.seeds * LASTS_S / 3600.0, resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = cpu.ru_utime + cpu.ru_stime
        print(
            f"\n{self.seeds} seeds, {len(self.failed)} failed; {hours:.1f} simulated hours in {wall_s:.0f} s of wall time", end=""
        )
        print(f" ({hours * 3600 / max(wall_s, 1e-9):.0f} times as fast; CPU of this process {cpu_s:.0f} s)")
        print(f"{self.events} events, {self.steps} steps of ports; two pods of one request at once in {self.overlapping} seeds")
        for title, counts in (
            ("faults", self.kinds + Counter(dict.fromkeys(KINDS, 0))),
            ("troubles that calls have met, in seeds", self.met),
            ("restarts", self.restarts),
            ("transitions", self.transitions),
            ("requests ended", self.ended),
            ("callers by what they were told", self.callers),
            ("defects that production code has logged", self.defects),
        ):
            print(f"{title}:")
            for name, count in sorted(counts.items()):
                print(f"    {count:8d}  {name}")
        never = sorted(set(KINDS) - set(self.kinds))
        if never:
            print(f"kinds of faults that did not strike: {', '.join(never)}")
