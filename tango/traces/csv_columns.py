"""Reading CSV into validated columns: a fast pass for files without mistakes, and an exact pass that finds every bad row.

The fast pass lets Arrow convert each column to its type. If Arrow refuses anything, or its rows do not match the lines of the file one
to one, the exact pass follows: it removes the lines that are not CSV at all (not UTF-8, an unclosed quote, too long), reads the rest as
text and converts it column by column under a mask. Both end in `columns.checked`, so both apply the same rules.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from tango.errors import BadRow, BadRows
from tango.traces.columns import Column, Columns, Fault, bools, checked, from_arrow
from tango.traces.files import Content
from tango.traces.refusals import Refusals
from tango.traces.schema import Field, Kind, Schema

MAX_LINE_BYTES = 64 << 10
"""Longest line. No known trace has longer rows; a longer line usually means a binary file or missing line ends."""

_BLOCK = 4 << 20  # bytes that Arrow parses at a time
_WINDOW = 256 << 10  # bytes that are decoded at a time in search of what is not UTF-8
_TRAILING = ""
"""Name of the empty column that a comma at the end of every line makes, as some excerpts of traces have it."""
# A day that is in the calendar, in a year that fits nanoseconds of 64 bits (1677 to 2262) with any offset.
_DAY = (
    r"((1[7-9]|20|21)[0-9]{2}|22[0-5][0-9])-("
    r"(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)"
    r"|((1[7-9]|2[01])(0[48]|[2468][048]|[13579][26])|22(0[48]|[24][048]|[135][26])|2000)-02-29"
)
_OFFSET = r"(Z|[+-](0[0-9]|1[0-4]):?[0-5][0-9])"
# What a value of each kind looks like. Stricter than Arrow's own conversion, so that both passes accept the same texts.
_TRUE = {
    Kind.INT: r"^[+-]?[0-9]{1,19}$",
    Kind.FLOAT: r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?$|^[+-]?(?i:nan|inf|infinity)$",
    Kind.TIMESTAMP: rf"^({_DAY})[ T]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{{1,9}})?{_OFFSET}?$",
}


def read_csv(content: Content, schema: Schema, refusals: Refusals) -> Columns:
    """The valid rows of a CSV file; bad ones go to `refusals`.

    Raises: BadRows for a missing or wrong header, without which no row can be read.
    """
    names, body_at = _header(content, schema)
    lines = _Lines(content.data, body_at, first_line=2 if schema.header else 1, names=names, delimiter=schema.delimiter)
    fields = [field for field in schema.fields if field.name in names]
    if names[-1] == _TRAILING:
        fields.append(Field(_TRAILING, Kind.TEXT))
    fast = _fast(lines, names, fields)
    if fast is not None:
        line = np.arange(lines.first_line, lines.first_line + lines.count, dtype=np.int64)
        read = checked(content.file, schema, line, fast, [], lines.found, refusals)
    else:
        line, by_name, faults = _exact(content.file, lines, names, fields, refusals)
        read = checked(content.file, schema, line, by_name, faults, lines.found, refusals)
    return dataclasses.replace(
        read, ignored=schema.ignored_of(names_in_first_line(content, schema.delimiter)) if schema.header else ()
    )


class _Lines:
    """The body of a file and the offsets of its lines, which are computed only when a refusal needs them."""

    def __init__(self, data: bytes, body_at: int, *, first_line: int, names: list[str], delimiter: str) -> None:
        self.data = data
        self.body_at = body_at
        self.first_line = first_line
        self.names = names
        self.delimiter = delimiter
        body = len(data) - body_at
        self.count = data.count(b"\n", body_at) + (1 if body and not data.endswith(b"\n") else 0)
        self.quoted = data.find(b'"', body_at) >= 0
        self.has_blank = any(data.find(blank, max(body_at - 1, 0)) >= 0 for blank in (b"\n\n", b"\n\r\n")) or data.startswith(
            (b"\n", b"\r\n"), body_at
        )
        self._starts: NDArray[np.int64] | None = None

    @property
    def starts(self) -> NDArray[np.int64]:
        """Offsets of the lines and of the end, shape (count + 1,)."""
        if self._starts is None:
            array = np.frombuffer(self.data, np.uint8, offset=self.body_at)
            ends = np.flatnonzero(array == 10) + 1 + self.body_at
            inner = ends if self.data.endswith(b"\n") else np.append(ends, len(self.data))
            self._starts = np.concatenate(([self.body_at], inner)).astype(np.int64)
        return self._starts

    @property
    def longest(self) -> int:
        """Length of the longest line in bytes, line end included."""
        return int(np.diff(self.starts).max(initial=0))

    def raw(self, index: int) -> bytes:
        """A line, by its 0-based index, without its line end."""
        return self.data[self.starts[index] : self.starts[index + 1]].rstrip(b"\r\n")

    def values(self, line: str) -> list[str]:
        """The values of a line."""
        return _values(line, self.delimiter)

    def found(self, line: int, column: str) -> tuple[str, str]:
        """(value of a column, whole line) as text, for messages."""
        row = self.raw(line - self.first_line).decode("utf-8", "replace")
        if column not in self.names:
            return row[:80], row
        values = self.values(row)
        index = self.names.index(column)
        return (values[index].strip()[:80] if index < len(values) else ""), row


def names_in_first_line(content: Content, delimiter: str = ",") -> list[str]:
    """The values of the first line, which are names if it is a header, without spaces around them."""
    return [name.strip() for name in _values(_first_line(content), delimiter)]


def delimiter_of(content: Content) -> str:
    """The sign between the values of a file of any origin: that of comma, semicolon, tab and bar which the first line has most of."""
    return max(",;\t|", key=_first_line(content).count)


def _first_line(content: Content) -> str:
    end = content.data.find(b"\n") + 1 or len(content.data)
    return content.data[: min(end, MAX_LINE_BYTES)].decode("utf-8", "replace").strip("\r\n")


def _values(line: str, delimiter: str) -> list[str]:
    """The values of one line; a line with a carriage return inside, which csv refuses, is split without regard to quotes."""
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return line.split(delimiter)


def _header(content: Content, schema: Schema) -> tuple[list[str], int]:
    """(column names in the order of the file, offset of the first row). Raises: BadRows for a wrong header.

    Columns that have another name in the file stand under that of their field; a last column without a name is `_TRAILING`. Others that
    the schema does not have are left as they are: nothing reads them.
    """
    end = content.data.find(b"\n") + 1 or len(content.data)
    text = _first_line(content)
    first = names_in_first_line(content, schema.delimiter)
    if not schema.header:
        names = list(schema.names)
        return ([*names, _TRAILING] if len(first) == len(names) + 1 and first[-1] == "" else names), 0
    fields = [schema.named(name) for name in first]
    names = [field.name if field else name for name, field in zip(first, fields, strict=True)]

    def refuse(column: str, found: str, expected: str) -> None:
        raise BadRows([BadRow(file=content.file, line=1, column=column, found=found, expected=expected)])

    needed = [field.name for field in schema.fields if field.in_header]
    for name in needed:
        if name not in names:
            refuse(name, f"the header {text[:120]!r}", f"a header with the columns {', '.join(needed)}")
    counts = Counter(names)
    for place, name in enumerate(names):
        if counts[name] > 1 and name not in schema.names:
            names[place] = f"{name}#{place}"  # which is read under no name, so that it may be there twice
        elif counts[name] > 1:
            as_named = " and ".join(sorted({repr(given) for given, taken in zip(first, names, strict=True) if taken == name}))
            refuse(name, f"a column named twice ({as_named[:120]})", "each column once")
    if end >= len(content.data):
        refuse("", "a header without rows", "at least one row")
    return names, end


def _options(lines: _Lines, names: list[str], types: dict[str, pa.DataType]) -> dict[str, Any]:
    return {
        "parse_options": pa.csv.ParseOptions(
            delimiter=lines.delimiter, quote_char='"' if lines.quoted else False, ignore_empty_lines=False, newlines_in_values=False
        ),
        "convert_options": pa.csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
        ),
    }


def _fast(lines: _Lines, names: list[str], fields: list[Field]) -> dict[str, Column] | None:
    """All columns, converted to their types; None if anything is not as it should be."""
    # Arrow would accept these without an error.
    if lines.has_blank or lines.data.find(b"\0") >= 0 or lines.longest > MAX_LINE_BYTES:
        return None
    source = pa.BufferReader(pa.py_buffer(lines.data).slice(lines.body_at))
    read = pa.csv.ReadOptions(column_names=names, block_size=_BLOCK)
    try:
        table = pa.csv.read_csv(source, read_options=read, **_options(lines, names, _types(lines, names, fields)))
    except pa.ArrowException:
        return None
    if table.num_rows != lines.count:
        return None
    return {field.name: from_arrow(table[field.name], field.kind) for field in fields if field.name != _TRAILING}


def _types(lines: _Lines, names: list[str], fields: list[Field]) -> dict[str, pa.DataType]:
    """By column: the type that Arrow shall convert it to. It takes times all with an offset or all without, so the first row decides."""
    first = lines.values(
        lines.data[lines.body_at : lines.body_at + MAX_LINE_BYTES].partition(b"\n")[0].decode("utf-8", "replace").strip()
    )
    types = {field.name: field.kind.arrow for field in fields}
    for field in fields:
        at = names.index(field.name)
        if field.kind is Kind.TIMESTAMP and at < len(first) and re.search(_OFFSET + "$", first[at]):
            types[field.name] = pa.timestamp("ns", "UTC")
        if field.name == _TRAILING:
            types[field.name] = pa.null()  # which nothing but an empty value is
    return types


def _exact(
    file: str, lines: _Lines, names: list[str], fields: list[Field], refusals: Refusals
) -> tuple[NDArray[np.int64], dict[str, Column], list[Fault]]:
    """Line numbers, columns and faults of the lines that have the right number of columns; the others are refused."""
    good = np.ones(lines.count, bool)
    for index, found, expected in _broken_lines(lines):
        if good[index]:
            good[index] = False
            _refuse_line(file, lines, index, found, expected, refusals)
    kept = np.flatnonzero(good)
    wrong: list[Any] = []

    def set_aside(row: Any) -> str:
        wrong.append(row)
        return "skip"

    table = pa.table({name: pa.array([], pa.string()) for name in names})
    if len(kept):
        # One thread, because only then does Arrow know the number of a row that it sets aside.
        read = pa.csv.ReadOptions(column_names=names, block_size=_BLOCK, use_threads=False)
        options = _options(lines, names, dict.fromkeys(names, pa.string()))
        options["parse_options"].invalid_row_handler = set_aside
        try:
            table = pa.csv.read_csv(pa.BufferReader(_join(lines, good)), read_options=read, **options)
        except pa.ArrowInvalid:
            # Arrow gives up on a body without a single row of the right width.
            table = table.slice(0, 0)
            wrong = []
    for row in wrong:
        at = int(kept[row.number - 1])
        good[at] = False
        _refuse_line(file, lines, at, f"{row.actual_columns} columns", f"{row.expected_columns} columns", refusals)
    if table.num_rows != good.sum():
        for at in map(int, np.flatnonzero(good)):
            count = len(lines.values(lines.raw(at).decode("utf-8")))
            if count != len(names):
                good[at] = False
                _refuse_line(file, lines, at, f"{count} columns", f"{len(names)} columns", refusals)
    by_name: dict[str, Column] = {}
    faults: list[Fault] = []
    for field in fields:
        column, fault = converted(table[field.name].combine_chunks(), field)
        if field.name == _TRAILING:
            rows = np.flatnonzero(~column.null & (np.array([bool(w.strip()) for w in column.words] or [False])[column.data]))
            fault = [Fault(rows, _TRAILING, "nothing after the comma at the end of the line")] if len(rows) else []
        else:
            by_name[field.name] = column
        faults.extend(fault)
    return np.flatnonzero(good) + lines.first_line, by_name, faults


def converted(values: pa.Array, field: Field) -> tuple[Column, list[Fault]]:
    """(column, faults): a text column converted to its kind; values that cannot be converted are faults and count as empty."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], pa.string())
    if field.kind is Kind.TEXT:
        return from_arrow(values.dictionary_encode(), field.kind), []
    values = pc.utf8_trim_whitespace(values)
    empty = pc.or_kleene(pc.is_null(values), pc.equal(values, ""))
    right = pc.and_(pc.fill_null(pc.match_substring_regex(values, _TRUE[field.kind]), False), pc.invert(pc.fill_null(empty, True)))
    if field.kind is Kind.INT:
        right = pc.and_(right, pc.fill_null(_fits_int64(values), False))
    good = pc.if_else(right, values, pa.scalar(None, pa.string()))
    column = from_arrow(_nanoseconds(good) if field.kind is Kind.TIMESTAMP else _numbers(good, field.kind), field.kind)
    bad = bools(pc.invert(pc.or_(right, pc.fill_null(empty, True))))
    # A value that is wrong must not be refused once more for being empty.
    column = Column(column.data, column.null & ~bad)
    rows = np.flatnonzero(bad)
    return column, ([Fault(rows, field.name, field.expected)] if len(rows) else [])


def _numbers(values: pa.Array, kind: Kind) -> pa.Array:
    """Texts that look like numbers of a kind as numbers; Arrow takes no plus before a whole one."""
    return pc.cast(pc.replace_substring_regex(values, r"^\+", "") if kind is Kind.INT else values, kind.arrow)


def _nanoseconds(values: pa.Array) -> pa.Array:
    """Texts that are times, with an offset or without (then UTC), as nanoseconds since 1970."""
    offset = pc.fill_null(pc.match_substring_regex(values, _OFFSET + "$"), False)
    nothing = pa.scalar(None, pa.string())
    parts = (
        pc.cast(pc.if_else(offset, values, nothing), pa.timestamp("ns", "UTC")),
        pc.cast(pc.if_else(offset, nothing, values), pa.timestamp("ns")),
    )
    return pc.coalesce(*(part.cast(pa.int64()) for part in parts))


def _fits_int64(values: pa.Array) -> pa.Array:
    digits = pc.replace_substring_regex(values, r"^[+-]?0*", "")
    length = pc.utf8_length(digits)
    return pc.or_(pc.less(length, 19), pc.and_(pc.equal(length, 19), pc.less_equal(digits, "9223372036854775807")))


def _broken_lines(lines: _Lines) -> list[tuple[int, str, str]]:
    """Lines that are not CSV at all, as (index, found, expected)."""
    data, starts = lines.data, lines.starts
    broken: list[tuple[int, str, str]] = []
    lengths = np.diff(starts)
    short = np.flatnonzero(lengths <= 2)
    broken += [(int(i), "an empty line", "a row") for i in short if not lines.raw(int(i))]
    broken += [
        (int(i), f"{lengths[i]} bytes", f"at most {MAX_LINE_BYTES} bytes a line") for i in np.flatnonzero(lengths > MAX_LINE_BYTES)
    ]
    broken += [(i, f"the byte 0x{data[at]:02x}", "UTF-8 text") for i, at in _not_utf8(data, starts)]
    array = np.frombuffer(data, np.uint8)
    nul = np.flatnonzero(array[lines.body_at :] == 0) + lines.body_at
    broken += [(int(i), "the byte 0x00", "text") for i in np.unique(np.searchsorted(starts, nul, side="right") - 1)]
    returns = np.flatnonzero(array[lines.body_at : -1] == 13) + lines.body_at
    lone = returns[array[returns + 1] != 10]
    broken += [
        (int(i), "a carriage return inside the line", "line ends LF or CR LF")
        for i in np.unique(np.searchsorted(starts, lone, side="right") - 1)
    ]
    if lines.quoted:
        quotes = np.add.reduceat((array == 34).astype(np.int64), starts[:-1])
        broken += [(int(i), "an unclosed quote", "quotes in pairs") for i in np.flatnonzero(quotes % 2)]
    return broken


def _not_utf8(data: bytes, starts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """(line index, offset) of the first byte that is not UTF-8 in each line that has one."""
    found: list[tuple[int, int]] = []
    first = 0
    while first < len(starts) - 1:
        # Windows of whole lines: a decoding error copies its input, so one window is what a bad line may cost.
        last = max(int(np.searchsorted(starts, starts[first] + _WINDOW, side="right")) - 1, first + 1)
        if _first_bad_byte(data[starts[first] : starts[last]]) is not None:
            for index in range(first, last):
                at = _first_bad_byte(data[starts[index] : starts[index + 1]])
                if at is not None:
                    found.append((index, int(starts[index]) + at))
        first = last
    return found


def _first_bad_byte(data: bytes) -> int | None:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start
    return None


def _join(lines: _Lines, good: NDArray[np.bool_]) -> bytes:
    """The bytes of the good lines."""
    if good.all():
        return lines.data[lines.body_at :]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], good.astype(np.int8), [0]))))
    return b"".join(lines.data[lines.starts[a] : lines.starts[b]] for a, b in edges.reshape(-1, 2))


def _refuse_line(file: str, lines: _Lines, index: int, found: str, expected: str, refusals: Refusals) -> None:
    row = lines.raw(index).decode("utf-8", "backslashreplace")
    refusals.add(BadRow(file=file, line=index + lines.first_line, column="", found=found, expected=expected), row[:MAX_LINE_BYTES])
