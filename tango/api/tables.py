"""Rows and columns as Arrow tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A table of rows with the same keys; a column without any value is of doubles."""
    columns = {name: pa.array([row[name] for row in rows]) for name in (rows[0] if rows else ())}
    return pa.table({name: found.cast(pa.float64()) if found.type == pa.null() else found for name, found in columns.items()})


def named(index: NDArray[Any], names: Sequence[str]) -> pa.Array:
    """The names that a column of indices means, as a dictionary; null for a negative index."""
    return pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32), mask=index < 0), pa.array(list(names), pa.string()))


def known(values: NDArray[np.float64]) -> pa.Array:
    """Doubles, with null for NaN."""
    return pa.array(values, mask=np.isnan(values))
