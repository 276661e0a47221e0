"""Which ended runs are deleted: a rule by number, age and size, and what it says of the runs that there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tango.domain.runs import ENDED, RunKind, RunStatus

BY_RULE = "by retention"
"""How what is remembered of a run ends where the periodic pruning has deleted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run with what it takes up."""

    run_id: int
    kind: RunKind
    name: str
    status: RunStatus
    accepted: int
    ended_at_s: float | None
    """Unix time; None: it goes on."""
    size_bytes: int
    """Bytes of its requests with their indexes, and about as many as its attempts take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRule:
    """What is kept. Runs that have not ended are never deleted."""

    keep: int
    """Newest ended runs of each kind that are kept however old or large they are."""
    older_than_s: float | None = None
    """Seconds since its end from which a run is deleted; None: at any age."""
    most_bytes: int | None = None
    """Bytes that all runs together may take; beyond them the oldest go. None: no bound."""
    kinds: tuple[RunKind, ...] = tuple(RunKind)
    """Kinds that are looked at; runs of others stay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A run that a rule deletes."""

    run: StoredRun
    why: str
    """As it is remembered, e.g. `ended more than 30 d ago`."""


def doomed(runs: Iterable[StoredRun], rule: RetentionRule, *, now_s: float) -> list[Doomed]:
    """The runs that a rule deletes, oldest first; `now_s` is Unix time.

    A rule without age and size deletes all but the newest. With both, a run goes that is beyond either.
    """
    newest = sorted(runs, key=lambda run: run.run_id, reverse=True)
    of_all = sum(run.size_bytes for run in newest)
    found: list[Doomed] = []
    for run in reversed(_beyond_the_newest(newest, rule)):
        why = _why(run, rule, now_s=now_s, of_all=of_all)
        if why:
            found.append(Doomed(run=run, why=why))
            of_all -= run.size_bytes
    return found


def _beyond_the_newest(newest_first: Sequence[StoredRun], rule: RetentionRule) -> list[StoredRun]:
    seen: Counter[RunKind] = Counter()
    beyond = []
    for run in newest_first:
        if run.status in ENDED and run.kind in rule.kinds:
            seen[run.kind] += 1
            if seen[run.kind] > rule.keep:
                beyond.append(run)
    return beyond


def _why(run: StoredRun, rule: RetentionRule, *, now_s: float, of_all: int) -> str:
    """Why a run goes; empty: it stays."""
    if rule.older_than_s is None and rule.most_bytes is None:
        return f"not among the {rule.keep} newest"
    # A run without an end was stored by an older Tango or cancelled before it began: nothing says that it is young.
    if rule.older_than_s is not None and now_s - (run.ended_at_s or 0.0) > rule.older_than_s:
        return f"ended more than {span(rule.older_than_s)} ago"
    if rule.most_bytes is not None and of_all > rule.most_bytes:
        return f"beyond {size(rule.most_bytes)} of runs"
    return ""


def span(seconds: float) -> str:
    """Seconds in the largest unit that leaves a whole number: `30 d`, `36 h`, `90 s`."""
    for unit_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return f"{seconds / unit_s:g} {unit}"
    return f"{seconds:g} s"


def size(count: float) -> str:
    """Bytes as a person says them, in powers of ten: `812 kB`, `20 GB`."""
    for unit_bytes, unit in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit_bytes:
            return f"{count / unit_bytes:.3g} {unit}"
    return f"{count:.0f} B"
