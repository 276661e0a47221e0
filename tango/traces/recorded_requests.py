"""Requests of a trace that has one row for each: columns as the reader of a format has them become a `Trace` in order of arrival."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tango.domain.trace import ORIGIN, Trace
from tango.traces.columns import Columns


def trace_of_rows(
    arrival_s: NDArray[np.float64],
    service_class: NDArray[np.int8],
    source: str,
    *,
    origin: tuple[NDArray[np.int64], list[str]] | None = None,
    cpu_work_s: NDArray[np.float64] | None = None,
    memory_mib: NDArray[np.float64] | None = None,
) -> Trace:
    """The trace of n requests in any order, columns of shape (n,).

    `origin` has an index and what it means, such as jobs: requests of one origin enter at one cluster. Works and memory that are not above
    0, or not given, are open (NaN), as services are.
    """
    n = len(arrival_s)
    order = np.argsort(arrival_s, kind="stable")

    def known(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return np.full(n, np.nan) if values is None else np.where(values > 0, values, np.nan)[order]

    entry, names = np.zeros(n, np.int64), [""]
    if origin is not None:
        used, entry = np.unique(origin[0][order], return_inverse=True)
        names = [f"{ORIGIN}{origin[1][code]}" for code in used] or [""]
    return Trace(
        arrival_s=arrival_s[order],
        service_class=service_class[order].astype(np.int8),
        service=np.zeros(n, np.int32),
        cluster=entry.astype(np.int32),
        cpu_work_s=known(cpu_work_s),
        memory_mib=known(memory_mib),
        services=("",),
        clusters=tuple(names),
        source=source,
    )


def ints_of(parts: list[Columns], name: str) -> NDArray[np.int64]:
    """A column of whole numbers over all parts, 0 where empty."""
    return np.concatenate([part.ints(name) for part in parts])


def floats_of(parts: list[Columns], name: str) -> NDArray[np.float64]:
    """A column of numbers over all parts, NaN where empty."""
    return np.concatenate([part.floats(name) for part in parts])


def words_of(parts: list[Columns], name: str) -> tuple[NDArray[np.int64], list[str]]:
    """(n,) codes of a text column over all parts, and the one list of words that they index."""
    words: dict[str, int] = {}
    codes = []
    for part in parts:
        code, own = part.texts(name)
        codes.append(np.array([words.setdefault(word, len(words)) for word in own] or [0], np.int64)[code])
    return np.concatenate(codes), list(words)


def first_of_each(key: NDArray[np.int64], arrival_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row of the earliest arrival of each key; of equal ones the first."""
    order = np.argsort(arrival_s, kind="stable")
    return order[np.sort(np.unique(key[order], return_index=True)[1])]
