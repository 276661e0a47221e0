"""Whether a database has the newest schema, and only where it has not, the migrations.

Alembic and SQLAlchemy take half a second of CPU and 25 MiB, at every start of a stack, and mostly there is nothing for them to do.
"""

from __future__ import annotations

import ast
from pathlib import Path

import migrations
from tango.domain.dictionary import dictionary_digest
from tango.errors import StoreError, StoreUnavailable
from tango.sources import parsed
from tango.store.database import Database


def newest_revision() -> str:
    """The newest revision, by the names of the migration files, which begin with it."""
    files = (Path(migrations.__file__).parent / "versions").glob("[0-9]*_*.py")
    return max(path.name.partition("_")[0] for path in files)


def revisions_between(older: str | None, newer: str | None) -> list[tuple[str, str]]:
    """Revisions after `older` up to `newer`, oldest first, each with the first sentence of what it is for. Empty: from the beginning."""
    files = sorted((Path(migrations.__file__).parent / "versions").glob("[0-9]*_*.py"))
    between = [(path.name.partition("_")[0], path) for path in files]
    return [
        (number, (ast.get_docstring(parsed(path.read_text(encoding="utf-8"))) or "").split(". ")[0].rstrip("."))
        for number, path in between
        if (older or "") < number <= (newer or "")
    ]


def bring_up_to_date(url: str) -> None:
    """As `tango.store.migrate.migrate`: upgrade the database at `url` to the newest revision, unless that has been done.

    Raises: StoreUnavailable if PostgreSQL does not answer; ConfigError if a newer Tango has migrated it already; StoreError if a lock
    is not free, or the migration fails.
    """
    if _revisions(url) == [newest_revision()] and _is_described(url):
        return
    from tango.store.migrate import migrate

    migrate(url)


def _is_described(url: str) -> bool:
    """Whether the comments on tables and columns are this version's."""
    database = Database(url)
    try:
        return database.rows("SELECT obj_description('alembic_version'::regclass)") == [(dictionary_digest(),)]
    finally:
        database.close()


def revision_of(url: str) -> str:
    """The revision of the schema at `url`; empty where nothing has migrated it. Raises: StoreUnavailable."""
    return ", ".join(_revisions(url))


def _revisions(url: str) -> list[str]:
    database = Database(url)
    try:
        return [revision for (revision,) in database.rows("SELECT version_num FROM alembic_version")]
    except StoreUnavailable:
        raise
    except StoreError:  # no such table: nothing has migrated it
        return []
    finally:
        database.close()
