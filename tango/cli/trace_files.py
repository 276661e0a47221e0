"""What commands that read trace files share: what they take of a trace, and the check that they do not overwrite it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tango.cli.output import say
from tango.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tango.traces.transforms import TraceSelection


def map_option(name: str = "--map", *, of: str = "the files") -> Callable[[Any], Any]:
    """The option by which any table is read as a trace; several give parts of one map."""
    return click.option(
        name,
        name.removeprefix("--").replace("-", "_"),
        multiple=True,
        metavar="COLUMN=EXPRESSION,...",
        help=f"Read any CSV, JSON lines or Parquet: Tango's columns as expressions over those of {of}.",
    )


def map_of(options: Mapping[str, Any], name: str = "map") -> str:
    """The map that the options give together; empty without any."""
    return ",".join(options[name])


def require_other_file(written: Path, read: Iterable[str | Path]) -> None:
    """Raises: UsageError if `written` is one of the files in `read`, also under another name such as a symbolic link."""
    if written.exists() and any(Path(path).exists() and written.samefile(path) for path in read):
        raise UsageError(f"{written} is the trace that is read; name another file to write, or it would be lost")


def say_notes(notes: Iterable[str]) -> None:
    """What a reading has to say of its trace, on stderr."""
    for note in notes:
        say(f"note: {note}")


def selection_of(options: Mapping[str, Any]) -> TraceSelection:
    """What --from, --to, --thin, --work-scale, --lc-work-s and --be-work-s ask for; an option that is None keeps its default."""
    from tango.traces.transforms import TraceSelection

    names = (field.name for field in dataclasses.fields(TraceSelection))
    return TraceSelection(**{name: options[name] for name in names if options[name] is not None})
