"""What `tango doctor` finds: one sentence of what is, and one of what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How much a finding matters; the largest becomes the exit status of the command."""

    FINE = 0
    NOTE = 1
    """Works, and may surprise."""
    PROBLEM = 2
    """Something does not work, or will not for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check that has something to say."""

    check: str
    level: Level
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What is known of PostgreSQL; `failure` says why nothing else is."""

    failure: str = ""
    version: int = 0
    """As `server_version_num`."""
    revision: str = ""
    newest_revision: str = ""
    settings: dict[str, str] | None = None
    """fsync, full_page_writes, synchronous_commit, by name."""
    connections: int = 0
    max_connections: int = 0
    oldest_transaction_s: float = 0.0
    """Seconds since the oldest transaction of this database began."""
    ahead_s: float = 0.0
    """By how much its clock is ahead of this host's."""
    answer_ms: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFacts:
    """What is known of the broker; `failure` says why nothing else is."""

    failure: str = ""
    maxmemory_policy: str = ""
    maxmemory_bytes: int = 0
    used_bytes: int = 0
    is_appended: bool = True
    """Whether it keeps an append-only file."""
    ahead_s: float = 0.0
    answer_ms: float = 0.0
    waiting: dict[str, int] | None = None
    """Messages that wait, by queue."""
    consumers: dict[str, int] | None = None
    """Workers that consume, by queue; None: nobody was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterFacts:
    """What the centre knows of a cluster, and what its API server answers here; `failure` says why that is nothing."""

    name: str
    picture_age_s: float | None = None
    agent_age_s: float | None = None
    is_away: bool = False
    nodes: int = 0
    ready: int = 0
    lost_events: int = 0
    """Of its journal, when this centre was restored from a backup."""
    refusals: tuple[str, ...] = ()
    failure: str = ""
    forbidden: tuple[tuple[str, str], ...] = ()
    """What Tango needs and may not do there, with what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFacts:
    """An LC service and its instances."""

    name: str
    instances: int
    ready: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointFacts:
    """The network that is to decide."""

    live: str
    """Name of the promoted one; empty: the scheduler's own file decides."""
    refused: str
    """Why the scheduler could not use it."""
    own_failure: str
    """Why the scheduler's own file cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The host on which `tango doctor` runs."""

    home: str
    free_bytes: int
    size_bytes: int
    cores: int
    load: float
    """Processes that ran or waited for a core, over the last minute."""
    stack: dict[str, str] | None = None
    """State of each process of the local stack by its name; None: none runs here."""
    unlocked: tuple[str, ...] = ()
    """Packages of Tango whose versions are not those of its lock file, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that was gathered; None: it was not looked for."""

    host: HostFacts
    database: DatabaseFacts
    broker: BrokerFacts | None = None
    clusters: tuple[ClusterFacts, ...] = ()
    services: tuple[ServiceFacts, ...] = ()
    checkpoint: CheckpointFacts | None = None
    open_runs: int = 0
    holders: dict[str, float] | None = None
    """Seconds for which each lease of periodic work still holds, by its name; negative: seconds since it ran out."""
    guarantees: str = ""
    """What tenants are guaranteed and the fleet cannot keep, in words; empty: it can."""
