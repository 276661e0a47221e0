"""The columns of trace formats and the values they may hold. Readers check by it, and refusals word their messages from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

import pyarrow as pa

AFTER_TRACE_US = 2**63 - 1
"""Google's time stamp for events after the trace ended (2^63 - 1)."""

SINCE_1990_NS, UNTIL_2200_NS = 631152000 * 10**9, 7258118400 * 10**9
"""Unix times, in nanoseconds, of the earliest and latest date that a trace may have. Chosen to catch wrong units."""
TEN_YEARS_S = 3.2e8
"""Longest time in a trace, in seconds; a greater one is taken as an error of unit."""
MAX_WORK_S = 1e7
"""Most CPU-seconds of one request: about a hundred cores for a day. A greater work is taken as an error of unit."""


class Kind(Enum):
    """How a value is written."""

    INT = "a whole number"
    FLOAT = "a number"
    TEXT = "text"
    TIMESTAMP = "a time YYYY-MM-DD HH:MM:SS.fffffff (UTC, or with an offset +HH:MM)"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the column; of times without an offset."""
        return {
            Kind.INT: pa.int64(),
            Kind.FLOAT: pa.float64(),
            Kind.TEXT: pa.dictionary(pa.int32(), pa.string()),
            Kind.TIMESTAMP: pa.timestamp("ns"),
        }[self]


@dataclass(frozen=True, slots=True)
class Field:
    """One column. `low` and `high` are inclusive, in the unit of the file; `also` is one value allowed outside them."""

    name: str
    kind: Kind
    required: bool = False
    """Whether an empty value is refused."""
    low: float | None = None
    high: float | None = None
    also: int | None = None
    step: int = 1
    """Integers and times must be multiples of it."""
    step_name: str = ""
    """The step in words, for refusals."""
    choices: tuple[str, ...] = ()
    """The allowed texts; empty: any."""
    also_prefix: str = ""
    """Text with this prefix is allowed besides the choices."""
    rule: Callable[[str], bool] | None = None
    """Whether a text is allowed; None: any of the choices is."""
    rule_name: str = ""
    """The rule in words, for refusals."""
    kept: bool = True
    """False: values are checked and then dropped, to save memory."""
    in_header: bool = True
    """Whether a file without this column is refused."""
    also_named: tuple[str, ...] = ()
    """Other names of the column, as tools write it that flatten records."""
    path: tuple[str, ...] = ()
    """Path of the value in nested JSON or Parquet, where it may stand besides; empty: it is found under its names alone."""
    unit: str = ""
    """Of whole numbers that are times: their unit as Arrow says it (`us`). Columns of Arrow's own time types are brought to it."""
    if_absent: str = ""
    """What readers of figures have to know where no file has the column, or any value in it; empty: nothing."""

    @property
    def all_names(self) -> tuple[str, ...]:
        """Every name that the column may have in a header."""
        return (self.name, *self.also_named)

    @property
    def expected(self) -> str:
        """The allowed values in words, for refusals."""
        if self.choices:
            shown = self.choices if len(self.choices) <= 12 else (*self.choices[:12], "…")
            text = " or ".join(shown) + (f" or {self.also_prefix}NAME" if self.also_prefix else "")
        elif self.rule_name:
            text = self.rule_name
        else:
            text = " ".join((self.kind.value, self.step_name)).strip()
            if self.kind is Kind.TIMESTAMP and self.low is not None and self.high is not None:
                text += f" from {_day(self.low)} to {_day(self.high)}"
            elif self.low is not None and self.high is not None:
                text += f" from {self.low:.16g} to {self.high:.16g}"
            elif self.low is not None:
                text += f", at least {self.low:.16g}"
            if self.also is not None:
                text += f" or {self.also}"
        return text if self.required else f"{text}, or nothing"


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one format."""

    format: str
    fields: tuple[Field, ...]
    header: bool
    extra_columns: bool = False
    """Whether files of the format have other columns besides, which nobody misses; else reading says which were ignored."""
    ordered_by: str = ""
    """Column whose values must not decrease within a file; empty: rows may come in any order."""
    delimiter: str = ","
    """Between the values of CSV."""
    each_once: bool = False
    """Whether the values of the column `ordered_by` must be distinct within a file."""

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)

    def kind_of(self, name: str) -> Kind:
        """How the values of a column are written. Raises: KeyError."""
        return {field.name: field.kind for field in self.fields}[name]

    def ignored_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """Which columns of a file are ignored though nobody would expect it."""
        known = {name for field in self.fields for name in (*field.all_names, *field.path[:1], "")}
        return () if self.extra_columns else tuple(name for name in names if name not in known)

    def named(self, name: str) -> Field | None:
        """The field whose column has this name; None: there is none."""
        return next((field for field in self.fields if name in field.all_names), None)


def _day(unix_ns: float) -> str:
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).date().isoformat()
