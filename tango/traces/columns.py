"""Columns of one trace file, and the validation of their values that all readers share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from tango.errors import BadRow
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of n values; where `null` is set the value is empty and `data` holds 0, NaN or -1."""

    data: NDArray[np.int64] | NDArray[np.float64] | NDArray[np.int32]
    """Numbers; time stamps as nanoseconds since 1970; text as indices into `words`."""
    null: Mask
    words: tuple[str, ...] = ()
    """The distinct texts of a text column."""

    def take(self, keep: Mask) -> Column:
        """The rows where `keep` is set."""
        return Column(self.data[keep], self.null[keep], self.words)


@dataclass(frozen=True, slots=True)
class Columns:
    """The valid rows of one file."""

    file: str
    line: NDArray[np.int64]
    """1-based line (CSV, JSON lines) or row (Parquet) of each row, shape (n,)."""
    by_name: dict[str, Column]
    ignored: tuple[str, ...] = ()
    """Columns of the file that the format does not know."""

    def __len__(self) -> int:
        return len(self.line)

    def ints(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers, shape (n,), 0 where empty."""
        return np.asarray(self.by_name[name].data, np.int64)

    def floats(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, shape (n,), NaN where empty; all NaN if the file has no such column."""
        if name not in self.by_name:
            return np.full(len(self), np.nan)
        column = self.by_name[name]
        return np.where(column.null, np.nan, column.data.astype(np.float64))

    def texts(self, name: str) -> tuple[NDArray[np.int32], tuple[str, ...]]:
        """(indices of shape (n,), words) of a text column; empty values, and those of a missing column, are the word ""."""
        if name not in self.by_name:
            return np.zeros(len(self), np.int32), ("",)
        column = self.by_name[name]
        if not column.null.any():
            return column.data.astype(np.int32), column.words
        return np.where(column.null, len(column.words), column.data).astype(np.int32), (*column.words, "")


RowText = Callable[[int, str], tuple[str, str]]
"""A function of (line, column name) that returns (value, whole row) as they stand in the file, for messages."""


@dataclass(slots=True)
class Fault:
    """Rows that break one rule of one column."""

    rows: NDArray[np.int64]
    """Indices into the columns as read."""
    column: str
    expected: str
    """The rule, as messages print it."""


def from_arrow(array: pa.Array | pa.ChunkedArray, kind: Kind) -> Column:
    """An Arrow column as NumPy arrays of values and of nulls."""
    if isinstance(array, pa.ChunkedArray):
        array = array.unify_dictionaries().combine_chunks() if kind is Kind.TEXT else array.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], kind.arrow)
    null = bools(pc.is_null(array))
    if kind is Kind.TEXT:
        return Column(_filled(array.indices, null, -1), null, tuple(array.dictionary.to_pylist()))
    if kind is Kind.TIMESTAMP:
        array = array.cast(pa.int64())
    return Column(_filled(array, null, float("nan") if kind is Kind.FLOAT else 0), null)


def bools(array: pa.Array | pa.ChunkedArray) -> Mask:
    """An Arrow column of booleans without nulls as a NumPy mask."""
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], pa.bool_())
    values: Mask = _numbers(array.cast(pa.uint8())).view(np.bool_)
    return values


def _filled(array: pa.Array, null: Mask, empty: float) -> Any:
    values = _numbers(array)
    return np.where(null, values.dtype.type(empty), values) if array.null_count else values


def _numbers(array: pa.Array) -> Any:
    """The value buffer of an Arrow column as NumPy, without a copy; nulls have any value.

    Arrow's own `to_numpy` and `scalar` import pandas where that is installed: a quarter of a second and tens of megabytes.
    """
    dtype = np.dtype(str(array.type).replace("double", "float64"))
    return np.frombuffer(array.buffers()[1] or b"", dtype)[array.offset : array.offset + len(array)]


def checked(
    file: str,
    schema: Schema,
    line: NDArray[np.int64],
    by_name: dict[str, Column],
    faults: list[Fault],
    text: RowText,
    refusals: Refusals,
) -> Columns:
    """The rows that keep all rules of the schema. The others go to `refusals`, each for its first fault in column order.

    Order of rows is checked last and only between rows that are valid otherwise, so that one wrong time does not refuse all after it.
    """
    order = {name: index for index, name in enumerate(schema.names)}
    all_faults = [*faults, *(fault for f in schema.fields if f.name in by_name for fault in _value_faults(f, by_name[f.name]))]
    all_faults.sort(key=lambda fault: order.get(fault.column, -1))
    keep = np.ones(len(line), bool)
    _refuse(file, line, all_faults, keep, text, refusals)
    if schema.ordered_by:
        field = next(f for f in schema.fields if f.name == schema.ordered_by)
        _refuse(file, line, _order_faults(field, by_name[field.name], keep, each_once=schema.each_once), keep, text, refusals)
    by_name = {field.name: by_name[field.name] for field in schema.fields if field.kept and field.name in by_name}
    if keep.all():
        return Columns(file, line, by_name)
    return Columns(file, line[keep], {name: column.take(keep) for name, column in by_name.items()})


def _refuse(file: str, line: NDArray[np.int64], faults: list[Fault], keep: Mask, text: RowText, refusals: Refusals) -> None:
    for fault in faults:
        for row in fault.rows[keep[fault.rows]]:
            at = int(line[row])
            found, whole = text(at, fault.column)
            refusals.add(BadRow(file=file, line=at, column=fault.column, found=found or "nothing", expected=fault.expected), whole)
        keep[fault.rows] = False


def _value_faults(field: Field, column: Column) -> list[Fault]:
    data = column.data
    bad = np.zeros(len(data), bool)
    if field.choices:
        prefix = field.also_prefix
        known = np.array([w in field.choices or (prefix != "" and w.startswith(prefix)) for w in column.words] or [False])
        bad |= ~known[data]
    if field.rule is not None:
        bad |= ~np.array([field.rule(word) for word in column.words] or [False])[data]
    if field.kind is Kind.FLOAT:
        bad |= ~np.isfinite(data)
    if field.low is not None:
        bad |= data < field.low
    if field.high is not None:
        bad |= (data > field.high) if field.also is None else (data > field.high) & (data != field.also)
    if field.step != 1:
        bad |= data % field.step != 0
    bad &= ~column.null
    if field.required:
        bad |= column.null
    rows = np.flatnonzero(bad)
    return [Fault(rows, field.name, field.expected)] if len(rows) else []


def _order_faults(field: Field, column: Column, keep: Mask, *, each_once: bool) -> list[Fault]:
    considered = keep & ~column.null
    if field.also is not None:
        considered &= column.data != field.also
    rows = np.flatnonzero(considered)
    values = column.data[rows]
    latest = np.maximum.accumulate(values) if len(values) else values
    bad = np.zeros(len(values), bool)
    bad[1:] = values[1:] <= latest[:-1] if each_once else values[1:] < latest[:-1]
    expected = f"a time {'after' if each_once else 'not before'} that of an earlier row"
    return [Fault(rows[bad], field.name, expected)] if bad.any() else []
