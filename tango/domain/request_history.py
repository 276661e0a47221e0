"""The way of a request in time: when it was due, released, served, and what came of each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tango.domain.explanation import RequestStanding
from tango.domain.lifecycle import TERMINAL
from tango.domain.plans import Spared
from tango.domain.requests import RequestState


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedAttempt:
    """One attempt that has ended. Times are wall seconds since the run's zero."""

    epoch: int
    cluster: str
    node: str
    pod: str
    dispatched_s: float | None
    """When it was dispatched or placed; None: that was not told."""
    decision_id: int | None
    """By which decision."""
    started_s: float | None
    """None: it never ran, or that was not told."""
    finished_s: float | None
    ended_s: float | None
    """When its end was recorded."""
    outcome: str
    reason: str
    work_lost_s: float
    why: str = ""
    """Of an eviction, for whom it made room, in the words of its event."""
    spared: tuple[Spared, ...] = ()
    """Of an eviction, the BE pods beside it that stayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened to a request."""

    at_s: float
    """Wall seconds since the run's zero."""
    what: str
    words: str = ""
    beside: tuple[str, ...] = ()
    """What else there was, a sentence each: of an eviction who was spared, and why."""


def history(standing: RequestStanding, attempts: Sequence[EndedAttempt]) -> tuple[Moment, ...]:
    """What has happened to a request, in time; of moments at one instant, in the order of its life."""
    found = [Moment(at_s=standing.due_s, what="due", words=f"at cluster {standing.entry_cluster}")]
    released = RequestState.RELEASED
    if standing.released_s is not None:
        found.append(Moment(at_s=standing.released_s, what=str(released)))
    for attempt in attempts:
        where = f"{attempt.cluster}/{attempt.node}" if attempt.node else attempt.cluster or "nowhere"
        if attempt.dispatched_s is not None:
            found.append(_given(attempt.dispatched_s, attempt.epoch, where, attempt.decision_id))
        if attempt.started_s is not None:
            found.append(Moment(at_s=attempt.started_s, what="started", words=f"attempt {attempt.epoch} on {where}"))
        end_s = attempt.finished_s if attempt.finished_s is not None else attempt.ended_s
        if end_s is not None:
            beside = tuple(_kept(pod) for pod in attempt.spared)
            found.append(Moment(at_s=end_s, what=attempt.outcome, words=_how(attempt, where), beside=beside))
    is_told = any(attempt.epoch == standing.epoch for attempt in attempts)
    if standing.dispatched_s is not None and not is_told:
        found.append(_given(standing.dispatched_s, standing.epoch, str(standing.node_key), standing.decision_id))
    if standing.started_s is not None and not is_told:
        found.append(Moment(at_s=standing.started_s, what="started", words=f"attempt {standing.epoch} on {standing.node_key}"))
    if standing.state in TERMINAL and not is_told and standing.finished_s is not None:
        found.append(Moment(at_s=standing.finished_s, what=str(standing.state), words=standing.reason))
    return tuple(sorted(found, key=lambda moment: moment.at_s))


def _given(at_s: float, epoch: int, where: str, decision_id: int | None) -> Moment:
    by = f", by decision {decision_id}" if decision_id is not None else ""
    return Moment(at_s=at_s, what="dispatched", words=f"attempt {epoch} to {where}{by}")


def _kept(pod: Spared) -> str:
    would_lose = f", would lose {pod.work_lost_s:.1f} CPU-seconds" if pod.work_lost_s > 0 else ""
    return f"{pod.pod} of {pod.service} stayed: {pod.why}{would_lose}"


def _how(attempt: EndedAttempt, where: str) -> str:
    parts = [f"attempt {attempt.epoch} on {where}", attempt.why or attempt.reason]
    if attempt.work_lost_s > 0:
        parts.append(f"{attempt.work_lost_s:.1f} CPU-seconds lost")
    return ", ".join(filter(None, parts))
