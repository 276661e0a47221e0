"""JSON lines and Parquet to checked columns: typed by their writers, so the work is to find nested and differently typed fields."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet

from tango.errors import BadRow, BadRows
from tango.traces.columns import Column, Columns, Fault, bools, checked, from_arrow
from tango.traces.csv_columns import converted
from tango.traces.files import Content, file_refused
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

_BLOCK = 16 << 20


def read_json_lines(content: Content, schema: Schema, refusals: Refusals) -> Columns:
    """The good rows of a file of one JSON object a line; bad ones go to `refusals`."""
    raw = content.data.split(b"\n")
    if raw and not raw[-1].strip():
        raw.pop()
    good = np.ones(len(raw), bool)
    try:
        table = pa.json.read_json(pa.BufferReader(content.data), read_options=pa.json.ReadOptions(block_size=_BLOCK))
    except pa.ArrowException:
        table = None
    if table is None or table.num_rows != len(raw):
        table = _line_by_line(content.file, raw, good, schema, refusals)

    def text(line: int, column: str) -> tuple[str, str]:
        row = raw[line - 1].decode("utf-8", "replace").strip()
        field = next((f for f in schema.fields if f.name == column), None)
        value = json.loads(row)
        for key in field.path or (field.name,) if field else ():
            value = value.get(key) if isinstance(value, dict) else None
        return ("" if value is None else str(value)[:80]), row

    return _checked_table(content.file, schema, table, np.flatnonzero(good) + 1, text, refusals)


def read_parquet(file: str, data: bytes, schema: Schema, refusals: Refusals) -> Columns:
    """The good rows of a Parquet file, numbered from 1 in place of lines; bad ones go to `refusals`.

    Raises: BadRows if the file is no Parquet or lacks a column.
    """
    try:
        source = pa.parquet.ParquetFile(pa.BufferReader(data))
        wanted = {(field.path or (field.name,))[0] for field in schema.fields}
        names = source.schema_arrow.names
        unknown = [name for name in names if name not in wanted]
        if unknown and not schema.extra_columns:
            raise file_refused(file, f"an unknown column {unknown[0]!r}", f"the columns {', '.join(schema.names)}")
        table = source.read(columns=[name for name in names if name in wanted])
    except (pa.ArrowException, OSError) as error:
        raise file_refused(file, f"a Parquet file that cannot be read ({str(error)[:120]})", "a whole Parquet file") from error

    def text(row: int, column: str) -> tuple[str, str]:
        values = table.slice(row - 1, 1).to_pylist()[0]
        return ("" if values.get(column) is None else str(values.get(column))[:80]), json.dumps(values, default=str)

    return _checked_table(file, schema, table, np.arange(1, table.num_rows + 1), text, refusals)


def _checked_table(file: str, schema: Schema, table: pa.Table, line: Any, text: Any, refusals: Refusals) -> Columns:
    by_name: dict[str, Column] = {}
    faults: list[Fault] = []
    for field in schema.fields:
        values = _values(table, field)
        if values is None:
            if field.in_header:
                raise BadRows(
                    [BadRow(file=file, line=1, column=field.name, found="no such field", expected=f"a field {field.name}")]
                )
            continue
        try:
            by_name[field.name], fault = _typed(values, field)
        except pa.ArrowException as error:
            raise file_refused(file, f"a column {field.name} of type {values.type}", field.expected) from error
        faults.extend(fault)
    return checked(file, schema, np.asarray(line, np.int64), by_name, faults, text, refusals)


def _values(table: pa.Table, field: Field) -> pa.ChunkedArray | None:
    """The column of a field, taken out of structs along its path."""
    path = field.path or (field.name,)
    if path[0] not in table.column_names:
        return None
    values = table[path[0]]
    for key in path[1:]:
        if not pa.types.is_struct(values.type) or values.type.get_field_index(key) < 0:
            return None
        values = pc.struct_field(values, key)
    return values


def _typed(values: pa.ChunkedArray, field: Field) -> tuple[Column, list[Fault]]:
    """Numbers as numbers whatever the writer made of them (BigQuery writes 64-bit integers as strings)."""
    kind = values.type
    if pa.types.is_null(kind) or pa.types.is_dictionary(kind):
        values = values.cast(pa.string())
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return converted(values.cast(pa.string()).combine_chunks(), field)
    if field.kind is Kind.TEXT:
        return converted(values.cast(pa.string()).combine_chunks(), field)
    if field.kind is Kind.INT and pa.types.is_floating(kind):
        # A column with gaps becomes floating point in some writers; a fraction is a fault and not rounded away.
        whole = pc.fill_null(pc.equal(values, pc.floor(values)), True)
        fits = pc.fill_null(pc.less(pc.abs(values), 2.0**53), True)
        right = pc.and_(whole, fits)
        column = from_arrow(pc.if_else(right, values, 0.0).cast(pa.int64()), field.kind)
        bad = np.flatnonzero(~bools(right))
        return column, ([Fault(bad, field.name, field.expected)] if len(bad) else [])
    return from_arrow(values.cast(field.kind.arrow), field.kind), []


def _line_by_line(file: str, raw: list[bytes], good: Any, schema: Schema, refusals: Refusals) -> pa.Table:
    """Every line by itself; those that are no JSON object are refused. Values become text, so that each is judged alone."""
    columns: dict[str, list[str | None]] = {field.name: [] for field in schema.fields}
    for index, line in enumerate(raw):
        found = ""
        try:
            value = json.loads(line.decode("utf-8"))
            if not isinstance(value, dict):
                found = f"a JSON {type(value).__name__}"
        except UnicodeDecodeError as error:
            found = f"the byte 0x{line[error.start]:02x}, which is not UTF-8"
        except (ValueError, RecursionError) as error:
            found = f"{line[:60].decode('utf-8', 'replace')!r} ({str(error)[:60]})"
        if found:
            good[index] = False
            reason = BadRow(file=file, line=index + 1, column="", found=found, expected="a JSON object")
            refusals.add(reason, line.decode("utf-8", "backslashreplace"))
            continue
        for field in schema.fields:
            inner = value
            for key in field.path or (field.name,):
                inner = inner.get(key) if isinstance(inner, dict) else None
            columns[field.name].append(None if inner is None else str(inner))
    arrays: dict[str, Any] = {}
    for field in schema.fields:
        texts = pa.array(columns[field.name], pa.string())
        if field.path:
            arrays.setdefault(field.path[0], {})[field.path[-1]] = texts
        else:
            arrays[field.name] = texts
    return pa.table(
        {
            name: pa.StructArray.from_arrays(list(value.values()), list(value)) if isinstance(value, dict) else value
            for name, value in arrays.items()
        }
    )
