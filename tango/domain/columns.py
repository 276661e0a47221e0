"""Frozen dataclasses of arrays: the attributes stay, what stands in the arrays can be written over."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

import numpy as np

Columns = TypeVar("Columns")


def own_copy(columns: Columns) -> Columns:
    """A copy whose arrays may be written to."""
    own: dict[str, Any] = {f.name: getattr(columns, f.name) for f in fields(columns)}  # type: ignore[arg-type]
    own |= {name: column.copy() for name, column in own.items() if isinstance(column, np.ndarray)}
    return type(columns)(**own)
