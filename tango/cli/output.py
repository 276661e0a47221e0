"""How commands print: rows as table, wide table, JSON, YAML or CSV. Data goes to stdout, talk to stderr.

A table on a terminal is made to fit: columns of the least priority are left out first, then the widest are cut with an ellipsis.
Where stdout is a file or a pipe nothing is left out or cut. Text is printed as text: neither Rich's markup nor a terminal's control
sequences in a name have any effect. JSON and YAML carry the rows as they are, so scripts see every key and full precision.
"""

from __future__ import annotations

import csv
import datetime
import enum
import json
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, is_dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

OUTPUTS = ("table", "wide", "json", "yaml", "csv")
NOTHING = "–"
"""Shown where a row has no value; JSON and YAML have null there."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a listing, by its key in the rows."""

    key: str
    _: KW_ONLY
    title: str = ""
    """Heading; the key where empty."""
    show: Callable[[Any], str] | None = None
    """How a value that is not None becomes text."""
    priority: int = 5
    """On a narrow terminal columns of the lowest number are left out first; 10 stays always."""
    justify: Literal["left", "right"] = "left"
    style: str = ""
    wide: bool = False
    """Only shown by `-o wide` and in CSV."""

    @property
    def heading(self) -> str:
        """What stands above it."""
        return self.title or self.key.replace("_", " ")

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of a row, safe to print."""
        value = row.get(self.key)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        return printable(self.show(value) if self.show else _plain_text(value))


def output_option(*, default: str = "table", formats: Sequence[str] = ("table", "wide", "json", "yaml")) -> Callable[[_F], _F]:
    """The option `-o/--output` of every listing, given to the command as `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(list(formats)), default=default, show_default=True, help="How to print the result."
    )


def printable(text: str) -> str:
    """The text without control characters, which would move the cursor, change colours or reverse a name."""
    return _CONTROL.sub("�", text)


def stdout_console() -> Console:
    """For data. Colours only on a terminal, and never with NO_COLOR; unlimited width elsewhere."""
    from rich.console import Console

    class DataConsole(Console):
        def on_broken_pipe(self) -> None:
            raise  # Rich would exit with 1 here; `tango.cli.failures` knows better

    console = DataConsole(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


def stderr_console() -> Console:
    """For talk: progress, hints, warnings, errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(message: str) -> None:
    """One remark to whoever sits there, on stderr."""
    print(printable(message), file=sys.stderr)


def plain(value: Any) -> Any:
    """A value as JSON knows it: NumPy scalars and arrays, enums, dates and dataclasses made simple, NaN and infinity null."""
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


def print_rows(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    output: str,
    *,
    wide_columns: Sequence[Column] = (),
    empty: str = "Nothing to show.",
) -> None:
    """Print a listing in the form the user asked for. `wide` and `csv` show wide columns too; JSON and YAML whole rows.

    An empty listing prints `empty` on stderr in place of a table, and `[]` for scripts.
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
        print_table(console, fitting_table(rows, shown, width=console.width))


def print_mapping(record: Mapping[str, Any], output: str) -> None:
    """Print one object: JSON and YAML as one, CSV as one row, else names and values in two columns."""
    if output in ("json", "yaml"):
        _print_data(plain(record), output)
    elif output == "csv":
        _print_csv([record], [Column(key) for key in record])
    else:
        rows = [{"name": key, "value": value} for key, value in record.items()]
        print_rows(rows, (Column("name", priority=10), Column("value", priority=10)), "table")


def fitting_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], *, width: int) -> Table:
    """A table of at most `width` cells: what does not fit is left out by priority, then cut with an ellipsis."""
    from rich.cells import cell_len

    cells = {c.key: [c.text(row) for row in rows] for c in columns}
    widths = {c.key: max(cell_len(c.heading), *(cell_len(text) for text in cells[c.key])) for c in columns}
    kept = list(columns)
    while sum(widths[c.key] + 2 for c in kept) - 2 > width and any(c.priority < 10 for c in kept):
        kept.remove(min(reversed(kept), key=lambda c: c.priority))
    if not kept:
        kept = list(columns[:1])
    return _rich_table(kept, cells, len(rows))


def print_table(console: Console, table: Table) -> None:
    """Print without ever wrapping a row."""
    console.print(table, no_wrap=True, overflow="ellipsis", crop=console.is_terminal)


def _rich_table(columns: Sequence[Column], cells: Mapping[str, Sequence[str]], count: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(Text(column.heading), justify=column.justify, style=column.style, no_wrap=True, overflow="ellipsis")
    for index in range(count):
        table.add_row(*(Text(cells[column.key][index]) for column in columns))
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


def _print_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        values = [plain(row.get(column.key)) for column in columns]
        writer.writerow(
            ["" if v is None else json.dumps(v, ensure_ascii=False) if isinstance(v, (list, dict)) else v for v in values]
        )
