"""The journal of a cluster, as one process has it open. Its workers need no other store; its agent has the centre's beside it."""

from __future__ import annotations

import os
from pathlib import Path

from tango.journal.journal import SqliteJournal
from tango.settings import Settings
from tango.stack.state import state_home


def journal_path(cluster: str, settings: Settings) -> Path:
    """The file of a cluster's journal: in `Settings.journal_dir`, or in the state folder."""
    folder = Path(settings.journal_dir) if settings.journal_dir else state_home(os.environ) / "data" / "journals"
    return folder / f"{cluster}.db"


def journal_of(cluster: str, settings: Settings) -> SqliteJournal:
    """The cluster's journal; its file is made where there is none. Raises: ConfigError for a file that is no journal."""
    return SqliteJournal(
        journal_path(cluster, settings),
        cluster=cluster,
        lease=settings.lease,
        lc=settings.lc,
        store=settings.store,
        call=settings.call,
        journal=settings.journal,
    )
