"""Prune: delete ended runs that a rule no longer keeps, at a command or again and again (`RetentionSettings`).

Each run is deleted in chunks, and its table last, for which nobody waits long: so a call may be interrupted anywhere, and the next one
deletes the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from tango.domain.retention import BY_RULE, Doomed, RetentionRule, doomed
from tango.errors import StoreBusy
from tango.ports.clock import Clock
from tango.ports.leases import LeaseStore
from tango.ports.runs import RunStore
from tango.settings import RetentionSettings

log = structlog.get_logger(__name__)

LEASE = "prune-runs"
DROP_WITHIN_S = 5.0
"""Seconds that the periodic pruning waits for readers of a run's table before it leaves the run to its next time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning did."""

    kept: int
    """Runs that are left, those that go on among them."""
    deleted: int
    size_bytes: int
    """Of the runs that were deleted."""


def to_prune(runs: RunStore, rule: RetentionRule, *, now_s: float) -> list[Doomed]:
    """The runs that `prune_runs` would delete now, oldest first."""
    return doomed(runs.stored(), rule, now_s=now_s)


def prune_runs(runs: RunStore, rule: RetentionRule, *, now_s: float, told: Callable[[Doomed], None] = lambda _: None) -> Pruned:
    """Delete what a rule does not keep, and what was observed of the live fleet before all runs that are left; `told` of each run."""
    stored = runs.stored()
    going = doomed(stored, rule, now_s=now_s)
    for one in going:
        runs.delete(one.run.run_id, why=f"{one.why}, tango run prune")
        told(one)
    if (before_s := observed_until_s(going, rule, now_s=now_s)) is not None:
        while runs.delete_observations(before_s=before_s):
            pass
    return Pruned(kept=len(stored) - len(going), deleted=len(going), size_bytes=sum(one.run.size_bytes for one in going))


def observed_until_s(going: Sequence[Doomed], rule: RetentionRule, *, now_s: float) -> float | None:
    """Unix time up to which observations of the live fleet go too, where no run is left that they belong to; None: all stay."""
    if rule.older_than_s is not None:
        return now_s - rule.older_than_s
    return max((one.run.ended_at_s for one in going if one.run.ended_at_s is not None), default=None)


def rule_of(settings: RetentionSettings) -> RetentionRule | None:
    """The rule of the periodic pruning; None: it is off."""
    if not settings.is_on:
        return None
    return RetentionRule(
        keep=settings.keep,
        older_than_s=settings.older_than_s or None,
        most_bytes=settings.most_gb * 10**9 if settings.most_gb else None,
    )


class Retention:
    """The periodic pruning. One object per process; any number of processes may call it, one deletes at a time."""

    def __init__(self, *, runs: RunStore, leases: LeaseStore, clock: Clock, settings: RetentionSettings) -> None:
        self._runs, self._leases, self._clock, self._settings = runs, leases, clock, settings
        self._beyond: dict[int, int] = {}
        """Last request whose attempts were deleted, by run. Only a hint, to skip rows: after a restart they are looked for again."""

    def prune(self, *, owner: str) -> dict[str, int]:
        """Delete for one slice of time (`RetentionSettings.slice_s`); gives the runs deleted and left to delete, and observations deleted.

        Safe to repeat and to interrupt anywhere.
        """
        report = {"deleted": 0, "left": 0, "observations": 0}
        rule = rule_of(self._settings)
        if rule is None:
            return report
        fence = self._leases.acquire(LEASE, owner=owner, ttl_s=self._settings.lease_s)
        if fence is None:
            return report
        now_s = self._clock.now_s()
        until_s = now_s + self._settings.slice_s
        going = to_prune(self._runs, rule, now_s=now_s)
        report["left"] = len(going)
        for one in going:
            if not self._delete(one, until_s):
                continue
            report["deleted"] += 1
            report["left"] -= 1
        before_s = observed_until_s(going, rule, now_s=now_s)
        while before_s is not None and self._clock.now_s() < until_s:
            found = self._runs.delete_observations(before_s=before_s)
            report["observations"] += found
            if not found:
                break
        self._leases.release(fence)
        if any(report.values()):
            log.info("runs_pruned", **report)
        return report

    def _delete(self, one: Doomed, until_s: float) -> bool:
        """Whether the run is gone; what there was no time for, or what somebody reads, is left to the next call."""
        run = one.run
        while self._clock.now_s() < until_s:
            last = self._runs.delete_attempts(run.run_id, beyond=self._beyond.get(run.run_id, -1))
            if last is not None:
                self._beyond[run.run_id] = last
                continue
            try:
                self._runs.delete(run.run_id, why=f"{one.why}, {BY_RULE}", within_s=DROP_WITHIN_S)
            except StoreBusy as error:
                log.warning("run_not_pruned", run_id=run.run_id, reason=str(error))
                return False
            self._beyond.pop(run.run_id, None)
            log.info("run_pruned", run_id=run.run_id, name=run.name, accepted=run.accepted, bytes=run.size_bytes, why=one.why)
            return True
        return False
