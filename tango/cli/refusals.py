"""What clusters refuse, as commands show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any

from tango.cli.output import ListColumn
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
    """One refusal as the text of a table cell: kind, what it is about, when it is tried again, and the server's words."""
    return "; ".join(f"{row['kind']}{_about(row)} ({row['met_by']}, {_when(row['again_in_s'])}): {row['words']}" for row in rows)


MOST_WORDS = 60
"""Characters of a server's words in a cell of a table."""


def told_shortly(rows: Sequence[Mapping[str, Any]]) -> str:
    """The first of them with the beginning of the server's words, and how many more there are."""
    first = [{**row, "words": shorten(row["words"], MOST_WORDS, placeholder=" …")} for row in rows[:1]]
    return told(first) + (f"; and {len(rows) - 1} more" if len(rows) > 1 else "")


def columns_for(columns: Sequence[ListColumn], output: str) -> list[ListColumn]:
    """The columns with refusals in short, since one cell makes its column as wide for all rows; `-o wide` tells them whole."""
    return [replace(c, show=told_shortly) if c.show is told and output == "table" else c for c in columns]


def _about(row: Mapping[str, Any]) -> str:
    return "".join(f" {preposition} {row[key]}" for preposition, key in (("of", "service"), ("on", "node")) if row[key])


def _when(again_in_s: int) -> str:
    return f"again in {again_in_s} s" if again_in_s else "being tried"
