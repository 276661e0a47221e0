"""What the file of a trace format exports, and what a format can tell a file by."""

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
    """How sure a format is that a file is its own; the surest format reads it, of equal ones the first on the list."""

    NONE = 0
    LIKELY = 1
    """By its shape: the number of columns of a file without a header."""
    SURE = 2
    """By names that stand in it."""


@dataclass(frozen=True)
class Head:
    """The beginning of a file as recognisers look at it, and of Parquet the footer, which holds the names of columns."""

    content: Content

    @property
    def form(self) -> Form:
        """How the rows are written."""
        return self.content.form

    @cached_property
    def first_line(self) -> str:
        """Without its line end."""
        return self._lines[0].decode("utf-8", "replace").strip()

    @cached_property
    def names(self) -> frozenset[str]:
        """Values of the first line, which are the columns' names where it is a header; none of JSON lines and Parquet."""
        if self.form is not Form.CSV:
            return frozenset()
        return frozenset(name.strip().strip('"') for name in self.first_line.split(","))

    @cached_property
    def width(self) -> int:
        """Columns of most of the first lines; 0 of JSON lines and Parquet."""
        if self.form is not Form.CSV:
            return 0
        widths = Counter(line.count(b",") + 1 for line in self._lines if line.strip())
        return widths.most_common(1)[0][0]

    def footer_has(self, name: bytes) -> bool:
        """Whether a Parquet file's footer holds this name."""
        return self.form is Form.PARQUET and name in self.content.data[-_FOOTER_BYTES:]

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.content.data[:_HEAD_BYTES].split(b"\n")[:_HEAD_LINES]


def no_notes(_parts: list[Columns]) -> tuple[str, ...]:
    """For formats whose figures need no warning."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceFormat:
    """One format of trace files."""

    name: str
    """As `--format` takes it."""
    recognised: Callable[[Head], Sign]
    schema_of: Callable[[Content, Fleet | None], Schema]
    """The columns of this file; a fleet lets a format refuse names that the fleet does not know."""
    content_of: Callable[[list[Columns], str], Trace | RateCurve]
    """The requests of all parts together, under the source's name; or their counts where the format has no more."""
    forms: frozenset[Form] = frozenset({Form.CSV})
    """How its rows may be written."""
    notes_of: Callable[[list[Columns]], tuple[str, ...]] = no_notes
    """What a reader of the figures should know."""
