"""Compressed trace files: gzip, zstd, xz and bzip2 streams and tar archives of one file, told by content and not by the name.

Every stream is read a piece at a time and within a bound, so that a file of some kilobytes cannot fill the memory.
"""

from __future__ import annotations

import bz2
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

READ_AT_ONCE = 1 << 20
"""Bytes of a file or stream that are taken at a time."""
_MOST_AT_ONCE = 16 << 20
"""Bytes that one step of a decompressor may give: a bound is looked at between steps."""
_LEVELS = 4
"""Most compressions around one table: a tar archive in gzip with a gzip file in it has three."""


class TooLarge(Exception):
    """More bytes came out than the bound allows."""


class NotOneFile(Exception):
    """An archive without a single file in it, or of a kind that is not read. Attributes: `found`, `expected`."""

    def __init__(self, found: str, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(f"{found}, expected {expected}")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What stood in a file, without its compressions."""

    data: bytes
    cut: str = ""
    """Why a stream could not be read to its end; empty when it could."""
    whole: str = ""
    """What a reader wants in place of `cut`, such as "a complete gzip stream"."""


def unpacked(raw: bytes, *, most: int) -> Unpacked:
    """The bytes without their compressions and their archive.

    Raises: TooLarge beyond `most` bytes; NotOneFile for an archive of several files or none, or of a kind that is not read.
    """
    found = Unpacked(raw)
    for _ in range(_LEVELS):
        step = _step(found, most)
        if step is None:
            return found
        found = step
    raise NotOneFile(f"a file that is packed more than {_LEVELS} times", "an unpacked one")


def _step(found: Unpacked, most: int) -> Unpacked | None:
    """One layer less; None where there is none."""
    data = found.data
    for name, magic, pieces in _STREAMS:
        if data.startswith(magic):
            inner, why = _joined(pieces(data), most)
            return Unpacked(inner, found.cut or why, found.whole or f"a complete {name} stream")
    for name, magic, remedy in _NOT_READ:
        if data.startswith(magic):
            raise NotOneFile(f"a {name} archive", remedy)
    return _of_tar(found) if data[257:262] == b"ustar" else None


def _joined(pieces: Iterator[bytes | str], most: int) -> tuple[bytes, str]:
    """(all bytes, why the stream broke off; empty if it did not)."""
    parts: list[bytes] = []
    size, why = 0, ""
    for piece in pieces:
        if isinstance(piece, str):
            why = piece
            break
        parts.append(piece)
        size += len(piece)
        if size > most:
            raise TooLarge
    return b"".join(parts), why


def _gzip(raw: bytes) -> Iterator[bytes | str]:
    """The pieces of a gzip file of one or more members; last, where it breaks off, why."""
    view = memoryview(raw)
    position = 0
    while position < len(raw):
        stream = zlib.decompressobj(wbits=31)
        try:
            while not stream.eof and position < len(raw):
                chunk = stream.decompress(stream.unconsumed_tail or view[position : position + READ_AT_ONCE], _MOST_AT_ONCE)
                if not stream.unconsumed_tail:
                    position += READ_AT_ONCE
                yield chunk
        except zlib.error as error:
            yield f"a corrupt gzip stream ({error})"
            return
        if not stream.eof:
            yield "a gzip stream that ends early"
            return
        position = min(position, len(raw)) - len(stream.unused_data)
        if _only_padding(view, position):
            return
        if raw[position : position + 2] != _GZIP:
            yield "other data after the gzip stream"
            return


def _only_padding(view: memoryview, position: int) -> bool:
    """Whether nothing but zeros follows, as tapes and some uploads leave it; looked at by pieces, since it may be long."""
    return all(not bytes(view[at : at + READ_AT_ONCE]).strip(b"\0") for at in range(position, len(view), READ_AT_ONCE))


def _xz_or_bzip2(name: str, magic: bytes, made: Callable[[], Any]) -> Callable[[bytes], Iterator[bytes | str]]:
    """A reader of streams by Python's own decompressors, which have one interface."""

    def pieces(raw: bytes) -> Iterator[bytes | str]:
        rest = raw
        while rest:
            stream, position = made(), 0
            try:
                while not stream.eof and (position < len(rest) or not stream.needs_input):
                    given = rest[position : position + READ_AT_ONCE] if stream.needs_input else b""
                    position += len(given)
                    yield stream.decompress(given, _MOST_AT_ONCE)
            except (lzma.LZMAError, OSError, ValueError, MemoryError) as error:
                yield f"a corrupt {name} stream ({error})"
                return
            if not stream.eof:
                yield f"a {name} stream that ends early"
                return
            rest = (stream.unused_data + rest[position:]).lstrip(b"\0")
            if rest and not rest.startswith(magic):
                yield f"other data after the {name} stream"
                return

    return pieces


def _zstd(raw: bytes) -> Iterator[bytes | str]:
    try:
        with pa.input_stream(pa.BufferReader(raw), compression="zstd") as stream:
            while piece := stream.read(READ_AT_ONCE):
                yield piece
    except (pa.ArrowException, OSError) as error:
        ends_early = "truncated" in str(error).lower()
        yield "a zstd stream that ends early" if ends_early else f"a corrupt zstd stream ({str(error)[:80]})"


def _of_tar(found: Unpacked) -> Unpacked:
    """The only file in a tar archive. Of one that is cut within that file, what is there of it."""
    expected = "an archive of one file; unpack it (tar -xf) and name its parts"
    data = found.data
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            first, others = None, 0
            while True:
                try:
                    member = archive.next()
                except tarfile.ReadError:
                    # Cut: whatever the header announced is not there.
                    if first is None or others:
                        raise
                    break
                if member is None:
                    break
                if member.isfile():
                    first, others = first or member, others + (first is not None)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, OSError) as error:
        raise NotOneFile(f"a damaged tar archive ({str(error)[:80]})", expected) from error
    if first is None or others:
        raise NotOneFile(f"a tar archive of {others + 1 if first else 0} files", expected)
    if first.issparse():
        raise NotOneFile("a tar archive of a sparse file", expected)
    inner = data[first.offset_data : first.offset_data + first.size]
    # Where the stream around it was cut behind that file, nothing is missing.
    cut = (found.cut or "a tar archive that ends early") if len(inner) < first.size else ""
    return Unpacked(inner, cut, found.whole or "a complete tar archive")


_GZIP = b"\x1f\x8b"
_XZ = b"\xfd7zXZ\x00"
_BZIP2 = b"BZh"
_STREAMS: tuple[tuple[str, bytes, Callable[[bytes], Iterator[bytes | str]]], ...] = (
    ("gzip", _GZIP, _gzip),
    ("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    ("xz", _XZ, _xz_or_bzip2("xz", _XZ, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30))),
    ("bzip2", _BZIP2, _xz_or_bzip2("bzip2", _BZIP2, bz2.BZ2Decompressor)),
)
"""(name, first bytes, reader) of streams."""
_NOT_READ = (
    ("zip", b"PK\x03\x04", "gzip, zstd, xz, bzip2 or tar; unpack it (unzip)"),
    ("7z", b"7z\xbc\xaf\x27\x1c", "gzip, zstd, xz, bzip2 or tar; unpack it (7z x)"),
    ("lz4", b"\x04\x22\x4d\x18", "gzip, zstd, xz, bzip2 or tar; unpack it (lz4 -d)"),
)
"""(name, first bytes, what to do) of what people have and Tango does not read."""
