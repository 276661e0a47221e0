"""Trace files as bytes: finds them by paths and globs, takes away their compressions, salvages streams that are cut."""

from __future__ import annotations

import codecs
import contextlib
import glob
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tango.errors import BadRow, BadRows
from tango.traces.compression import READ_AT_ONCE, NotOneFile, TooLarge, unpacked

MAX_BYTES = 2 << 30
"""Largest size of one file after decompression. Longer traces come in parts (Google's 2011 trace in 500 files); the limit also stops a
decompression bomb."""

STDIN = Path("-")
"""Stands for standard input, as in most commands."""

_PARQUET = b"PAR1"
_OF_16_OR_32_BITS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
"""What such texts begin with; UTF-32 in little-endian order begins as UTF-16 does."""


class Form(Enum):
    """How rows are written in a file."""

    CSV = "CSV"
    JSON_LINES = "JSON lines"
    PARQUET = "Parquet"


@dataclass(frozen=True, slots=True)
class Content:
    """One file, decompressed."""

    file: str
    data: bytes
    cut: str = ""
    """Why the compressed stream could not be read to its end; empty when it could. A cut file's `data` ends with its last whole line."""
    whole: str = ""
    """What was expected in place of what `cut` says."""

    @property
    def form(self) -> Form:
        """How its rows are written, told by the first bytes: what is neither Parquet nor begins with `{` is taken as CSV."""
        if self.data.startswith(_PARQUET):
            return Form.PARQUET
        return Form.JSON_LINES if self.data[:READ_AT_ONCE].lstrip().startswith(b"{") else Form.CSV


def expand(paths: Iterable[str | Path], *, stdin: bool = False) -> tuple[Path, ...]:
    """The files meant by paths and glob patterns, the matches of a pattern in order of name; with `stdin`, `-` is standard input.

    Each file stands there once, also where two paths lead to it (`a.csv`, `./a.csv`, a link): its requests would count twice.
    Raises: BadRows for a pattern without a match, a missing file or a folder.
    """
    found: dict[object, Path] = {}
    for given in paths:
        path = Path(given)
        if stdin and path == STDIN:
            found.setdefault(STDIN, STDIN)
            continue
        if path.is_dir():
            raise file_refused(str(given), "a folder", "a trace file or a glob of files")
        matches = [path] if path.exists() else [Path(match) for match in sorted(glob.glob(str(given)))]
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise file_refused(str(given), "no such file", "a trace file or a glob that matches some")
        for match in matches:
            found.setdefault(_identity(match), match)
    return tuple(found.values())


def same_files(some: Iterable[str | Path], others: Iterable[str | Path]) -> bool:
    """Whether both mean the same files in the same order, by whatever paths. Raises: as `expand`."""
    return [_identity(path) for path in expand(some)] == [_identity(path) for path in expand(others)]


def _identity(path: Path) -> object:
    """What two paths to one file have in common."""
    try:
        known = os.stat(path)
    except OSError:  # a link to nowhere that a pattern matches: reading says so
        return path
    return known.st_dev, known.st_ino


def read_content(path: Path, *, salvage: bool = False) -> Content:
    """The bytes of a file, or of standard input for `-`, without their compressions (`compression`).

    With `salvage` a stream that ends early or is corrupt gives its whole lines before the cut; else it is refused.
    Raises: BadRows for a file that is empty, unreadable, cut, larger than `MAX_BYTES`, or an archive of several files.
    """
    file = str(path)
    try:
        raw = _raw(path)
    except OSError as error:
        raise file_refused(file, f"a file that cannot be read ({error.strerror})", "a readable file") from error
    if raw is None:
        raise file_refused(file, f"more than {MAX_BYTES} bytes", "smaller parts")
    try:
        found = unpacked(raw, most=MAX_BYTES)
    except TooLarge as error:
        raise file_refused(file, f"more than {MAX_BYTES} bytes after decompression", "smaller parts") from error
    except NotOneFile as error:
        raise file_refused(file, error.found, error.expected) from error
    data = found.data
    if found.cut:
        lines = data.count(b"\n")
        if not salvage:
            row = BadRow(file=file, line=lines + 1, column="", found=found.cut, expected=found.whole)
            raise BadRows([row], remedy="--skip-bad FILE takes the rows before the cut")
        data = data[: data.rfind(b"\n") + 1]
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.startswith(_PARQUET):
        _require_lines_of_utf8(data, file)
    if data.endswith((b"\n\n", b"\n\r\n")):
        data = data.rstrip(b"\r\n")
    if not data.strip():
        raise file_refused(file, "an empty file", "rows of a trace")
    return Content(file, data, found.cut, found.whole)


def _require_lines_of_utf8(data: bytes, file: str) -> None:
    """Raises: BadRows for text in UTF-16 or UTF-32, as Windows writes it, and for lines that end in carriage returns alone."""
    head = data[:READ_AT_ONCE]
    zeros = sorted((head[0::2].count(0), head[1::2].count(0)))
    # Without a mark at its beginning, most of one byte of two are zero and none of the other.
    if head.startswith(_OF_16_OR_32_BITS) or (4 * zeros[1] > len(head) and not zeros[0]):
        raise file_refused(file, "text in UTF-16 or UTF-32", "UTF-8; `iconv -f UTF-16 -t UTF-8 FILE` makes it from UTF-16")
    if b"\r" in head and b"\n" not in data:
        raise file_refused(file, "lines that end in carriage returns alone", "line feeds; `tr '\\r' '\\n' < FILE` makes them")


def _raw(path: Path) -> bytes | None:
    """The bytes as they are; None for more than `MAX_BYTES`. Raises: OSError."""
    if path != STDIN and path.is_file():
        return path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    # What has no size may have no end.
    parts, size = [], 0
    with contextlib.nullcontext(sys.stdin.buffer) if path == STDIN else path.open("rb") as stream:
        while piece := stream.read(READ_AT_ONCE):
            parts.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                return None
    return b"".join(parts)


def file_refused(file: str, found: str, expected: str) -> BadRows:
    """An error that refuses a file as a whole; to be raised by the caller."""
    return BadRows([BadRow(file=file, line=0, column="", found=found, expected=expected)])
