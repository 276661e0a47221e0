"""Printing of results: rows as table, wide table, JSON, YAML or CSV. Data goes to stdout, messages to people go to stderr.

On a terminal a table is fitted to the width: columns of the lowest priority are dropped first, then the widest texts are cut with an
ellipsis. In a file or a pipe nothing is dropped or cut. Names are printed literally: Rich markup and terminal control sequences inside
them have no effect. JSON and YAML carry whole rows, so scripts see every key in full precision.
"""

from __future__ import annotations

import csv
import datetime
import enum
import json
import math
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from tango.analysis.compared_metrics import NOTHING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

OUTPUTS = ("table", "wide", "json", "yaml", "csv")
"""Every value that `-o` can take; a command may offer fewer."""

# C0 and C1 controls but for tab and newline, and Unicode's bidirectional overrides and isolates, which can reorder the text after them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class ListColumn:
    """One column of a listing: which key of the rows it shows, and how."""

    key: str
    _: KW_ONLY
    title: str = ""
    """Heading; empty: the key, with spaces for underscores."""
    show: Callable[[Any], str] | None = None
    """Formats a value for tables; never called with None or NaN. None: the default format."""
    priority: int = 5
    """0 to 10. On a narrow terminal columns of the lowest number are dropped first; 10 is never dropped."""
    justify: Literal["left", "right"] = "left"
    style: str = ""
    """A Rich style such as `red`; empty: none."""
    wide: bool = False
    """Shown only by `-o wide` and in CSV."""
    paint: Callable[[Text], object] | None = None
    """Gives parts of a cell's text styles of their own, on a terminal."""

    @property
    def heading(self) -> str:
        """The text above the column."""
        return self.title or self.key.replace("_", " ")

    def text(self, row: Mapping[str, Any]) -> str:
        """The text of a row's cell, without control characters."""
        value = row.get(self.key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        return printable(self.show(value) if self.show else _plain_text(value))


def output_option(*, default: str = "table", formats: Sequence[str] = ("table", "wide", "json", "yaml")) -> Callable[[_F], _F]:
    """Decorator that adds the option `-o/--output`; the command receives the chosen format as the argument `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(list(formats)), default=default, show_default=True, help="How to print the result."
    )


def printable(text: str) -> str:
    """The text with each control character replaced by U+FFFD; they could move the cursor, change colours or reverse a name."""
    return _CONTROL.sub("�", text)


def stdout_console() -> Console:
    """A Rich console on stdout. It colours only on a terminal and never with NO_COLOR; a file or a pipe has no width limit."""
    from rich.console import Console

    class DataConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # Rich would exit with 1 here; `tango.cli.failures` turns a closed pipe into its conventional status 141

    console = DataConsole(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


def stderr_console() -> Console:
    """A Rich console on stderr, for progress, hints, warnings and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(message: str) -> None:
    """Print a message for the user on stderr."""
    print(printable(message), file=sys.stderr)


def plain(value: Any) -> Any:
    """The value built of JSON's types: NumPy arrays become lists, dataclasses dicts, dates ISO 8601 texts, NaN and infinity None.

    A whole `Decimal` becomes an int, any other a float. What is of no known type becomes its `str`.
    """
    # Enums come first: a StrEnum is a str and an IntEnum an int, and PyYAML's safe dumper refuses both.
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return plain(int(value) if value.is_finite() and value == value.to_integral_value() else float(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    return str(value)


def instant(unix_s: float) -> str:
    """A Unix time as text, in UTC."""
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC).isoformat(timespec="seconds")


def share(value: float) -> str:
    """A share of one as per cent."""
    return f"{100 * value:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as a person says them: `8.2 s`, `12 min 3 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, unit, part_size, part in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part_size} {part}"
    return f"{whole} s"


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[ListColumn],
    output: str,
    *,
    wide_columns: Sequence[ListColumn] = (),
    empty: str = "Nothing to show.",
) -> None:
    """Print a listing on stdout in the format `output`, one of `OUTPUTS`.

    `wide` and `csv` show the wide columns and `wide_columns` too; JSON and YAML print whole rows, whatever the columns are. What does not
    fit a terminal is named on stderr. An empty listing prints the message `empty` on stderr in place of a table, and `[]` as JSON or YAML.
    """
    if output in ("json", "yaml"):
        _print_data([plain(row) for row in rows], output)
    elif output == "csv":
        _print_csv(rows, [*columns, *wide_columns])
    elif not rows:
        say(empty)
    else:
        console = stdout_console()
        shown = [*columns, *wide_columns] if output == "wide" else [column for column in columns if not column.wide]
        table = fitting_table(rows, shown, width=console.width)
        print_table(console, table)
        there = {str(column.header) for column in table.columns}
        if missing := [column.heading for column in shown if column.heading not in there]:
            say(f"left out, as they did not fit: {', '.join(missing)} (a wider terminal, or -o json, has them)")


def print_pieces(pieces: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[ListColumn], output: str) -> None:
    """Print a listing that may be too long to be held: CSV, JSON and YAML are written piece by piece, a table when all is there.

    An end in the middle, as by an error, leaves JSON that does not parse: nobody can take a part for the whole.
    """
    if output == "csv":
        _print_csv((), columns)
        for piece in pieces:
            _print_csv(piece, columns, heading=False)
    elif output == "json":
        separator = "[\n"
        for piece in pieces:
            for row in piece:
                text = json.dumps(plain(row), ensure_ascii=False, indent=2, allow_nan=False)
                sys.stdout.write(separator + "  " + text.replace("\n", "\n  "))
                separator = ",\n"
        sys.stdout.write("[]\n" if separator == "[\n" else "\n]\n")
    elif output == "yaml":
        empty = True
        for piece in pieces:
            _print_data([plain(row) for row in piece], output)
            empty = False
        if empty:
            _print_data([], output)
    else:
        print_rows([row for piece in pieces for row in piece], columns, output)


def print_mapping(record: Mapping[str, Any], output: str, *, shares: Collection[str] = ()) -> None:
    """Print one record on stdout: one object in JSON and YAML, one row in CSV, else a table of names and values, those of `shares` in per
    cent."""
    if output in ("json", "yaml"):
        _print_data(plain(record), output)
    elif output == "csv":
        _print_csv([record], [ListColumn(key) for key in record])
    else:
        shown = {key: share(record[key]) for key in shares if isinstance(record.get(key), float)}
        rows = [{"name": key, "value": shown.get(key, value)} for key, value in record.items()]
        print_rows(rows, (ListColumn("name", priority=10), ListColumn("value", priority=10)), "table")


def fitting_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[ListColumn], *, width: int) -> Table:
    """A Rich table for a terminal of `width` character cells; columns that do not fit are dropped, lowest priority first.

    Columns of priority 10 stay even if they are too wide; Rich then cuts their texts when it prints.
    """
    from rich.cells import cell_len

    cells = {c.key: [c.text(row) for row in rows] for c in columns}
    widths = {c.key: max(cell_len(c.heading), *(cell_len(text) for text in cells[c.key])) for c in columns}
    kept = list(columns)
    while sum(widths[c.key] + 2 for c in kept) - 2 > width and any(c.priority < 10 for c in kept):
        # Of several columns of the lowest priority the rightmost goes first, since `min` takes the first it meets.
        kept.remove(min(reversed(kept), key=lambda c: c.priority))
    if not kept:
        kept = list(columns[:1])
    return _rich_table(kept, cells, len(rows))


def print_table(console: Console, table: Table) -> None:
    """Print a table with one line for each row; on a terminal what is too long is cut."""
    if console.is_terminal:
        console.print(table, no_wrap=True, overflow="ellipsis", crop=True)
        return
    with console.capture() as whole:
        console.print(table, no_wrap=True, overflow="ellipsis", crop=False)
    for line in whole.get().removesuffix("\n").split("\n"):  # in a file or a pipe without the blanks that fill up the last column
        print(line.rstrip(), file=console.file)


def _rich_table(columns: Sequence[ListColumn], cells: Mapping[str, Sequence[str]], count: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(Text(column.heading), justify=column.justify, style=column.style, no_wrap=True, overflow="ellipsis")
    for index in range(count):
        texts = [Text(cells[column.key][index]) for column in columns]
        for column, text in zip(columns, texts, strict=True):
            if column.paint is not None:
                column.paint(text)
        table.add_row(*texts)
    return table


def _plain_text(value: Any) -> str:
    simple = plain(value)
    if isinstance(simple, bool):
        return "yes" if simple else "no"
    if isinstance(simple, float):
        return f"{simple:.4g}" if abs(simple) < 1000 else f"{simple:,.0f}"
    if isinstance(simple, (list, dict)):
        return json.dumps(simple, ensure_ascii=False)
    return str(simple)


def _print_data(data: Any, output: str) -> None:
    if output == "json":
        text = json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)
    else:
        import yaml

        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True).rstrip("\n")
    sys.stdout.write(text + "\n")


def _print_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[ListColumn], *, heading: bool = True) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if heading:
        writer.writerow([column.key for column in columns])
    for row in rows:
        values = [plain(row.get(column.key)) for column in columns]
        writer.writerow(
            ["" if v is None else json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for v in values]
        )
