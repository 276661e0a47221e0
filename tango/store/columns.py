"""Writing Arrow columns to a table by COPY, each column under its own name."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tango.store.database import Cursor

if TYPE_CHECKING:
    import pyarrow as pa

# Arrow is imported where it is used: the store of runs is in every process, and most never write columns.


def copy_columns(cursor: Cursor, table: str, columns: Mapping[str, Any], *, run_id: int | None = None) -> None:
    """Append rows from columns of equal length; with `run_id` every row gets it. Columns that are not named get the table's defaults."""
    import pyarrow as pa
    import pyarrow.csv

    found = pa.table(dict(columns))
    if run_id is not None:
        found = found.add_column(0, "run_id", pa.array(np.full(len(found), run_id, np.int32)))
    text = io.BytesIO()
    # COPY reads an unquoted empty value as NULL and a quoted one as the empty text, and Arrow writes them so.
    pyarrow.csv.write_csv(found, text, pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed"))
    text.seek(0)
    cursor.copy_expert(f"COPY {table} ({', '.join(found.column_names)}) FROM STDIN (FORMAT csv)", text)


def words(index: NDArray[Any], names: tuple[str, ...]) -> pa.Array:
    """A text column from indices into `names`; NULL for -1."""
    import pyarrow as pa

    places = pa.array(index.astype(np.int32), mask=index < 0)
    return pa.DictionaryArray.from_arrays(places, pa.array(names, pa.string())).cast(pa.string())


def known(values: NDArray[np.float64]) -> pa.Array:
    """A column of numbers; NULL for values that are not finite."""
    import pyarrow as pa

    return pa.array(values, mask=~np.isfinite(values))
