"""JSON lines and Parquet to checked columns: typed by their writers, so the work is to find nested and differently typed fields.

JSON is parsed a line at a time by orjson, which bounds the depth of what it reads; Arrow's own reader overruns the stack on a line that is
nested twenty thousand deep, and the process ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from tango.errors import BadRow, BadRows
from tango.traces.columns import Column, Columns, Fault, RowText, bools, checked, from_arrow
from tango.traces.csv_columns import converted
from tango.traces.files import Content, file_refused
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

_PIECE = 65_536
"""Lines of JSON whose values are Python objects at one time."""
UNREADABLE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What Arrow raises for a file that is no whole Parquet file; the last for names of columns that are no text."""


def read_json_lines(content: Content, schema: Schema, refusals: Refusals) -> Columns:
    """The good rows of a file of one JSON object a line; bad ones go to `refusals`."""
    raw = content.data.split(b"\n")
    if raw and not raw[-1].strip():
        raw.pop()
    good = np.ones(len(raw), bool)
    pieces: list[list[pa.Array]] = [[] for _ in schema.fields]
    for begin in range(0, len(raw), _PIECE):
        objects = list(_objects(content.file, raw, range(begin, min(begin + _PIECE, len(raw))), good, refusals))
        for field, arrays in zip(schema.fields, pieces, strict=True):
            arrays.append(_texts_or_numbers([_inside(value, field) for value in objects], field))
    columns = {
        field.name: pa.chunked_array(_of_one_type(arrays))
        for field, arrays in zip(schema.fields, pieces, strict=True)
        if any(len(array) > array.null_count for array in arrays) or field.in_header
    }

    def text(line: int, column: str) -> tuple[str, str]:
        row = raw[line - 1].decode("utf-8", "replace").strip()
        field = schema.named(column)
        value = _inside(orjson.loads(raw[line - 1]), field) if field else None
        return ("" if value is None else str(value)[:80]), row

    return _checked(content.file, schema, columns, np.flatnonzero(good) + 1, text, refusals)


def names_of(data: bytes) -> frozenset[str]:
    """The names of a Parquet file's columns; none where its footer cannot be read."""
    try:
        return frozenset(pa.parquet.read_schema(pa.BufferReader(data)).names)
    except UNREADABLE:
        return frozenset()


def read_parquet(file: str, data: bytes, schema: Schema, refusals: Refusals) -> Columns:
    """The good rows of a Parquet file, numbered from 1 in place of lines; bad ones go to `refusals`.

    Raises: BadRows if the file is no Parquet, lacks a column, or has one of a type that its values cannot be taken from.
    """
    try:
        source = pa.parquet.ParquetFile(pa.BufferReader(data))
        known = {name for field in schema.fields for name in (*field.all_names, *field.path[:1])}
        names = source.schema_arrow.names
        if twice := sorted({name for name in names if name in known and names.count(name) > 1}):
            raise file_refused(file, f"two columns {twice[0]!r}", "each column once")
        table = source.read(columns=[name for name in names if name in known])
    except UNREADABLE as error:
        raise file_refused(file, f"a Parquet file that cannot be read ({str(error)[:120]})", "a whole Parquet file") from error
    columns = {field.name: values for field in schema.fields if (values := _column(file, table, field)) is not None}

    def text(row: int, column: str) -> tuple[str, str]:
        values = {name: _shown(values.slice(row - 1, 1)) for name, values in columns.items()}
        return ("" if values.get(column) is None else str(values.get(column))[:80]), json.dumps(values, default=str)

    read = _checked(file, schema, columns, np.arange(1, table.num_rows + 1), text, refusals)
    return dataclasses.replace(read, ignored=schema.ignored_of(names))


def _shown(value: pa.ChunkedArray) -> Any:
    """The only value of a column, for messages; a time as text, since Python has none for most that Arrow has, and text as far as it is."""
    if pa.types.is_temporal(value.type):
        value = value.cast(pa.string())
    if pa.types.is_dictionary(value.type):
        value = value.cast(value.type.value_type)
    if _is_text(value.type):
        value = value.cast(pa.binary())
    found = value.to_pylist()[0]
    return found.decode("utf-8", "backslashreplace") if isinstance(found, bytes) else found


def _checked(
    file: str, schema: Schema, columns: dict[str, pa.ChunkedArray], line: Any, text: RowText, refusals: Refusals
) -> Columns:
    by_name: dict[str, Column] = {}
    faults: list[Fault] = []
    for field in schema.fields:
        values = columns.get(field.name)
        if values is None:
            if field.in_header:
                raise BadRows(
                    [BadRow(file=file, line=1, column=field.name, found="no such field", expected=f"a field {field.name}")]
                )
            continue
        try:
            by_name[field.name], fault = _typed(values, field)
        except pa.ArrowException as error:
            raise BadRows(
                [BadRow(file=file, line=0, column=field.name, found=f"values of type {values.type}", expected=field.expected)]
            ) from error
        faults.extend(fault)
    return checked(file, schema, np.asarray(line, np.int64), by_name, faults, text, refusals)


def _column(file: str, table: pa.Table, field: Field) -> pa.ChunkedArray | None:
    """The column of a field under one of its names, or taken out of structs along its path; None: there is none."""
    found = [table[name] for name in field.all_names if name in table.column_names]
    if field.path and field.path[0] in table.column_names and field.path[0] not in field.all_names:
        values = table[field.path[0]]
        for key in field.path[1:]:
            if not pa.types.is_struct(values.type) or values.type.get_field_index(key) < 0:
                break
            values = pc.struct_field(values, key)
        else:
            found.append(values)
    if len(found) > 1:
        raise file_refused(file, f"two columns of {field.name}", "each column once")
    return found[0] if found else None


def _typed(values: pa.ChunkedArray, field: Field) -> tuple[Column, list[Fault]]:
    """Numbers as numbers whatever the writer made of them (BigQuery writes 64-bit integers as strings), and times in the field's unit.

    Raises: ArrowInvalid for a type that is not meant, such as a truth value for a number.
    """
    kind = values.type
    if pa.types.is_null(kind) or pa.types.is_dictionary(kind):
        values = values.cast(pa.string())
    if _is_text(values.type):
        return _of_texts(values, field)
    if field.kind is Kind.TEXT:
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise pa.ArrowInvalid(f"{kind} is no text")
        return converted(values.cast(pa.string()).combine_chunks(), field)
    if field.unit and (pa.types.is_timestamp(kind) or pa.types.is_duration(kind)):
        return _of_times(values, field)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise pa.ArrowInvalid(f"{kind} is no number")
    if pa.types.is_decimal(kind):
        values = values.cast(pa.float64())
    if field.kind is Kind.INT and pa.types.is_floating(values.type):
        # A column with gaps becomes floating point in some writers; a fraction is a fault and not rounded away.
        values = values.cast(pa.float64())
        whole = pc.fill_null(pc.equal(values, pc.floor(values)), True)
        fits = pc.fill_null(pc.less(pc.abs(values), 2.0**53), True)
        right = pc.and_(whole, fits)
        column = from_arrow(pc.if_else(right, values, 0.0).cast(pa.int64()), field.kind)
        bad = np.flatnonzero(~bools(right))
        return column, ([Fault(bad, field.name, field.expected)] if len(bad) else [])
    return from_arrow(values.cast(field.kind.arrow), field.kind), []


def _is_text(kind: pa.DataType) -> bool:
    """Also bytes, which older writers make of texts."""
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in tests)


def _of_texts(values: pa.ChunkedArray, field: Field) -> tuple[Column, list[Fault]]:
    """Texts as the field's kind; those that are no UTF-8 are faults, since Arrow takes a writer's word for it."""
    raw = values.cast(pa.binary()).combine_chunks()
    try:
        return converted(raw.cast(pa.string()), field)
    except pa.ArrowInvalid:
        wrong = np.array([not _is_utf8(value) for value in raw.to_pylist()], bool)
    column, faults = converted(pc.if_else(pa.array(wrong), None, raw).cast(pa.string()), field)
    # A value that is wrong must not be refused once more for being empty.
    column = Column(column.data, column.null & ~wrong, column.words)
    return column, [*faults, Fault(np.flatnonzero(wrong), field.name, "UTF-8 text")]


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _of_times(values: pa.ChunkedArray, field: Field) -> tuple[Column, list[Fault]]:
    """Times since 1970, of any unit, as whole numbers of the field's unit; what is finer is cut off, what does not fit is a fault.

    So `1970-01-01 00:10:00` is 600 s, as exporters make of a column of seconds, milliseconds, microseconds, nanoseconds or int96.
    """
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    numbers = values.cast(pa.int64())
    up, down = per_second[field.unit], per_second[values.type.unit]
    if up <= down:
        return from_arrow(pc.divide(numbers, down // up), field.kind), []
    most = (2**63 - 1) // (up // down)
    right = pc.fill_null(pc.and_(pc.less_equal(numbers, most), pc.greater_equal(numbers, -most)), True)
    column = from_arrow(pc.multiply(pc.if_else(right, numbers, 0), up // down), field.kind)
    bad = np.flatnonzero(~bools(right))
    return column, ([Fault(bad, field.name, field.expected)] if len(bad) else [])


def _inside(value: Any, field: Field) -> Any:
    """The value of a field in an object: under one of its names, or along its path; None: there is none."""
    for name in field.all_names:
        if name in value:
            return value[name]
    if not field.path:
        return None
    for key in field.path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _texts_or_numbers(values: Sequence[Any], field: Field) -> pa.Array:
    """Values as JSON has them: as numbers where all are, else as texts, so that each is judged alone."""
    kinds = set(map(type, values)) - {type(None)}
    with contextlib.suppress(OverflowError):
        if (field.kind is Kind.INT and kinds == {int}) or (field.kind is Kind.FLOAT and kinds and kinds <= {int, float}):
            return pa.array(values, field.kind.arrow)
    return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**53:
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def _of_one_type(arrays: list[pa.Array]) -> list[pa.Array]:
    """As texts, unless all have one type."""
    if len({array.type for array in arrays}) > 1:
        return [array.cast(pa.string()) for array in arrays]
    return arrays


def _objects(file: str, raw: list[bytes], lines: range, good: Any, refusals: Refusals) -> Iterator[dict[str, Any]]:
    """The objects of the lines; those that have none are refused, and are not `good`."""
    for index in lines:
        line = raw[index]
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            found = _why_no_json(line, error)
        else:
            if isinstance(value, dict):
                yield value
                continue
            found = f"a JSON {type(value).__name__}"
        good[index] = False
        reason = BadRow(file=file, line=index + 1, column="", found=found, expected="a JSON object")
        refusals.add(reason, line.decode("utf-8", "backslashreplace"))


def _why_no_json(line: bytes, error: Exception) -> str:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return f"the byte 0x{line[wrong.start]:02x}, which is not UTF-8"
    return f"{line[:60].decode('utf-8', 'replace')!r} ({str(error)[:60]})"
