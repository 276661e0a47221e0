"""What commands that read trace files share: what they take of a trace, and the check that they do not overwrite it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tango.cli.output import say
from tango.errors import UsageError

if TYPE_CHECKING:
    from tango.traces.transforms import TraceSelection


def require_other_file(written: Path, read: Iterable[str | Path]) -> None:
    """Raises: UsageError if `written` is one of the files in `read`, also under another name such as a symbolic link."""
    if written.exists() and any(Path(path).exists() and written.samefile(path) for path in read):
        raise UsageError(f"{written} is the trace that is read; name another file to write, or it would be lost")


def say_notes(notes: Iterable[str]) -> None:
    """What a reading has to say of its trace, on stderr."""
    for note in notes:
        say(f"note: {note}")


def one_source(lc: tuple[str, ...], be: tuple[str, ...]) -> tuple[str, ...]:
    """The BE source, under the paths of the LC source where both mean the same files: one file keeps its mix, by whatever paths.

    Raises: BadRows for files that there are not.
    """
    from tango.traces.files import same_files
    from tango.traces.workloads import is_pattern

    if not (lc and be) or lc == be or is_pattern(lc) or is_pattern(be):
        return be
    return lc if same_files(lc, be) else be


def selection_of(options: Mapping[str, Any]) -> TraceSelection:
    """What --from, --to, --thin, --work-scale, --lc-work-s and --be-work-s ask for; an option that is None keeps its default."""
    from tango.traces.transforms import TraceSelection

    names = (field.name for field in dataclasses.fields(TraceSelection))
    return TraceSelection(**{name: options[name] for name in names if options[name] is not None})
