"""Runs API servers in a process, in the foreground until SIGTERM; one for each cluster, which share nothing but the process."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop

from tango.emulation.api_server.authorization import Authorizer
from tango.emulation.api_server.journal import ObjectLog
from tango.emulation.api_server.server import ApiServer
from tango.emulation.api_server.storage import Storage
from tango.errors import ConfigError
from tango.files import write_whole

SYNC_EVERY_S = 0.05
"""Seconds between two fsyncs of the journal: the most that a power cut takes. A write does not wait for it."""
COMPACT_RETRY_S = 30.0
"""Seconds until a compaction that failed, as on a full disk, is tried again."""
HISTORY = 20_000
"""Changes kept for each resource, from which watches may resume. Chosen: some minutes of a busy cluster."""
log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServerOptions:
    """Settings of an API server."""

    cluster: str
    """Name of the cluster; the server does not use it, but it tells processes apart in a list of them."""
    token_file: Path
    """In the format that `Authorizer.from_file` reads."""
    port: int = 0
    """TCP port; 0: any free one."""
    port_file: Path | None = None
    """File that the port is written to once the server listens."""
    data_dir: Path | None = None
    """Folder of the journal; None: objects are lost when the process ends."""
    pods_dir: Path | None = None
    """Folder of the logs that the cluster's virtual kubelet keeps; None: there are none."""
    host: str = "127.0.0.1"
    rbac_after_s: float = 0.0
    """Seconds after the start in which roles are not loaded yet, as with `ApiServer`."""
    history: int = HISTORY
    """Changes kept for each resource."""


def run_api_servers(clusters: Sequence[ApiServerOptions], *, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; `listening` is called once all of them listen.

    Raises: ConfigError for a token file, port or data folder that cannot be used; FileUnusable for a port file.
    """
    uvloop.run(_serve_all(clusters, listening))


async def _serve_all(clusters: Sequence[ApiServerOptions], listening: Callable[[], None]) -> None:
    async with contextlib.AsyncExitStack() as servers:
        served = [await servers.enter_async_context(_served(options)) for options in clusters]
        keeping = asyncio.gather(*(_keep(journal, storage) for journal, storage in served))
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, keeping.cancel)
        listening()
        # An fsync that fails ends the process: after it the kernel may have dropped the pages, so nobody knows what is on the disk.
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


@contextlib.asynccontextmanager
async def _served(options: ApiServerOptions) -> AsyncIterator[tuple[ObjectLog, Storage]]:
    """One server that listens; gives what has to be kept (`_keep`) meanwhile."""
    try:
        authorizer = Authorizer.from_file(options.token_file)
    except OSError as error:
        raise ConfigError(f"the token file {options.token_file} cannot be read: {error.strerror}") from error
    try:
        journal = ObjectLog(options.data_dir)
        storage = Storage(journal, history=options.history)
    except OSError as error:
        raise ConfigError(f"the data folder {options.data_dir} cannot be used: {error.strerror}") from error
    server = ApiServer(storage, authorizer, pods=options.pods_dir, rbac_after_s=options.rbac_after_s)
    async with contextlib.AsyncExitStack() as listening:
        listening.callback(journal.close)
        try:
            port = await listening.enter_async_context(server.listening(options.host, options.port))
        except OSError as error:
            raise ConfigError(
                f"port {options.port} on {options.host} cannot be listened on: {error.strerror}; choose another --port"
            ) from error
        # Written whole, and only now that the port is open: who waits for the file may connect at once.
        if options.port_file is not None:
            write_whole(options.port_file, str(port))
        yield journal, storage


async def _keep(journal: ObjectLog, storage: Storage) -> None:
    """Sync the journal `SYNC_EVERY_S` after a write, in a thread, and compact it when it has grown. Raises: OSError if a sync fails."""
    retry_at_s = 0.0
    while True:
        await journal.appended.wait()
        journal.appended.clear()
        await asyncio.sleep(SYNC_EVERY_S)
        await asyncio.to_thread(journal.sync)
        if journal.wants_compaction and time.monotonic() >= retry_at_s:
            try:
                storage.compact()
            except OSError as error:
                # No harm to the data: the old file stays in use and grows.
                retry_at_s = time.monotonic() + COMPACT_RETRY_S
                log.warning("journal_not_compacted", error=str(error))
