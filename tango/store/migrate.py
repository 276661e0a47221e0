"""Bring a database to the newest schema."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import OperationalError

import migrations
from tango.errors import StoreUnavailable
from tango.store.database import described, libpq_url

LOCK_KEY = 0x7461_6E67  # "tang": one migrator at a time


def migrate(url: str) -> None:
    """Upgrade the database at `url` to head. Twice, or by two at once: the second finds nothing to do.

    Raises: StoreUnavailable if PostgreSQL does not answer.
    """
    sqlalchemy_url = libpq_url(url).replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = create_engine(sqlalchemy_url, poolclass=pool.NullPool, connect_args={"connect_timeout": 5})
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    try:
        with engine.connect() as lock, engine.connect() as connection:
            lock.execute(text("SELECT pg_advisory_lock(:key)"), {"key": LOCK_KEY})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
    except OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL does not answer at {described(url)}; start the stack with `tango up`") from error
    finally:
        engine.dispose()
