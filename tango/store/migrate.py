"""Bring a database to a schema of ours: forward on every start, back only by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

import migrations
from tango.errors import ConfigError, StoreError, StoreUnavailable
from tango.store.database import described, libpq_url

LOCK_KEY = 0x7461_6E67  # "tang": one migrator at a time


def migrate(url: str) -> None:
    """Upgrade the database at `url` to head. Twice, or by two at once: the second finds nothing to do.

    Raises: StoreUnavailable if PostgreSQL does not answer; ConfigError if a newer Tango has migrated it already; StoreError.
    """
    _locked(url, lambda config: command.upgrade(config, "head"))


def migrate_back(url: str, revision: str) -> None:
    """Downgrade the database to an older revision, or to `base`, which drops every run. Raises: as `migrate`."""
    _locked(url, lambda config: command.downgrade(config, revision))


def head() -> str:
    """The newest revision this version of Tango knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent).replace("%", "%%"))
    return config


def _locked(url: str, change: Callable[[Config], None]) -> None:
    """Run `change` on one connection while another holds the lock of migrators."""
    sqlalchemy_url = libpq_url(url).replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = create_engine(sqlalchemy_url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5})
    config = _config()
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            _check_known(connection, config, url)
            config.attributes["connection"] = connection
            change(config)
            connection.commit()
    except OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL does not answer at {described(url)}; start the stack with `tango up`") from error
    except (SQLAlchemyError, CommandError) as error:
        raise StoreError(f"the schema at {described(url)} could not be changed: {str(error).splitlines()[0]}") from error
    finally:
        engine.dispose()


def _check_known(connection: Connection, config: Config, url: str) -> None:
    """Refuse a database whose schema comes from a newer Tango: what that changed is not known here."""
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
