"""What clusters refuse, as commands show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tango.domain.refusals import RefusalState


def rows_of(states: Iterable[RefusalState]) -> list[dict[str, Any]]:
    """A mapping for each, with everything that is known; `again_in_s` is 0 where one pod at a time is tried already."""
    return [
        {
            "cluster": state.cluster,
            "service": state.service,
            "node": state.node,
            "met_by": state.role,
            "kind": str(state.kind),
            "times": state.times,
            "again_in_s": max(0, round(state.left_s)),
            "words": state.words,
        }
        for state in states
    ]


def told(rows: Sequence[Mapping[str, Any]]) -> str:
    """In one cell: kind, what it is about, when it is tried again, and the server's words."""
    return "; ".join(f"{row['kind']}{_about(row)} ({row['met_by']}, {_when(row['again_in_s'])}): {row['words']}" for row in rows)


def _about(row: Mapping[str, Any]) -> str:
    return "".join(f" {preposition} {row[key]}" for preposition, key in (("of", "service"), ("on", "node")) if row[key])


def _when(again_in_s: int) -> str:
    return f"again in {again_in_s} s" if again_in_s else "being tried"
