"""Migrations of a database: to the newest schema at every start, and back only by hand.

Two connections are used: one holds an advisory lock for the whole migration, so that migrators wait for each other; the other migrates.
No lock is waited for longer than `LOCK_TIMEOUT_S`, be it another migrator's or one of a session that uses a table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg2
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

import migrations
from tango.domain.dictionary import DICTIONARY, described_columns, dictionary_digest
from tango.errors import ConfigError, StoreError
from tango.store.addresses import ENCODING, TANGO_S_TABLES, described, libpq_url, not_reached, own_options
from tango.store.database import CONNECT_TIMEOUT_S

LOCK_KEY = 0x7461_6E67
"""Key of the migrators' advisory lock: "tang" in ASCII."""
LOCK_TIMEOUT_S = 60.0
"""Longest wait for a lock. Chosen: beyond the time of a migration, below the patience of somebody who waits for `tango up`."""


def migrate(url: str, *, lock_timeout_s: float = LOCK_TIMEOUT_S) -> None:
    """Upgrade the database at `url` to the newest revision; does nothing if that has been done, also by another process at once.

    Raises: StoreUnavailable if PostgreSQL does not answer; ConfigError if a newer Tango has migrated it already; StoreError if a lock
    is not free within `lock_timeout_s`, or the migration fails.
    """

    def upgrade(config: Config) -> None:
        command.upgrade(config, "head")
        comment(config.attributes["connection"])

    _locked(url, upgrade, lock_timeout_s=lock_timeout_s)


def migrate_back(url: str, revision: str) -> None:
    """Downgrade the database to an older revision, or to `base`, which drops every run. Raises: as `migrate`."""
    _locked(url, lambda config: command.downgrade(config, revision), lock_timeout_s=LOCK_TIMEOUT_S)


def comment(connection: Connection) -> None:
    """Write what every table, view and column holds where tools look for it (`COMMENT ON`), unless it stands there."""
    digest = dictionary_digest()
    found = connection.execute(text("SELECT obj_description('alembic_version'::regclass)")).scalar()
    if found == digest:
        return
    relations = connection.execute(
        text(
            "SELECT c.relname::text, c.relkind::text, array_agg(a.attname::text ORDER BY a.attnum) FROM pg_class c "
            "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
            "WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition GROUP BY 1, 2"
        )
    )
    for name, kind, columns in relations.fetchall():
        if name not in DICTIONARY:
            continue
        what = "VIEW" if kind == "v" else "TABLE"
        statements = [f"COMMENT ON {what} {name} IS {_quoted(DICTIONARY[name].row)}"]
        for column, says in described_columns(name, tuple(columns)).items():
            statements.append(f'COMMENT ON COLUMN {name}."{column}" IS {_quoted(says)}')
        connection.exec_driver_sql("; ".join(statements))
    connection.exec_driver_sql(f"COMMENT ON TABLE alembic_version IS {_quoted(digest)}")


def _quoted(words: str) -> str:
    # COMMENT ON takes no parameters, and the driver takes % for one.
    return "'" + words.replace("'", "''").replace("%", "%%") + "'"


def head() -> str:
    """The newest revision that this version of Tango knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config


def _locked(url: str, change: Callable[[Config], None], *, lock_timeout_s: float) -> None:
    """Run `change` on one connection while another holds the migrators' lock."""
    options = own_options(url, f"-c lock_timeout={round(lock_timeout_s * 1000)} {TANGO_S_TABLES}")
    # libpq reads the URL: SQLAlchemy has no room in one for several hosts with a port each.
    engine = create_engine(
        "postgresql+psycopg2://",
        poolclass=pool.NullPool,
        creator=lambda: psycopg2.connect(
            libpq_url(url), connect_timeout=CONNECT_TIMEOUT_S, client_encoding=ENCODING, options=options
        ),
    )
    config = _config()
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            _check_known(connection, config, url)
            config.attributes["connection"] = connection
            change(config)
            connection.commit()
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise StoreError(
                f"the schema at {described(url)} could not be changed: another session has held a lock for {lock_timeout_s:g} s. "
                "End it (see pg_stat_activity), or wait for it, and start again."
            ) from error
        raise not_reached(url, error.orig or error) from error
    except (SQLAlchemyError, CommandError) as error:
        raise StoreError(f"the schema at {described(url)} could not be changed: {str(error).splitlines()[0]}") from error
    finally:
        engine.dispose()


def _check_known(connection: Connection, config: Config, url: str) -> None:
    """Raises: ConfigError for a database that a newer Tango has migrated, whose changes this version does not know."""
    migrated = connection.execute(text("SELECT to_regclass('alembic_version') IS NOT NULL")).scalar()
    found = [row[0] for row in connection.execute(text("SELECT version_num FROM alembic_version"))] if migrated else []
    connection.rollback()
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    newer = [revision for revision in found if revision not in known]
    if newer:
        raise ConfigError(
            f"the database at {described(url)} has schema revision {', '.join(newer)}, expected {script.get_current_head()} or older: "
            "a newer Tango has migrated it. Install that version, or name another database in TANGO_DATABASE_URL."
        )
