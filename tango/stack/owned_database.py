"""The database of the local stack for a command that has it to itself or beside the stack: backup and restore."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from tango.errors import UsageError
from tango.stack.credentials import StackCredentials
from tango.stack.postgres import PostgresServer, wheel_binaries
from tango.stack.state import HomeLock, read_stack, state_home
from tango.store.roles import OWNER


@contextlib.contextmanager
def owned_database(url: str | None, *, alone: bool = False) -> Iterator[str]:
    """The URL of the owner of a database: the one that is given, else that of the stack in the state folder, which is started for the time
    where no stack runs. `alone`: a stack that runs is refused, but for one of the database alone.

    Raises: UsageError where there is neither; DependencyError if the server does not start.
    """
    if url:
        yield url
        return
    home = state_home(os.environ)
    running = read_stack(home)
    if running is not None:
        if alone and running.broker_url:
            raise UsageError(f"the stack in {home} runs; stop it with `tango down`, and start it again afterwards")
        yield running.owner_url
        return
    if not (home / "data" / "postgres").exists():
        raise UsageError(f"{home} has no database, and no URL was given: name the owner's with --url or in TANGO_OWNER_URL")
    lock = HomeLock(home)
    try:
        secrets = StackCredentials(home)
        server = PostgresServer(home, password=secrets["postgres"])
        server.start()
        try:
            yield server.url(OWNER, secrets[OWNER])
        finally:
            server.stop()
    finally:
        lock.release()


def pg_folders(named: Path | None) -> list[Path]:
    """Where PostgreSQL's client programs are looked for, before PATH."""
    return [named] if named is not None else [wheel_binaries() / "bin"]
