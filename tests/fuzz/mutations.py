"""Mutations of good inputs: bytes that are flipped, cut and moved, and values in the places of values."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import re
import tarfile
from collections.abc import Callable, Sequence

import pyarrow as pa

DEEP = 20_000
"""Levels of what is nested deeper than any reader has a stack for."""
VALUES = (
    b"",
    b"0",
    b"-1",
    b"+5",
    b"1e400",
    b"1e1000000",
    b"-1e-400",
    b"nan",
    b"inf",
    b"true",
    b"null",
    b"~",
    b"[]",
    b"{}",
    b"0x10",
    b"010000",
    b"4:16:00",
    b"1_000",
    b"9223372036854775807",
    b"9223372036854775808",
    b"-9223372036854775809",
    b"1" + b"0" * 400,
    b"0.1" + b"0" * 400 + b"1",
    b"2023-02-29 00:00:00",
    b"2300-01-01 00:00:00",
    b"0044-03-15 BC",
    b"2024-05-12T00:00:00.5+02:00",
    b"\x00",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\xd9\xa3",
    b"&a",
    b"*a",
    b"<<: *a",
    b"!!python/object:os.system",
    b"!!binary x",
    b"!!timestamp 2026-13-40",
    b"!!int x",
    b"!!float ''",
    b'"',
    b"'",
    b"\\",
    b",",
    b"%",
    b"%zz",
    b"@",
    b"://",
    b"x" * 70_000,
)
"""What is odd somewhere: bounds of types, other ways to write a number, no text, no value, words of YAML and URLs."""
BOUNDARIES = re.compile(rb"[\s,:\[\]{}=\"']+")


def mutated(rng: random.Random, good: Sequence[bytes]) -> bytes:
    """One input, by one to four mutations of a good one."""
    data = rng.choice(good)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4))):
        data = rng.choice(_MUTATIONS)(rng, data, good)
    return data


def packed(rng: random.Random, data: bytes) -> bytes:
    """The bytes in one of the compressions or archives that people use, now and then damaged."""
    data = rng.choice(_PACKERS)(data)
    return _flip(rng, data, ()) if rng.random() < 0.3 else data


def _flip(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    changed = bytearray(data or b"x")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _cut(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _drop(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] + data[b:]


def _repeat(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:b] * rng.choice((1, 2, 20)) + data[b:]


def _splice(rng: random.Random, data: bytes, good: Sequence[bytes]) -> bytes:
    other = rng.choice(good or (data,))
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _insert(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(VALUES) + data[at:]


def _other_value(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    """One value, as far as commas, colons and brackets tell what is one, becomes an odd one."""
    ends = [0, *(found.start() for found in BOUNDARIES.finditer(data)), len(data)]
    k = rng.randrange(len(ends) - 1)
    begin = BOUNDARIES.match(data, ends[k])
    return data[: begin.end() if begin else ends[k]] + rng.choice(VALUES) + data[ends[k + 1] :]


def _lines(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    """A line twice, away, elsewhere or empty."""
    lines = data.split(b"\n")
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.randrange(4)
    if change == 0:
        lines.insert(b, lines[a])
    elif change == 1:
        del lines[a]
    elif change == 2:
        lines[a], lines[b] = lines[b], lines[a]
    else:
        lines[a] = b""
    return b"\n".join(lines)


def _nest(rng: random.Random, data: bytes, _good: Sequence[bytes]) -> bytes:
    """One place becomes deep; closed or not."""
    opens, closes = rng.choice(((b"[", b"]"), (b"{a: ", b"}"), (b'{"a":', b"}"), (b"- ", b""), (b"(", b")")))
    depth = rng.choice((50, 1000, DEEP))
    at = rng.randrange(len(data) + 1)
    return data[:at] + opens * depth + b"1" + closes * rng.choice((0, depth)) + data[at:]


_MUTATIONS: tuple[Callable[[random.Random, bytes, Sequence[bytes]], bytes], ...] = (
    _flip,
    _cut,
    _drop,
    _repeat,
    _splice,
    _insert,
    _other_value,
    _other_value,
    _other_value,
    _lines,
    _nest,
)


def _in_tar(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("trace")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


_PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    lambda data: lzma.compress(data, preset=0),
    bz2.compress,
    lambda data: pa.compress(data, "zstd", asbytes=True) if data else b"",
    _in_tar,
    lambda data: gzip.compress(_in_tar(data)),
)
