"""Prune: delete all but the newest runs that have ended, so that a database which nobody looks after does not grow without bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tango.domain.runs import ENDED, RunKind
from tango.ports.runs import RunStore

MOST_RUNS = 100_000
"""Runs of a kind that are looked at; older ones are left to the next call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a pruning did, over all kinds."""

    kept: int
    deleted: int


def prune_runs(runs: RunStore, *, keep: int, kinds: Iterable[RunKind] = tuple(RunKind)) -> Pruned:
    """Keep the `keep` newest ended runs of each kind and delete the older ones. Runs that have not ended are neither counted nor deleted.

    Each run is deleted in a transaction of its own: a call that is interrupted has deleted some, and the next one deletes the rest.
    """
    kept = deleted = 0
    for kind in kinds:
        ended = [run for run in runs.runs(limit=MOST_RUNS, kind=kind) if run.status in ENDED]
        for old in ended[keep:]:
            runs.delete(old.run_id)
        kept, deleted = kept + len(ended[:keep]), deleted + len(ended[keep:])
    return Pruned(kept=kept, deleted=deleted)
