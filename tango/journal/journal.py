"""One journal as a process has it open: implements `tango.ports.journal.Journal`.

Its parts are LC requests from accepted to running (`lc_requests`), how attempts end (`attempts`), what callers send (`callers`), what
the agent brings (`intake`) and ships (`shipping`), and the fleet (`fleet`). Every method takes and returns many rows, and may be called
from any thread or process. A change reads its rows under the write lock, asks the table of `tango.domain.lifecycle`, and writes the
rows with one event each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tango.boot import boot_id
from tango.journal.callers import Callers
from tango.journal.database import Connection, JournalDatabase
from tango.journal.fleet import JournalFleet, _Known
from tango.journal.intake import Intake
from tango.journal.lc_requests import LcRequests
from tango.journal.part import JournalPart
from tango.settings import CallSettings, JournalSettings, LcSettings, LeaseSettings, StoreSettings

_HOLD = """
INSERT INTO lease AS l VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until_s = excluded.until_s
WHERE l.owner = excluded.owner OR l.until_s < ?4
"""


class SqliteJournal(LcRequests, Callers, Intake, JournalFleet):
    """The journal of `cluster` in the file `path`, made with its folder where it is missing; `wall_s` gives Unix time, `boot` names this
    boot of the machine, by default as its kernel does.

    Raises: ConfigError for a file that is no journal of this cluster, or of another version; StoreUnavailable.
    """

    def __init__(
        self,
        path: Path,
        *,
        cluster: str,
        lease: LeaseSettings,
        lc: LcSettings,
        store: StoreSettings,
        call: CallSettings | None = None,
        journal: JournalSettings | None = None,
        wall_s: Callable[[], float] = time.time,
        boot: str = "",
    ) -> None:
        database = JournalDatabase(path, cluster=cluster)
        JournalPart.__init__(self, database, cluster=cluster, lease=lease, lc=lc, store=store, wall_s=wall_s)
        call = call or CallSettings()
        self._keep_s, self._kept_bytes = call.keep_s, call.kept_mib << 20
        self._kept_events = (journal or JournalSettings()).kept_events
        self._known, self._reading = _Known(), threading.Lock()
        self._put = {}
        self._begin_boot(boot or boot_id(), lost_nothing=database.was_closed)

    def hold(self, name: str, *, owner: str, ttl_s: float) -> bool:
        """Take or renew a lease for `ttl_s` seconds; False while another owner holds it."""

        def hold(connection: Connection) -> bool:
            now_s = self._wall_s()
            return connection.execute(_HOLD, (name, owner, now_s + ttl_s, now_s)).rowcount > 0

        return self._database.write(hold)

    def wait_for_disk(self) -> None:
        """Wait until everything that is committed is on the disk, with no lock held."""
        self._database.sync()

    def close(self) -> None:
        """Close idle connections; the journal opens new ones if it is used again."""
        self._database.close()
