"""Refused rows with their reasons: raised together, or written to a file while the valid rows are used."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from tango.errors import BadRow, BadRows
from tango.files import write_whole

_SHOWN = 1000
"""Refusals that an error carries; the count is exact beyond it."""

REMEDY = "--skip-bad FILE takes the good rows and writes the bad ones to FILE"


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A refusal, and the text of the row in the file."""

    reason: BadRow
    text: str


@dataclass(slots=True)
class Refusals:
    """Collects the refusals of one reading, over all its files."""

    rows: list[RefusedRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def add(self, reason: BadRow, text: str) -> None:
        """Add a refused row."""
        self.rows.append(RefusedRow(reason, text))

    def sort_from(self, start: int) -> None:
        """Sort the refusals from index `start` on, which are those of one file, by line."""
        self.rows[start:] = sorted(self.rows[start:], key=lambda row: row.reason.line)

    def raise_if_any(self, *, remedy: str = REMEDY) -> None:
        """Raises: BadRows with the first refusals and their number."""
        if self.rows:
            raise BadRows([row.reason for row in self.rows[:_SHOWN]], total=len(self.rows), remedy=remedy)

    def write(self, path: str | Path) -> None:
        """Write the refusals as CSV with the columns `file,line,column,found,expected,row`; without any, only the header.

        Raises: FileUnusable.
        """
        buffer = io.StringIO()
        out = csv.writer(buffer, lineterminator="\n")
        out.writerow(("file", "line", "column", "found", "expected", "row"))
        for row in self.rows:
            r = row.reason
            out.writerow((r.file, r.line, r.column, r.found, r.expected, row.text))
        write_whole(Path(path), buffer.getvalue())
