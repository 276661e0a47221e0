"""What the columns of a trace format are and which values they may hold; readers and refusals both work from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

AFTER_TRACE_US = 2**63 - 1
"""Google's time for events after the trace ended."""

SINCE_1990_NS, UNTIL_2200_NS = 631152000 * 10**9, 7258118400 * 10**9
"""Unix times of the earliest and the latest date that a trace may have."""
TEN_YEARS_S = 3.2e8
"""No trace is longer: a greater time is a slip of a unit."""
MAX_WORK_S = 1e7
"""CPU-seconds of one request: a hundred cores for a day."""


class Kind(Enum):
    """How a value is written."""

    INT = "a whole number"
    FLOAT = "a number"
    TEXT = "text"
    TIMESTAMP = "a time YYYY-MM-DD HH:MM:SS.fffffff"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the column."""
        return {
            Kind.INT: pa.int64(),
            Kind.FLOAT: pa.float64(),
            Kind.TEXT: pa.dictionary(pa.int32(), pa.string()),
            Kind.TIMESTAMP: pa.timestamp("ns"),
        }[self]


@dataclass(frozen=True, slots=True)
class Field:
    """One column. `low` and `high` are inclusive; `also` is one value allowed beyond them."""

    name: str
    kind: Kind
    required: bool = False
    """Its value may not be empty."""
    low: float | None = None
    high: float | None = None
    also: int | None = None
    step: int = 1
    """Whole numbers and times must be multiples of it."""
    step_name: str = ""
    """How a refusal says so."""
    choices: tuple[str, ...] = ()
    also_prefix: str = ""
    """Text that begins with it is allowed beside the choices."""
    kept: bool = True
    """False: its values are checked and then dropped."""
    in_header: bool = True
    """False: the column itself may be missing."""
    path: tuple[str, ...] = ()
    """Where it stands in nested JSON or Parquet, if not under its name."""

    @property
    def expected(self) -> str:
        """What a refusal says was expected."""
        if self.choices:
            shown = self.choices if len(self.choices) <= 12 else (*self.choices[:12], "…")
            text = " or ".join(shown) + (f" or {self.also_prefix}NAME" if self.also_prefix else "")
        else:
            text = " ".join((self.kind.value, self.step_name)).strip()
            if self.low is not None and self.high is not None:
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
    """Columns that are not listed may stand in the header and are passed over."""
    ordered_by: str = ""
    """A column whose values must not decrease within a file; empty: rows may come in any order."""
    each_once: bool = False
    """No value of that column may come twice."""

    @property
    def names(self) -> tuple[str, ...]:
        """Column names in order."""
        return tuple(field.name for field in self.fields)
