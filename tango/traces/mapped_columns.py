"""Reads any table as a trace by a map: CSV, JSON lines or Parquet whose columns are not those of a known format.

    file ─► the columns that the map names ─► expressions ─► Tango's own columns ─► checked as a file of Tango's own is

Rows may come in any order and times have any beginning: seconds count from the first arrival of all files.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from tango.domain.fleet import Fleet
from tango.domain.services import ServiceClass
from tango.domain.trace import Trace
from tango.errors import BadRow, BadRows
from tango.traces import own_format
from tango.traces.column_map import ColumnMap, Expression, column_map
from tango.traces.columns import Column, Columns, Fault, checked, from_arrow
from tango.traces.csv_columns import delimiter_of, names_in_first_line, read_csv
from tango.traces.expression_values import Evaluation, Misused, Wrong, require_columns
from tango.traces.file_columns import FileColumn
from tango.traces.files import Content, Form, file_refused
from tango.traces.refusals import Refusals
from tango.traces.schema import MAX_WORK_S, TEN_YEARS_S, UNTIL_2200_NS, Field, Kind, Schema
from tango.traces.structured_columns import UNREADABLE, read_json_lines
from tango.traces.trace_format import Sign, TraceFormat

NAME = "mapped"
"""What a reading by a map gives as its format."""
_NUMBERED = re.compile(r"c[1-9][0-9]{0,3}")
"""Names of columns by number, for CSV without a header."""
_MOST_DEEP_RECORDS = 8
"""Records within records in which columns of Parquet are looked for."""
_LATEST_S = UNTIL_2200_NS / 1e9


def mapped_format(text: str) -> TraceFormat:
    """The format of files that a map makes a trace of. Raises: UsageError for what is no map."""
    columns = column_map(text)
    return TraceFormat(
        name=NAME,
        recognised=lambda _head: Sign.NONE,
        schema_of=lambda _content, fleet: _schema(fleet),
        content_of=trace_of,
        forms=frozenset(Form),
        notes_of=partial(_notes, columns),
        read_part=partial(read_mapped, columns),
    )


def trace_of(parts: list[Columns], source: str) -> Trace:
    """The requests of all parts in order, in seconds from the first. Raises: BadRows where that is longer than a trace can be."""
    trace = own_format.trace_of(parts, source)
    if trace.span_s > TEN_YEARS_S:
        found = f"arrivals over {trace.span_s:.6g} s"
        raise file_refused(
            source, found, f"at most {TEN_YEARS_S:g} s; arrival_s is in seconds, and seconds(X, 'ms') makes them of ms"
        )
    if not len(trace):
        return trace
    known_s = np.where(trace.cpu_work_s == 0, np.nan, trace.cpu_work_s)
    return dataclasses.replace(trace, arrival_s=trace.arrival_s - trace.arrival_s[0], cpu_work_s=known_s)


def _notes(columns: ColumnMap, parts: list[Columns]) -> tuple[str, ...]:
    notes = [] if columns.gives("class") else ["the map gives no class: all requests are LC"]
    if none := sum(int(np.count_nonzero(part.floats("cpu_work_s") == 0)) for part in parts):
        notes.append(f"{none} works of 0 count as unknown: they are drawn from the services")
    return tuple(notes)


def read_mapped(columns: ColumnMap, content: Content, fleet: Fleet | None, refusals: Refusals) -> Columns:
    """Tango's own columns of one file; rows without a value that can be used go to `refusals`.

    Raises: BadRows for a column that the file does not have, and for a text where only a number can be.
    """
    table = _table(columns, content, refusals)
    n = len(table.line)
    computed: dict[str, Column] = {}
    wrongs: list[tuple[Expression, Wrong]] = []
    for expression in columns.expressions:
        evaluation = Evaluation(expression, table.columns, n)
        try:
            computed[expression.column] = _column(evaluation)
        except Misused as misused:
            raise _refused(content, expression, misused) from misused
        wrongs += [(expression, wrong) for wrong in evaluation.wrong]
    if "class" not in computed:
        computed["class"] = Column(np.zeros(n, np.int32), np.zeros(n, bool), (ServiceClass.LC.label,))
    faults = [Fault(wrong.rows, expression.column, wrong.expected) for expression, wrong in wrongs]
    text = _Messages(content, table, columns, computed, wrongs)
    return checked(content.file, _schema(fleet), table.line, computed, faults, text, refusals)


def _column(evaluation: Evaluation) -> Column:
    """The values of an expression as a column. Raises: Misused."""
    if own_format.schema().kind_of(evaluation.of.column) is Kind.FLOAT:
        numbers = evaluation.as_numbers()
        return Column(numbers, np.isnan(numbers))
    texts = evaluation.as_texts()
    empty = pc.equal(texts, "")
    return from_arrow(pc.if_else(empty, pa.scalar(None, pa.string()), texts).dictionary_encode(), Kind.TEXT)


def _schema(fleet: Fleet | None) -> Schema:
    """Tango's own, but for arrivals, which may begin anywhere and come in any order, and for works of 0, which other tables have."""
    own = own_format.schema(fleet)
    bounds = {own.ordered_by: (-_LATEST_S, _LATEST_S), "cpu_work_s": (0.0, MAX_WORK_S)}
    fields = (
        dataclasses.replace(of, low=bounds[of.name][0], high=bounds[of.name][1]) if of.name in bounds else of for of in own.fields
    )
    return dataclasses.replace(own, format=NAME, fields=tuple(fields), ordered_by="")


def _refused(content: Content, expression: Expression, misused: Misused) -> BadRows:
    return BadRows([BadRow(file=content.file, line=0, column=expression.column, found=misused.found, expected=misused.expected)])


# ---- the file's own columns ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Table:
    """What a map reads of a file."""

    line: NDArray[np.int64]
    columns: dict[str, FileColumn]


def _table(columns: ColumnMap, content: Content, refusals: Refusals) -> _Table:
    if content.form is Form.PARQUET:
        return _of_parquet(columns, content)
    if content.form is Form.JSON_LINES:
        fields = tuple(
            Field(name, Kind.TEXT, in_header=False, path=tuple(name.split(".")) if "." in name else ()) for name in columns.columns
        )
        read = read_json_lines(content, Schema(NAME, fields, header=True, extra_columns=True), refusals)
        _require(columns, content, tuple(read.by_name))
    else:
        read = read_csv(content, _csv_schema(columns, content), refusals)
    return _Table(read.line, {name: FileColumn(name, _as_arrow(column)) for name, column in read.by_name.items()})


def _csv_schema(columns: ColumnMap, content: Content) -> Schema:
    """The columns by the names in the first line; by their numbers where the map names only such and the first line does not have them."""
    delimiter = delimiter_of(content)
    first = names_in_first_line(content, delimiter)
    numbers = tuple(f"c{k + 1}" for k in range(len(first)))
    numbered = all(_NUMBERED.fullmatch(name) for name in columns.columns) and not set(columns.columns) <= set(first)
    _require(columns, content, numbers if numbered else tuple(first))
    names = numbers if numbered else columns.columns
    fields = tuple(Field(name, Kind.TEXT, kept=name in columns.columns) for name in names)
    return Schema(NAME, fields, header=not numbered, extra_columns=True, delimiter=delimiter)


def _require(columns: ColumnMap, content: Content, there: tuple[str, ...]) -> None:
    """Raises: BadRows for the first column of the map that the file does not have."""
    for expression in columns.expressions:
        try:
            require_columns(expression, ColumnMap("", (expression,)).columns, there)
        except Misused as misused:
            raise _refused(content, expression, misused) from misused


def _as_arrow(column: Column) -> pa.Array:
    codes = pa.array(column.data.astype(np.int32), mask=column.null)
    return pa.DictionaryArray.from_arrays(codes, pa.array(column.words, pa.string()))


def _of_parquet(columns: ColumnMap, content: Content) -> _Table:
    """Columns of Parquet with their types; those within records are named with dots."""
    try:
        table = _flat(columns, content)
    except UNREADABLE as error:
        raise file_refused(
            content.file, f"a Parquet file that cannot be read ({str(error)[:120]})", "a whole Parquet file"
        ) from error
    _require(columns, content, tuple(table.column_names))
    found: dict[str, FileColumn] = {}
    for name in columns.columns:
        if table.column_names.count(name) > 1:
            raise file_refused(content.file, f"two columns {name!r}", "each column once")
        values = table[name].unify_dictionaries()
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        if not _is_simple(values.type):
            refused = f"values of type {values.type}"
            raise BadRows([BadRow(file=content.file, line=0, column=name, found=refused, expected="numbers, texts or times")])
        found[name] = FileColumn(name, _as_simple(content, name, values))
    return _Table(np.arange(1, table.num_rows + 1), found)


def _flat(columns: ColumnMap, content: Content) -> pa.Table:
    """The named columns, and all of records with a named part, without records. Raises: an error of `UNREADABLE`."""
    source = pa.parquet.ParquetFile(pa.BufferReader(content.data))
    there = source.schema_arrow.names
    roots = {part for name in columns.columns for part in (name, name.split(".")[0])}
    # Where one that is named is missing, all are read, so that the refusal names what there is.
    is_whole = any(name not in there and name.split(".")[0] not in there for name in columns.columns)
    table = source.read(columns=None if is_whole else [name for name in dict.fromkeys(there) if name in roots])
    for _ in range(_MOST_DEEP_RECORDS):
        if not any(pa.types.is_struct(kind) for kind in table.schema.types):
            break
        table = table.flatten()
    return table


def _is_simple(kind: pa.DataType) -> bool:
    is_one_of = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_boolean,
        pa.types.is_timestamp,
        pa.types.is_duration,
        pa.types.is_date,
        pa.types.is_null,
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
    )
    return any(test(kind.value_type if pa.types.is_dictionary(kind) else kind) for test in is_one_of)


def _as_simple(content: Content, name: str, values: pa.Array) -> pa.Array:
    """Dictionaries of texts as they are, others and nothing as plain values; texts are held to be UTF-8, for which Arrow takes a word."""
    if pa.types.is_null(values.type):
        return values.cast(pa.string())
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type) or pa.types.is_decimal(values.type):
        return values
    try:
        values.validate(full=True)
    except pa.ArrowInvalid as error:
        raise file_refused(content.file, f"column {name}: {str(error)[:120]}", "texts in UTF-8") from error
    return values


# ---- messages ------------------------------------------------------------------------------------------------------------------


@dataclass
class _Messages:
    """What stands in a row, for refusals: (what was computed or could not be, the whole row)."""

    content: Content
    table: _Table
    columns: ColumnMap
    computed: dict[str, Column]
    wrongs: Sequence[tuple[Expression, Wrong]]

    def __call__(self, line: int, column: str) -> tuple[str, str]:
        row = int(np.searchsorted(self.table.line, line))
        return self._found(row, column), self._whole(row, line)

    def _found(self, row: int, column: str) -> str:
        for expression, wrong in self.wrongs:
            if expression.column == column and row in wrong.rows:
                return wrong.found(row)
        value = self.computed[column]
        shown = "" if value.null[row] else value.words[value.data[row]] if value.words else f"{value.data[row]:.15g}"
        written = next((e.text for e in self.columns.expressions if e.column == column), "")
        return f"{shown or 'nothing'} from {written}" if written else shown

    def _whole(self, row: int, line: int) -> str:
        if self.content.form is Form.PARQUET:
            return ", ".join(f"{name}={column.shown(row)}" for name, column in self.table.columns.items())
        begin, end = self._ends[line - 1 : line + 1]
        return self.content.data[begin:end].decode("utf-8", "replace").rstrip("\r\n")

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Where lines begin, and where the last one ends."""
        ends = np.flatnonzero(np.frombuffer(self.content.data, np.uint8) == ord("\n")) + 1
        return np.concatenate(([0], ends, [len(self.content.data)]))
