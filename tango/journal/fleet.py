"""The fleet as the cluster knows it: what its agent observed and what the centre published, each read again only when it has changed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tango.domain.observations import InstanceState, NodeState
from tango.domain.own_cluster import OwnView, as_observed
from tango.domain.services import Service
from tango.domain.shares import PublishedFleet
from tango.domain.snapshot import FleetSnapshot
from tango.domain.tokens import KnownToken
from tango.errors import StoreUnavailable
from tango.journal.database import Connection
from tango.journal.published import dumped, dumped_own, dumped_tokens, loaded, loaded_own, loaded_tokens
from tango.journal.shipping import Shipping

PUBLISHED, OWN, TOKENS = "fleet", "own", "tokens"

_PUT = """
INSERT INTO fleet VALUES (?, 1, ?) ON CONFLICT (part) DO UPDATE SET version = version + 1, content = excluded.content
RETURNING (SELECT value FROM meta WHERE name = 'identity'), version
"""
_VERSION = "SELECT (SELECT value FROM meta WHERE name = 'identity'), version FROM fleet WHERE part = ?"
_VERSIONS = (
    f"SELECT (SELECT value FROM meta WHERE name = 'identity'), part, version FROM fleet WHERE part IN ('{PUBLISHED}', '{OWN}')"
)

Versions = dict[str, tuple[str, int]]
"""By part, the journal's identity and how often the part was written: equal versions have equal contents."""


@dataclass(slots=True)
class _Known:
    """What was read last; `view` follows from both parts."""

    versions: Versions = field(default_factory=dict)
    published: PublishedFleet | None = None
    own: tuple[tuple[NodeState, ...], tuple[InstanceState, ...]] | None = None
    view: OwnView | None = None


class JournalFleet(Shipping):
    """The part of the journal that knows the fleet."""

    _known: _Known
    _put: dict[str, tuple[bytes, tuple[str, int]]]
    """By part, what this process has written last, with the journal's identity and the version of the part from then on."""
    _reading: threading.Lock

    def observe(self, nodes: Sequence[NodeState], instances: Sequence[InstanceState]) -> None:
        """Replace the cluster's own nodes and instances."""
        self._replace(OWN, dumped_own(tuple(nodes), tuple(instances)))

    def publish(self, fleet: PublishedFleet) -> None:
        """Replace what the centre published, whose time stamp is left out: `snapshot` gives its own."""
        self._replace(PUBLISHED, dumped(replace(fleet, snapshot=replace(fleet.snapshot, at_s=0.0))))

    def _replace(self, part: str, content: bytes) -> None:
        """Write a part, unless the file has it as this process wrote it last: it comes again and again, and mostly nothing has changed."""
        before, version = self._put.get(part, (None, None))
        if content == before and self._database.read(lambda c: c.execute(_VERSION, (part,)).fetchone()) == version:
            return

        def put(connection: Connection) -> tuple[str, int]:
            identity, version = connection.execute(_PUT, (part, content)).fetchone()
            return str(identity), int(version)

        self._put[part] = content, self._database.write(put)

    def admit(self, tokens: Sequence[KnownToken]) -> None:
        """Replace the tokens that are known."""
        self._replace(TOKENS, dumped_tokens(tokens))

    def admitted(self) -> tuple[KnownToken, ...]:
        """The tokens that were written last."""
        sql = "SELECT content FROM fleet WHERE part = ?"
        found = self._database.read(lambda connection: connection.execute(sql, (TOKENS,)).fetchone())
        return () if found is None else loaded_tokens(found[0])

    def snapshot(self, *, at_s: float) -> FleetSnapshot:
        """What policies see. Raises: StoreUnavailable before the first publication."""
        view = self._read().view
        if view is None:
            raise StoreUnavailable(
                f"the centre has not published a fleet to the journal of cluster {self._cluster} yet; its agent fetches it once it "
                "reaches PostgreSQL"
            )
        return view.with_in_flight(self.in_flight(), at_s=at_s)

    def instances(self) -> list[tuple[str, InstanceState]]:
        """Instances of every cluster, in order of (cluster, pod)."""
        known = self._read()
        found = list(known.published.instances) if known.published is not None else []
        if known.own is not None:
            found = [(cluster, i) for cluster, i in found if cluster != self._cluster] + [(self._cluster, i) for i in known.own[1]]
        return sorted(found, key=lambda at: (at[0], at[1].pod))

    def services(self) -> tuple[Service, ...]:
        """Services by name; empty before the first publication."""
        published = self._read().published
        return () if published is None else tuple(sorted(published.snapshot.services, key=lambda s: s.name))

    def _read(self) -> _Known:
        """What is known now; contents are read and parsed only where their version has changed."""

        def read(connection: Connection) -> tuple[Versions, dict[str, bytes]]:
            versions = {part: (identity, version) for identity, part, version in connection.execute(_VERSIONS)}
            changed = [part for part, version in versions.items() if self._known.versions.get(part) != version]
            sql = "SELECT content FROM fleet WHERE part = ?"
            return versions, {part: connection.execute(sql, (part,)).fetchone()[0] for part in changed}

        with self._reading:
            versions, contents = self._database.read(read)
            if versions != self._known.versions:
                published = loaded(contents[PUBLISHED]) if PUBLISHED in contents else self._known.published
                own = loaded_own(contents[OWN]) if OWN in contents else self._known.own
                kept = (published if PUBLISHED in versions else None, own if OWN in versions else None)
                self._known = _Known(versions, *kept, _view(self._cluster, *kept))
            return self._known


def _view(
    cluster: str, published: PublishedFleet | None, own: tuple[tuple[NodeState, ...], tuple[InstanceState, ...]] | None
) -> OwnView | None:
    if published is None:
        return None
    return OwnView.of(published.snapshot if own is None else as_observed(published.snapshot, cluster, *own))
