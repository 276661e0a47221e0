"""The interface of a trace format (`TraceFormat`), and the beginning of a file by which formats recognise it (`Head`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from tango.domain.fleet import Fleet
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.files import Content, Form
from tango.traces.rate_curve import RateCurve
from tango.traces.schema import Schema

_HEAD_BYTES = 256 << 10
_HEAD_LINES = 100
_FOOTER_BYTES = 64 << 10


class Sign(IntEnum):
    """How sure a format is that it can read a file. The surest format reads it; of equal ones, the first in `formats.FORMATS`."""

    NONE = 0
    LIKELY = 1
    """By its shape, such as the number of columns of a file without a header."""
    SURE = 2
    """By the names of its columns."""


@dataclass(frozen=True)
class Head:
    """The beginning of a file, for recognisers; for Parquet also the footer, which holds the names of columns."""

    content: Content

    @property
    def form(self) -> Form:
        """How the rows are written."""
        return self.content.form

    @cached_property
    def first_line(self) -> str:
        """The first line without its line end; bytes that are no UTF-8 are replaced."""
        return self._lines[0].decode("utf-8", "replace").strip()

    @cached_property
    def names(self) -> frozenset[str]:
        """Values of the first line of CSV, which are column names if it is a header; empty for JSON lines and Parquet."""
        if self.form is not Form.CSV:
            return frozenset()
        return frozenset(name.strip().strip('"') for name in self.first_line.split(","))

    @cached_property
    def width(self) -> int:
        """The most frequent number of columns among the first lines of CSV; 0 for JSON lines and Parquet."""
        if self.form is not Form.CSV:
            return 0
        widths = Counter(line.count(b",") + 1 for line in self._lines if line.strip())
        return widths.most_common(1)[0][0]

    def footer_has(self, name: bytes) -> bool:
        """Whether the end of a Parquet file, where its schema is, contains this name. False for other files."""
        return self.form is Form.PARQUET and name in self.content.data[-_FOOTER_BYTES:]

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.content.data[:_HEAD_BYTES].split(b"\n")[:_HEAD_LINES]


def no_notes(_parts: list[Columns]) -> tuple[str, ...]:
    """No warnings: the default of `TraceFormat.notes_of`."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """One format of trace files."""

    name: str
    """The name that `--format` takes."""
    recognised: Callable[[Head], Sign]
    """How sure the format is that it can read a file with this beginning."""
    schema_of: Callable[[Content, Fleet | None], Schema]
    """The columns of this file. With a fleet, a format may refuse names that the fleet does not have."""
    content_of: Callable[[list[Columns], str], Trace | RateCurve]
    """(parts, name of the source) → the requests of all parts together; or counts of requests, where the format has only these."""
    forms: frozenset[Form] = frozenset({Form.CSV})
    """How its rows may be written."""
    notes_of: Callable[[list[Columns]], tuple[str, ...]] = no_notes
    """Warnings about the trace, for whoever reads figures made from it."""
