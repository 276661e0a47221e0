"""Columns of a file that is no trace of a known format, as expressions read them: as texts, as numbers or as times.

CSV and JSON lines have texts; what they mean is told where they are used. Parquet has types. A column that is used as a number has one
wherever its text is one; the other rows are told, and whoever uses them decides whether they count.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tango.traces.columns import Mask, bools
from tango.traces.csv_columns import converted
from tango.traces.schema import Field, Kind

Numbers = NDArray[np.float64]
_Scalar = TypeVar("_Scalar", np.int64, np.float64)


class ValueKind(Enum):
    """What values of an expression are."""

    NUMBER = "a number"
    TEXT = "a text"
    TRUTH = "a condition"


@dataclass(frozen=True)
class FileColumn:
    """One column of n rows, as it stands in the file."""

    name: str
    values: pa.Array
    """Texts, plain or as a dictionary, or values of another simple type of Arrow's; null where the file has nothing."""

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def texts(self) -> pa.Array:
        """As texts without spaces around them, empty where the file has nothing."""
        values = self.values
        if pa.types.is_dictionary(values.type):
            words = pc.utf8_trim_whitespace(values.dictionary.cast(pa.string()))
            values = pa.DictionaryArray.from_arrays(values.indices, words).cast(pa.string())
        elif _is_text(values.type):
            values = pc.utf8_trim_whitespace(values.cast(pa.string()))
        else:
            values = values.cast(pa.string())
        return pc.fill_null(values, "")

    @cached_property
    def numbers(self) -> tuple[Numbers, Mask]:
        """(numbers, rows whose text is none); NaN where there is nothing or no number. Times are seconds since 1970, lengths seconds."""
        if self.is_text:
            return parsed(self.values, Kind.FLOAT)
        kind = self.values.type
        per_second = 1.0
        values = self.values
        if pa.types.is_date(kind):
            values, per_second = values.cast(pa.timestamp("s")), 1.0
        elif pa.types.is_timestamp(kind) or pa.types.is_duration(kind):
            per_second = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
        if pa.types.is_temporal(values.type):
            values = values.cast(pa.int64())
        found = pc.fill_null(values.cast(pa.float64(), safe=False), float("nan"))
        return as_numpy(found, np.float64) / per_second, np.zeros(len(self), bool)

    @cached_property
    def times_s(self) -> tuple[Numbers, Mask]:
        """(seconds since 1970, rows whose text is no date and time); NaN where there is nothing."""
        return parsed(self.values, Kind.TIMESTAMP) if self.is_text else self.numbers

    @property
    def truths(self) -> Mask:
        """Of truth values: whether each is true; nothing counts as false."""
        return bools(pc.fill_null(self.values, False))

    @property
    def is_text(self) -> bool:
        """Whether the file has texts here, which may be texts of numbers."""
        kind = self.values.type
        return pa.types.is_dictionary(kind) or pa.types.is_null(kind) or _is_text(kind)

    @cached_property
    def kind(self) -> ValueKind:
        """What the values are where nothing else tells it: texts are numbers if half of those that say anything are."""
        if pa.types.is_boolean(self.values.type):
            return ValueKind.TRUTH
        if not self.is_text:
            return ValueKind.NUMBER
        values, wrong = self.numbers
        return ValueKind.TEXT if wrong.sum() > np.count_nonzero(~np.isnan(values)) else ValueKind.NUMBER

    def shown(self, row: int) -> str:
        """A value for messages."""
        found = self.texts.slice(row, 1).to_pylist()[0][:80]
        return repr(found) if self.is_text else found


def parsed(texts: pa.Array, kind: Kind) -> tuple[Numbers, Mask]:
    """(numbers or seconds since 1970, rows whose text is neither that nor empty) of texts, plain or as a dictionary."""
    if pa.types.is_dictionary(texts.type):
        values, wrong = parsed(texts.dictionary, kind)
        null = bools(pc.is_null(texts))
        if not len(values):
            return np.full(len(texts), np.nan), np.zeros(len(texts), bool)
        code = as_numpy(pc.fill_null(texts.indices.cast(pa.int64()), 0), np.int64)
        return np.where(null, np.nan, values[code]), ~null & wrong[code]
    column, faults = converted(texts.cast(pa.string()), Field("", kind))
    wrong = np.zeros(len(texts), bool)
    for fault in faults:
        wrong[fault.rows] = True
    values = np.where(column.null | wrong, np.nan, column.data.astype(np.float64))
    return (values / 1e9 if kind is Kind.TIMESTAMP else values), wrong


def as_numpy(array: pa.Array, dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """A column of numbers of this type, without nulls, as NumPy; Arrow's own way imports pandas where that is installed."""
    return np.frombuffer(array.buffers()[1] or b"", dtype)[array.offset : array.offset + len(array)]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
