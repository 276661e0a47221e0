"""Trace files as bytes: finds them by paths and globs, decompresses gzip (recognised by content), salvages cut gzip streams."""

from __future__ import annotations

import glob
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from tango.errors import BadRow, BadRows

MAX_BYTES = 2 << 30
"""Largest size of one file after decompression. Longer traces come in parts (Google's 2011 trace in 500 files); the limit also stops a
decompression bomb."""

_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_PARQUET = b"PAR1"


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

    @property
    def form(self) -> Form:
        """How its rows are written, told by the first bytes: what is neither Parquet nor begins with `{` is taken as CSV."""
        if self.data.startswith(_PARQUET):
            return Form.PARQUET
        return Form.JSON_LINES if self.data[:_CHUNK].lstrip().startswith(b"{") else Form.CSV


def expand(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """The files meant by paths and glob patterns, each once, the matches of a pattern in order of name.

    Raises: BadRows for a pattern without a match, a missing file or a folder.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if path.is_dir():
            raise file_refused(str(given), "a folder", "a trace file or a glob of files")
        if path.exists():
            found[path] = None
            continue
        matches = [Path(match) for match in sorted(glob.glob(str(given)))]
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise file_refused(str(given), "no such file", "a trace file or a glob that matches some")
        found.update(dict.fromkeys(matches))
    return tuple(found)


def read_content(path: Path, *, salvage: bool = False) -> Content:
    """The bytes of a file, decompressed where they are gzip (also several members).

    With `salvage` a gzip stream that ends early or is corrupt gives its whole lines before the cut; else it is refused.
    Raises: BadRows for a file that is empty, unreadable, cut or larger than `MAX_BYTES`.
    """
    file = str(path)
    try:
        raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except OSError as error:
        raise file_refused(file, f"a file that cannot be read ({error.strerror})", "a readable file") from error
    if raw is None:
        raise file_refused(file, f"more than {MAX_BYTES} bytes", "smaller parts")
    data, cut = _inflate(raw, file) if raw.startswith(_GZIP) else (raw, "")
    if cut:
        lines = data.count(b"\n")
        if not salvage:
            row = BadRow(file=file, line=lines + 1, column="", found=cut, expected="a complete gzip stream")
            raise BadRows([row], remedy="--skip-bad FILE takes the rows before the cut")
        data = data[: data.rfind(b"\n") + 1]
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.endswith((b"\n\n", b"\n\r\n")):
        data = data.rstrip(b"\r\n")
    if not data.strip():
        raise file_refused(file, "an empty file", "rows of a trace")
    return Content(file, data, cut)


def file_refused(file: str, found: str, expected: str) -> BadRows:
    """An error that refuses a file as a whole; to be raised by the caller."""
    return BadRows([BadRow(file=file, line=0, column="", found=found, expected=expected)])


def _inflate(raw: bytes, file: str) -> tuple[bytes, str]:
    """Decompressed bytes, and why the stream broke off (empty if it did not)."""
    parts: list[bytes] = []
    size = 0
    view = memoryview(raw)
    position = 0
    while position < len(raw):
        stream = zlib.decompressobj(wbits=31)
        try:
            while not stream.eof and position < len(raw):
                chunk = stream.decompress(stream.unconsumed_tail or view[position : position + _CHUNK], 16 * _CHUNK)
                if not stream.unconsumed_tail:
                    position += _CHUNK
                parts.append(chunk)
                size += len(chunk)
                if size > MAX_BYTES:
                    raise file_refused(file, f"more than {MAX_BYTES} bytes after decompression", "smaller parts")
        except zlib.error as error:
            return b"".join(parts), f"a corrupt gzip stream ({error})"
        if not stream.eof:
            return b"".join(parts), "a gzip stream that ends early"
        position = min(position, len(raw)) - len(stream.unused_data)
        if not bytes(view[position:]).strip(b"\0"):
            break
        if raw[position : position + 2] != _GZIP:
            return b"".join(parts), "other data after the gzip stream"
    return b"".join(parts), ""
