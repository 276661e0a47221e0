"""Rows of a query as Apache Arrow, piece by piece, and as files that pandas, DuckDB and Polars read."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tango.errors import FileUnusable, UsageError
from tango.files import usable
from tango.store.query import RowsRead

_ONE: dict[int, pa.DataType] = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int16(),
    23: pa.int32(),
    26: pa.int64(),
    700: pa.float32(),
    701: pa.float64(),
    1700: pa.float64(),
    1184: pa.timestamp("us", tz="UTC"),
    1114: pa.timestamp("us"),
    1082: pa.date32(),
}
"""By the number of a type in pg_type.dat. `numeric` becomes a double: Tango has none, and sums of whole numbers are exact far enough."""
_ARRAYS = {1000: 16, 1016: 20, 1005: 21, 1007: 23, 1021: 700, 1022: 701, 1009: 25, 1185: 1184}
"""Types of arrays: of what."""
FORMATS = (".parquet", ".arrow", ".csv")
"""Endings of files that can be written."""


def arrow_type(code: int) -> pa.DataType:
    """Of a column by PostgreSQL's number of its type; whatever is not a number, a time or an array of them is text."""
    if code in _ARRAYS:
        return pa.list_(_ONE.get(_ARRAYS[code], pa.string()))
    return _ONE.get(code, pa.string())


def arrow_schema(found: RowsRead) -> pa.Schema:
    """Names and types of an open query's columns. Raises: UsageError for two of one name, which a file cannot have."""
    twice = sorted({name for name in found.columns if found.columns.count(name) > 1})
    if twice:
        raise UsageError(f"two columns are called {twice[0]!r}; give one of them another name (AS)")
    return pa.schema([(name, arrow_type(code)) for name, code in zip(found.columns, found.types, strict=True)])


def batches(found: RowsRead, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """All rows of an open query, as they are fetched. Raises: as `tango.store.query.reading`."""
    for piece in found.pieces():
        columns = zip(*piece, strict=True)
        yield pa.record_batch([_array(values, field) for values, field in zip(columns, schema, strict=True)], schema=schema)


def _array(values: Sequence[Any], field: pa.Field) -> pa.Array:
    """Raises: UsageError for a value that Arrow does not have, such as `infinity` among times: nothing would be said of it in the file."""
    kind = field.type
    try:
        return _as(values, kind)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        odd = next((v for v in values if isinstance(v, str)), None)
        found = f"the value {odd[:40]!r}" if odd is not None else f"a value that is no {kind}"
        raise UsageError(
            f"the column {field.name!r} has {found}, which a file has no value for; write it as text ({field.name}::text)"
        ) from error


def _as(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_string(kind):
        return pa.array([None if v is None else v if isinstance(v, str) else _text(v) for v in values], kind)
    if pa.types.is_floating(kind):
        return pa.array([None if v is None else float(v) for v in values], kind)
    if pa.types.is_list(kind) and pa.types.is_floating(kind.value_type):
        return pa.array([None if v is None else [None if x is None else float(x) for x in v] for v in values], kind)
    return pa.array(values, kind)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else str(value)


def write_rows(found: RowsRead, path: Path, *, progressed: Callable[[int], None] = lambda _: None) -> int:
    """Write all rows to a file by its ending (`FORMATS`) and give how many; `progressed` hears of the number so far.

    The file appears whole or not at all. Raises: UsageError for another ending, or two columns of one name; FileUnusable.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"{path.name} ends in {path.suffix!r}, expected one of {', '.join(FORMATS)}")
    schema = arrow_schema(found)
    if path.suffix == ".csv" and (lists := [f.name for f in schema if pa.types.is_list(f.type)]):
        raise UsageError(f"CSV has no lists, and {lists[0]!r} is one; write .parquet or .arrow")
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    written = 0
    try:
        with usable(path), _writer(aside, path.suffix, schema) as writer:
            for batch in batches(found, schema):
                writer.write_batch(batch)
                written += batch.num_rows
                progressed(written)
        with usable(path):
            aside.replace(path)
    except FileUnusable:
        raise
    finally:
        aside.unlink(missing_ok=True)
    return written


def _writer(path: Path, ending: str, schema: pa.Schema) -> Any:
    if ending == ".csv":
        return pa.csv.CSVWriter(path, schema)
    if ending == ".arrow":
        return pa.ipc.new_file(path, schema)
    return pa.parquet.ParquetWriter(path, schema, compression="zstd")
