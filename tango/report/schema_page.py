"""Every table and view with its columns as the page `docs/schema.md`: `python -m tango.report.schema_page > docs/schema.md`."""

from __future__ import annotations

import textwrap

from models import metadata, type_name
from models.views import VIEW_COLUMNS
from tango.domain.dictionary import DICTIONARY, GROUPS, described_columns

_HEAD = """# Tables and views

Printed from `tango/domain/dictionary.py` by `python -m tango.report.schema_page`; a test holds it
to the schema. The same texts stand in the database (`COMMENT ON`), where psql and other tools show
them, and `tango sql --schema` prints them. How to query: [sql.md](sql.md).

"""


def columns_of(name: str) -> tuple[str, ...]:
    """The columns of a table or view, in order."""
    return VIEW_COLUMNS[name] if name in VIEW_COLUMNS else tuple(column.name for column in metadata.tables[name].columns)


def kind_of(name: str) -> str:
    """`view` or `table`."""
    return "view" if name in VIEW_COLUMNS else "table"


def type_of(name: str, column: str) -> str:
    """PostgreSQL's type of a table's column in lower case; empty for a view's."""
    return "" if name in VIEW_COLUMNS else type_name(name, column)


def schema_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for group in GROUPS:
        parts.append(f"## {group}\n\n")
        for name, (_, row, _columns) in ((n, d) for n, d in DICTIONARY.items() if d.group == group):
            said = "\n".join(textwrap.wrap(f"View: {row}" if name in VIEW_COLUMNS else row, 100))
            parts.append(f"### {name}\n\n{said}\n\n| column | meaning |\n|---|---|\n")
            parts += [f"| `{column}` | {_cell(says)} |\n" for column, says in described_columns(name, columns_of(name)).items()]
            parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def _cell(words: str) -> str:
    return words.replace("|", "\\|")


if __name__ == "__main__":
    print(schema_page(), end="")
