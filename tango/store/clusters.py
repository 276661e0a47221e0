"""Clusters, links and the fleet in force: what was declared by `tango up` or joined by `tango cluster join`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from tango.domain.fleet import Cluster, Fleet, Node
from tango.domain.lifecycle import Event
from tango.domain.near_names import near_name
from tango.domain.runs import RunKind, RunStatus
from tango.domain.services import ServiceClass
from tango.domain.state_lists import LIVE_STATES
from tango.errors import UsageError
from tango.fleets import dump_fleet, parse_fleet
from tango.store.database import Cursor
from tango.store.lifecycle_sql import HOLDING_RUNS, OPEN_RUNS, can
from tango.store.rows import insert
from tango.store.services import Services, hold_declarations, note_namespaces, write_services

IS_SILENT = "c.seen_at < now() - %(silent)s * interval '1 s'"
"""SQL: the agent of the cluster `c` has not been heard of for `LeaseSettings.silent_s`. NULL for one that never was."""

# A cluster that comes takes part in the live run that is open.
_SHARE_OF_LIVE = f"""
INSERT INTO lc_share (run_id, cluster, accepted, opened)
SELECT run_id, %(cluster)s, 0, true FROM run WHERE kind = '{RunKind.LIVE}' AND status = '{RunStatus.RUNNING}' AND closed_at IS NULL
ON CONFLICT DO NOTHING
"""


_WAITING = f"""
SELECT q.cluster, count(*), min(extract(epoch FROM r.started_at)::float8 + q.due_s)
FROM request q JOIN run r USING (run_id)
WHERE q.run_id = ANY ({OPEN_RUNS}) AND {can("q", Event.RELEASE, Event.DISPATCH, service_class=ServiceClass.LC)}
  AND q.due_s < extract(epoch FROM now() - r.started_at)::float8 - %(after)s
GROUP BY 1
"""

JOINED_FLEET = "joined"
"""Name of the fleet of a centre that has no clusters of its own, in runs that are on it."""


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster and how to reach it: the path of its kubeconfig and the context in it. The file's content is never stored."""

    name: str
    kubeconfig: str
    context: str
    embedded: bool


class Clusters(Services):
    """The part of the fleet store that changes clusters and links."""

    def declare(self, fleet: Fleet, *, kubeconfig: str, contexts: Mapping[str, str]) -> None:
        """Upsert clusters, links and services of the fleet. Embedded clusters and services of the fleet before go; clusters that joined
        and services that were declared by themselves stay."""
        rtt, bandwidth = fleet.rtt_ms(), fleet.bandwidth_mbit_per_s()
        names = [c.name for c in fleet.clusters]
        clusters = [
            {"name": name, "position": k, "kubeconfig": kubeconfig, "context": contexts[name], "embedded": True}
            for k, name in enumerate(names)
        ]
        links = [
            {"from_cluster": a, "to_cluster": b, "rtt_ms": float(rtt[i, j]), "bandwidth_mbit_per_s": float(bandwidth[i, j])}
            for i, a in enumerate(names)
            for j, b in enumerate(names)
        ]

        def declare(cursor: Cursor) -> None:
            hold_declarations(cursor)
            cursor.execute("DELETE FROM fleet RETURNING declaration")
            before = [parse_fleet(text, "the fleet before", must_fit=False) for (text,) in cursor.fetchall()]
            insert(cursor, "fleet", [{"name": fleet.name, "hash": fleet.source_hash, "declaration": dump_fleet(fleet)}])
            cursor.execute("DELETE FROM cluster WHERE embedded AND name <> ALL (%s) RETURNING name", (names,))
            gone = [row[0] for row in cursor.fetchall()]
            for table in ("node", "instance", "lc_in_flight", "refusal"):
                cursor.execute(f"DELETE FROM {table} WHERE cluster = ANY (%s)", (gone,))
            insert(
                cursor,
                "cluster",
                clusters,
                then="ON CONFLICT (name) DO UPDATE SET position = excluded.position, kubeconfig = excluded.kubeconfig, "
                "context = excluded.context, embedded = excluded.embedded",
            )
            for name in names:
                cursor.execute(_SHARE_OF_LIVE, {"cluster": name})
            cursor.execute("UPDATE lc_share SET complete = true WHERE cluster = ANY (%s) AND NOT complete", (gone,))
            insert(
                cursor,
                "link",
                links,
                then="ON CONFLICT (from_cluster, to_cluster) DO UPDATE SET rtt_ms = excluded.rtt_ms, "
                "bandwidth_mbit_per_s = excluded.bandwidth_mbit_per_s",
            )
            gone = [s.name for fleet_before in before for s in fleet_before.services]
            note_namespaces(cursor, gone)
            cursor.execute(
                "DELETE FROM service WHERE name = ANY (%s) AND name <> ALL (%s)", (gone, [s.name for s in fleet.services])
            )
            write_services(cursor, fleet.services)

        self._database.run(declare)

    def declare_none(self) -> None:
        """Forget the declared fleet with its clusters and services; clusters that joined and services declared by themselves stay."""

        def forget(cursor: Cursor) -> None:
            hold_declarations(cursor)
            cursor.execute("DELETE FROM fleet RETURNING declaration")
            before = [parse_fleet(text, "the fleet before", must_fit=False) for (text,) in cursor.fetchall()]
            cursor.execute("DELETE FROM cluster WHERE embedded RETURNING name")
            gone = [row[0] for row in cursor.fetchall()]
            for table in ("node", "instance", "lc_in_flight"):
                cursor.execute(f"DELETE FROM {table} WHERE cluster = ANY (%s)", (gone,))
            cursor.execute("UPDATE lc_share SET complete = true WHERE cluster = ANY (%s) AND NOT complete", (gone,))
            cursor.execute("DELETE FROM link WHERE from_cluster = ANY (%s) OR to_cluster = ANY (%s)", (gone, gone))
            services = [s.name for fleet in before for s in fleet.services]
            note_namespaces(cursor, services)
            cursor.execute("DELETE FROM service WHERE name = ANY (%s)", (services,))

        self._database.run(forget)

    def declared(self) -> Fleet:
        """The fleet in force, with the services as declared now. Raises: UsageError before the first declaration."""
        found = self._database.rows("SELECT declaration FROM fleet")
        if not found:
            raise UsageError("no fleet is declared yet; start one with `tango up --fleet NAME`")
        fleet = parse_fleet(found[0][0], "the fleet in force", must_fit=False)
        return dataclasses.replace(fleet, services=self.services())

    def in_force(self) -> Fleet:
        """The declared fleet and the clusters that joined it: all at which requests may arrive.

        Where none is declared, a centre without clusters of its own, those that joined with the nodes that their agents have told of.
        Raises: UsageError where there is neither.
        """
        joined = [row.name for row in self.clusters() if not row.embedded]
        if self._database.rows("SELECT 1 FROM fleet"):
            fleet = self.declared()
            return dataclasses.replace(fleet, clusters=(*fleet.clusters, *(Cluster(name=name, nodes=()) for name in joined)))
        nodes: dict[str, list[Node]] = {name: [] for name in joined}
        for cluster, *node in self._database.rows(
            "SELECT cluster, name, cpu_allocatable_millicores, memory_allocatable_mib, pods_allocatable FROM node ORDER BY 1, 2"
        ):
            if cluster in nodes:
                nodes[cluster].append(Node(name=node[0], cpu_millicores=node[1], memory_mib=node[2], pods=node[3]))
        if not any(nodes.values()):
            raise UsageError(
                "no fleet is declared, and no agent of a joined cluster has told of its nodes yet: join one with `tango cluster join` "
                "and start its agent, or start a stack with clusters, `tango up --fleet NAME`"
            )
        clusters = tuple(Cluster(name=name, nodes=tuple(found)) for name, found in nodes.items())
        return Fleet(name=JOINED_FLEET, clusters=clusters, services=tuple(self.services()))

    def clusters(self) -> list[ClusterRow]:
        """All clusters, declared and joined, by position and then by name."""
        rows = self._database.rows("SELECT name, kubeconfig, context, embedded FROM cluster ORDER BY position, name")
        return [ClusterRow(*row) for row in rows]

    def waiting(self, *, after_s: float) -> dict[str, tuple[int, float]]:
        """LC requests of open runs that were due more than `after_s` ago and that no worker of their entry cluster has taken, as the centre
        knows: by that cluster, their number and since when the first of them waits (Unix time). Clusters without any are not in it."""
        return {cluster: (count, since_s) for cluster, count, since_s in self._database.rows(_WAITING, {"after": after_s})}

    def credentials(self, cluster: str) -> tuple[str, str]:
        """(kubeconfig path, context) of a cluster. Raises: UsageError for an unknown one."""
        rows = {row.name: row for row in self.clusters()}
        if cluster not in rows:
            raise UsageError(f"no cluster {cluster!r}{near_name(cluster, rows)}; joined: {', '.join(rows) or 'none'}")
        return rows[cluster].kubeconfig, rows[cluster].context

    def join(self, name: str, *, kubeconfig: str, context: str, rtt_ms: float, bandwidth_mbit_per_s: float) -> None:
        """Add a real cluster, with one round-trip time and bandwidth to all others; joining again replaces what was given before.

        Raises: UsageError for the name of an embedded cluster.
        """

        def join(cursor: Cursor) -> None:
            hold_declarations(cursor)
            cursor.execute("SELECT 1 FROM cluster WHERE name = %s AND embedded", (name,))
            if cursor.fetchone():  # a fleet that was declared meanwhile
                raise UsageError(f"{name} is an embedded cluster of the fleet in force; choose another name")
            cursor.execute(
                "INSERT INTO cluster (name, position, kubeconfig, context) VALUES (%s, (SELECT count(*) FROM cluster), %s, %s) "
                "ON CONFLICT (name) DO UPDATE SET kubeconfig = excluded.kubeconfig, context = excluded.context",
                (name, kubeconfig, context),
            )
            cursor.execute(_SHARE_OF_LIVE, {"cluster": name})
            cursor.execute(
                """
                INSERT INTO link (from_cluster, to_cluster, rtt_ms, bandwidth_mbit_per_s)
                SELECT a, b, CASE WHEN a = b THEN 0.2 ELSE %(rtt)s END, %(bandwidth)s
                FROM (SELECT %(name)s AS a, name AS b FROM cluster UNION SELECT name, %(name)s FROM cluster) pairs
                ON CONFLICT (from_cluster, to_cluster) DO UPDATE SET rtt_ms = excluded.rtt_ms,
                    bandwidth_mbit_per_s = excluded.bandwidth_mbit_per_s
                """,
                {"name": name, "rtt": rtt_ms, "bandwidth": bandwidth_mbit_per_s},
            )

        self._database.run(join)

    def require_joined(self, name: str) -> None:
        """Raises: UsageError for a cluster that is unknown, or embedded: that one is the running stack's, and no joining brings it back."""
        self.credentials(name)
        if any(row.embedded for row in self.clusters() if row.name == name):
            raise UsageError(
                f"{name} is an embedded cluster of the fleet in force and cannot be removed by itself: start another fleet with "
                "`tango up --fleet`"
            )

    def require_unneeded_cluster(self, name: str) -> None:
        """Raises: UsageError for a cluster that is unknown or embedded, or while live requests entered or run there."""
        self.require_joined(name)
        live = self._database.rows(
            f"SELECT count(*) FROM request WHERE run_id = ANY ({HOLDING_RUNS}) AND (cluster = %s OR target_cluster = %s) "
            f"AND state IN {LIVE_STATES}",
            (name, name),
        )[0][0]
        if live:
            raise UsageError(f"{live} live requests entered or run at {name}; wait for their runs or cancel them")

    def leave(self, name: str) -> None:
        """Forget a cluster that has joined. Raises: as `require_unneeded_cluster`."""
        self.require_unneeded_cluster(name)

        def leave(cursor: Cursor) -> None:
            hold_declarations(cursor)
            cursor.execute("DELETE FROM cluster WHERE name = %s", (name,))
            cursor.execute("UPDATE lc_share SET complete = true WHERE cluster = %s AND NOT complete", (name,))
            for table in ("node", "instance", "lc_in_flight", "journal_gap", "refusal"):
                cursor.execute(f"DELETE FROM {table} WHERE cluster = %s", (name,))
            cursor.execute("DELETE FROM link WHERE from_cluster = %s OR to_cluster = %s", (name, name))

        self._database.run(leave)
