"""What is wrong with an installation, and what to do: pure checks over what was gathered of it.

Each check is a function of the facts that gives what it has to say, and nothing where all is well. Thresholds are chosen so that a healthy
stack of the demo on a busy laptop has no finding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tango.domain.findings import ClusterFacts, Facts, Finding, Level

SKEW_S = 0.5
"""Clocks that are further apart make LC early or late by as much; targets begin at a tenth of a second."""
SLOW_MS = 100.0
"""Answers of database and broker, from the centre itself. An edge cluster waits for neither."""
FREE_SHARE, FREE_BYTES = 0.05, 1 << 30
CONNECTIONS_SHARE = 0.8
TRANSACTION_S = 300.0
"""Transactions that are open for so long keep PostgreSQL from clearing dead rows."""
OLD_PICTURE_S = 30.0
"""Beyond what a watch that is renewed needs; nothing is placed on a picture that old."""
MANY_MESSAGES = 1_000
MEMORY_SHARE = 0.8
LOAD_PER_CORE = 2.0
OLDEST_POSTGRESQL = 140_000
PERIODIC = ("scheduler", "reconcile")
"""Leases of work that somebody must do while a run is open."""


def _problem(check: str, found: str, *, remedy: str) -> Finding:
    return Finding(check=check, level=Level.PROBLEM, found=found, remedy=remedy)


def _note(check: str, found: str, *, remedy: str) -> Finding:
    return Finding(check=check, level=Level.NOTE, found=found, remedy=remedy)


def diagnose(facts: Facts) -> list[Finding]:
    """All findings, the worst first, and of equal ones in the order of the checks."""
    found = [finding for check in CHECKS for finding in check(facts)]
    return sorted(found, key=lambda finding: -finding.level)


def _host(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    if host.free_bytes < max(FREE_SHARE * host.size_bytes, FREE_BYTES):
        yield _problem(
            "disk",
            f"{host.home} has {host.free_bytes / 2**30:.1f} GiB free of {host.size_bytes / 2**30:.0f}",
            remedy="free some space, or delete old runs: tango run prune --keep 20",
        )
    if host.load > LOAD_PER_CORE * host.cores:
        yield _note(
            "host",
            f"{host.load:.1f} processes want {host.cores} cores: figures of runs made now tell of that, not of the system",
            remedy="end what else runs here, or read figures as those of a busy host",
        )
    if host.unlocked:
        yield _note(
            "packages", f"not the versions that Tango is tested with: {', '.join(host.unlocked[:5])}", remedy="make install"
        )
    for name, state in (host.stack or {}).items():
        if state != "running":
            yield _problem("processes", f"process {name} of the local stack is {state}", remedy=f"read {host.home}/logs/{name}.log")


def _database(facts: Facts) -> Iterator[Finding]:
    database = facts.database
    if database.failure:
        yield _problem("database", database.failure, remedy="tango up --detach, or correct TANGO_DATABASE_URL")
        return
    if database.version < OLDEST_POSTGRESQL:
        yield _problem(
            "database",
            f"PostgreSQL {database.version // 10_000}, expected {OLDEST_POSTGRESQL // 10_000} or later",
            remedy="upgrade the server",
        )
    if database.revision != database.newest_revision:
        yield _problem(
            "schema",
            f"the schema has revision {database.revision or 'none'}, this version of Tango expects {database.newest_revision}",
            remedy="tango database upgrade, with every process of an older version stopped",
        )
    for name, needed, why in (
        ("fsync", "on", "a crash of its host can destroy the database"),
        ("full_page_writes", "on", "a crash of its host can tear pages"),
    ):
        if (value := (database.settings or {}).get(name, needed)) != needed:
            yield _problem("database", f"{name} is {value}: {why}", remedy=f"ALTER SYSTEM SET {name} = {needed}")
    if database.max_connections and database.connections > CONNECTIONS_SHARE * database.max_connections:
        yield _problem(
            "connections",
            f"{database.connections} of {database.max_connections} connections are taken",
            remedy="raise max_connections, or put a pooler before it; SELECT * FROM pg_stat_activity tells whose they are",
        )
    if database.oldest_transaction_s > TRANSACTION_S:
        yield _note(
            "transactions",
            f"a transaction is open for {database.oldest_transaction_s:.0f} s: dead rows stay, and tables grow",
            remedy="end it: SELECT pid, query FROM pg_stat_activity ORDER BY xact_start",
        )
    yield from _far("database", database.answer_ms)
    yield from _skewed("database", database.ahead_s)


def _broker(facts: Facts) -> Iterator[Finding]:
    broker = facts.broker
    if broker is None:
        return
    if broker.failure:
        yield _problem("broker", broker.failure, remedy="tango up --detach, or correct TANGO_BROKER_URL")
        return
    if broker.maxmemory_policy and broker.maxmemory_policy != "noeviction":
        yield _problem(
            "broker",
            f"maxmemory-policy is {broker.maxmemory_policy}: when memory is short it throws queues away",
            remedy="CONFIG SET maxmemory-policy noeviction",
        )
    if broker.maxmemory_bytes and broker.used_bytes > MEMORY_SHARE * broker.maxmemory_bytes:
        yield _problem(
            "broker",
            f"{broker.used_bytes >> 20} of {broker.maxmemory_bytes >> 20} MiB are used",
            remedy="raise maxmemory, or see below which queue grows",
        )
    if not broker.is_appended:
        yield _note(
            "broker",
            "it keeps no append-only file: messages are lost with the server, and published again within seconds from the rows",
            remedy="CONFIG SET appendonly yes",
        )
    waiting, consumers = broker.waiting or {}, broker.consumers
    for queue, messages in sorted(waiting.items()):
        if consumers is not None and messages and not consumers.get(queue):
            yield _problem(
                "queues",
                f"{messages} messages wait in {queue}, and no worker consumes it",
                remedy=f"start a worker: celery -A workers.app worker -Q {queue}",
            )
        elif messages > MANY_MESSAGES:
            yield _problem(
                "queues",
                f"{messages:,} messages wait in {queue}: its workers take less than comes",
                remedy="see whether they get on: celery -A workers.app inspect active",
            )
    yield from _far("broker", broker.answer_ms)
    yield from _skewed("broker", broker.ahead_s)


def _clusters(facts: Facts) -> Iterator[Finding]:
    for cluster in facts.clusters:
        yield from _cluster(cluster)


def _cluster(cluster: ClusterFacts) -> Iterator[Finding]:
    where = f"cluster {cluster.name}"
    if cluster.is_away or cluster.agent_age_s is None:
        heard = "was never heard of" if cluster.agent_age_s is None else f"was last heard of {cluster.agent_age_s:.0f} s ago"
        yield _problem(
            "agents",
            f"the agent of {where} {heard}",
            remedy=f"start it, or see its log: python -m workers.cluster_agent --cluster {cluster.name}",
        )
    elif cluster.picture_age_s is None or cluster.picture_age_s > OLD_PICTURE_S:
        age = "nothing is known" if cluster.picture_age_s is None else f"what is known is {cluster.picture_age_s:.0f} s old"
        yield _problem(
            "agents",
            f"of nodes and pods of {where} {age}: its API server does not answer the agent",
            remedy=f"tango cluster check {cluster.name}",
        )
    if cluster.nodes and not cluster.ready:
        yield _problem("nodes", f"no node of {where} is ready, of {cluster.nodes}", remedy="kubectl get nodes")
    if cluster.lost_events:
        yield _note(
            "journals",
            f"when this centre was restored from a backup, {cluster.lost_events:,} events of the journal of {where} were lost",
            remedy="back up more often than journals forget (docs/guarantees.md); LC requests whose ends were lost ran once more",
        )
    for words in cluster.refusals:
        yield _problem("refusals", f"{where} refuses: {words}", remedy="tango cluster list -o json")
    if cluster.failure:
        yield _problem("api server", f"{where}: {cluster.failure}", remedy=f"tango cluster check {cluster.name}")
    for what, remedy in cluster.forbidden:
        yield _problem("permissions", f"{where}: Tango may not {what}", remedy=remedy)


def _services(facts: Facts) -> Iterator[Finding]:
    for service in facts.services:
        if not service.ready:
            how = "has no instance" if not service.instances else f"has {service.instances} instances and none is ready"
            yield _problem("services", f"service {service.name} {how}", remedy=f"tango service show {service.name}")


def _guarantees(facts: Facts) -> Iterator[Finding]:
    if facts.guarantees:
        yield _problem(
            "guarantees",
            f"{facts.guarantees}: until then each tenant gets a like part of what there is",
            remedy="tango tenant list; tango tenant apply -f FILE",
        )


def _checkpoint(facts: Facts) -> Iterator[Finding]:
    checkpoint = facts.checkpoint
    if checkpoint is None:
        return
    if checkpoint.live and checkpoint.refused:
        yield _problem(
            "checkpoint",
            f"checkpoint {checkpoint.live} is promoted and cannot be used: {checkpoint.refused}",
            remedy="tango checkpoint demote, or add its file again",
        )
    if checkpoint.own_failure:
        yield Finding(
            check="checkpoint",
            level=Level.NOTE if checkpoint.live else Level.PROBLEM,
            found=checkpoint.own_failure,
            remedy="correct TANGO_CHECKPOINT, or unset it: the shipped one decides then",
        )


def _periodic(facts: Facts) -> Iterator[Finding]:
    if facts.holders is None or not facts.open_runs:
        return
    for name in PERIODIC:
        left_s = facts.holders.get(name)
        if left_s is None or left_s < 0:
            when = "never" if left_s is None else f"not since {-left_s:.0f} s ago"
            yield _problem(
                "scheduler",
                f"{facts.open_runs} runs are open, and nobody holds the lease of their {name}: {when}",
                remedy="see that beat and a scheduler worker run: tango status",
            )


def _far(what: str, answer_ms: float) -> Iterator[Finding]:
    if answer_ms > SLOW_MS:
        yield _note(
            "distance",
            f"the {what} takes {answer_ms:.0f} ms to answer from here",
            remedy="run the scheduler beside it; clusters may be far away",
        )


def _skewed(what: str, ahead_s: float) -> Iterator[Finding]:
    if abs(ahead_s) > SKEW_S:
        yield _problem(
            "clocks",
            f"the clock of the {what} is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this host's",
            remedy="set both by NTP: requests are early or late by as much",
        )


CHECKS: Sequence[Callable[[Facts], Iterator[Finding]]] = (
    _host,
    _database,
    _broker,
    _clusters,
    _services,
    _guarantees,
    _checkpoint,
    _periodic,
)
