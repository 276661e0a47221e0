"""The interface of a trace format (`TraceFormat`), and the beginning of a file by which formats recognise it (`Head`)."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import orjson

from tango.domain.fleet import Fleet
from tango.domain.trace import Trace
from tango.traces.columns import Columns
from tango.traces.files import Content, Form
from tango.traces.rate_curve import RateCurve
from tango.traces.refusals import Refusals
from tango.traces.schema import Schema
from tango.traces.structured_columns import names_of

_HEAD_BYTES = 256 << 10
_HEAD_LINES = 100
"""How far formats look into a file: its first lines, which end by bytes where one line is a whole file."""


class Sign(IntEnum):
    """How sure a format is that it can read a file. The surest format reads it; of equal ones, the first in `formats.FORMATS`."""

    NONE = 0
    LIKELY = 1
    """By its shape, such as the number of columns of a file without a header."""
    SURE = 2
    """By the names of its columns."""


@dataclass(frozen=True)
class Head:
    """The beginning of a file, for recognisers; of Parquet also the names in its footer."""

    content: Content

    @property
    def form(self) -> Form:
        """How the rows are written."""
        return self.content.form

    @cached_property
    def first_line(self) -> str:
        """The first line without its line end; bytes that are no UTF-8 are replaced."""
        return self._lines[0].decode("utf-8", "replace").strip()

    def first_value(self, column: int) -> str:
        """A value of the first line, by its column from 0; empty where there is none."""
        values = self.first_line.split(",")
        return values[column].strip() if column < len(values) else ""

    @cached_property
    def second_line(self) -> str:
        """The second line likewise; empty where there is none."""
        return self._lines[1].decode("utf-8", "replace").strip() if len(self._lines) > 1 else ""

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of columns: values of the first line of CSV (which are names if it is a header), keys of the first object of JSON lines,
        top columns of Parquet."""
        if self.form is Form.PARQUET:
            return names_of(self.content.data)
        if self.form is Form.JSON_LINES:
            try:
                first = orjson.loads(self._lines[0])
            except orjson.JSONDecodeError:
                return frozenset()
            return frozenset(first) if isinstance(first, dict) else frozenset()
        return frozenset(name.strip().strip('"') for name in self.first_line.split(","))

    @cached_property
    def width(self) -> int:
        """The most frequent number of columns among the first lines of CSV; 0 for JSON lines and Parquet."""
        if self.form is not Form.CSV:
            return 0
        return Counter(line.count(b",") + 1 for line in self._rows).most_common(1)[0][0]

    def is_table_of(self, columns: int) -> bool:
        """Whether the first lines have no header and so many columns, not counting an empty one that a comma at their ends makes."""
        trails = self.width == columns + 1 and 2 * sum(line.endswith(b",") for line in self._rows) > len(self._rows)
        return (self.width == columns or trails) and not self._has_header

    @property
    def _has_header(self) -> bool:
        """Whether the first line has different words alone; a row of a trace has a number or nothing somewhere."""
        names = [name.strip().strip('"') for name in self.first_line.removesuffix(",").split(",")]
        return len(set(names)) == len(names) and all(re.match(r"[A-Za-z_]", name) for name in names)

    @cached_property
    def _rows(self) -> list[bytes]:
        return [line.rstrip() for line in self._lines if line.strip()]

    @cached_property
    def _lines(self) -> list[bytes]:
        return self.content.data[:_HEAD_BYTES].split(b"\n")[:_HEAD_LINES]

    @property
    def sample(self) -> Content:
        """The first lines alone, whole ones as far as they go."""
        return dataclasses.replace(self.content, data=b"\n".join(self._lines))


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
    shape: str = ""
    """What a file is like that the format takes for its own with `Sign.LIKELY`."""
    notes_of: Callable[[list[Columns]], tuple[str, ...]] = no_notes
    """Warnings about the trace, for whoever reads figures made from it."""
    read_part: Callable[[Content, Fleet | None, Refusals], Columns] | None = None
    """Reads the good rows of a file where the columns of the file are not those of the schema; None: they are."""
