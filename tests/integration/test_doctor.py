"""`tango doctor` on a real database and a real broker: an installation with ten planted faults, found all ten."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from tango.domain.checkpoints import NewCheckpoint
from tango.store.checkpoints import PostgresCheckpointStore
from tango.store.database import Database
from tests.commands import run_tango
from tests.conftest import DatabaseUrls
from tests.fakes.store_world import FLEET, WEB, postgres_world

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: far, cluster: {server: "http://127.0.0.1:1"}}]
users: [{name: me, user: {token: secret}}]
contexts: [{name: far, context: {cluster: far, user: me}}]
"""
Doctor = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def doctor(database_urls: DatabaseUrls, valkey_url: str, tmp_path: Path) -> Doctor:
    """The command on this database and broker, as a user gives it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TANGO_")} | {
        "TANGO_HOME": str(tmp_path / "home"),
        "TANGO_DATABASE_URL": database_urls.app,
        "TANGO_BROKER_URL": valkey_url,
    }

    def run(*arguments: str, **changed: str) -> subprocess.CompletedProcess[str]:
        return run_tango(("doctor", *arguments), environment=environment | changed)

    return run


@pytest.fixture
def servers(database_urls: DatabaseUrls, valkey_url: str) -> Iterator[redis.Redis]:
    """The broker, and both servers as they were before at the end."""
    client = redis.Redis.from_url(valkey_url)
    before = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly")}
    yield client
    for name, value in before.items():
        client.config_set(name, value)
    client.delete("tango.lc.ghost")
    client.close()
    administer(database_urls, "ALTER SYSTEM RESET full_page_writes")


def administer(urls: DatabaseUrls, statement: str) -> None:
    """As the superuser, and let the server read its settings again."""
    connection = psycopg2.connect(urls.admin)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
        cursor.execute("SELECT pg_reload_conf()")
    connection.close()


def test_ten_planted_faults_are_found(doctor: Doctor, servers: redis.Redis, database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """Each by its own line, with what to do; and the exit status says that there are some."""
    config = tmp_path / "kubeconfig"
    config.write_text(KUBECONFIG)
    world = postgres_world(database_urls.app)
    world.create(WEB)
    database = Database(database_urls.app)
    # 1, 2: a cluster whose agent never ran, and whose API server does not answer. 3: messages that nobody takes.
    database.execute("DELETE FROM cluster")
    database.execute("DELETE FROM instance")
    world.fleet.join("ghost", kubeconfig=str(config), context="far", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    servers.lpush("tango.lc.ghost", "x", "y")
    # 4: a service without an instance. 5: events that a restore has cost. 6: a refusal.
    database.execute("INSERT INTO journal_gap (cluster, missing) VALUES ('ghost', 12)")
    database.execute(
        "INSERT INTO refusal (cluster, service, node, role, kind, words, paused_until) "
        "VALUES ('ghost', '', '', 'scheduler', 'quota', 'exceeded quota: pods=0', now() + interval '1 h')"
    )
    # 7: a network that the scheduler refused. 8, 9: a broker that throws queues away and keeps no file. 10: a database that may tear.
    store = PostgresCheckpointStore(database)
    stored = store.register(
        NewCheckpoint(
            name="june", policy="dcg-be", digest="a" * 64, format_version=1, feature_schema="s", path="/x", trained={}, content=b"x"
        )
    )
    store.promote(stored.digest, actor="me")
    database.execute("UPDATE checkpoint SET refused = 'damaged' WHERE digest = %s", (stored.digest,))
    servers.config_set("maxmemory-policy", "allkeys-lru")
    servers.config_set("appendonly", "no")
    administer(database_urls, "ALTER SYSTEM SET full_page_writes = off")

    done = doctor("-o", "json")

    assert done.returncode == 1, done.stderr
    found = [(row["check"], row["found"]) for row in json.loads(done.stdout)]
    for check, words in (
        ("agents", "the agent of cluster ghost was never heard of"),
        ("api server", "cluster ghost: "),
        ("queues", "2 messages wait in lc.ghost, and no worker consumes it"),
        ("services", f"service {FLEET.services[0].name} has no instance"),
        ("journals", "12 events of the journal of cluster ghost were lost"),
        ("refusals", "quota: exceeded quota: pods=0"),
        ("checkpoint", "june is promoted and cannot be used: damaged"),
        ("broker", "maxmemory-policy is allkeys-lru"),
        ("broker", "no append-only file"),
        ("database", "full_page_writes is off"),
    ):
        assert any(check == of and words in text for of, text in found), (check, words, found)
    assert all(row["what_to_do"] for row in json.loads(done.stdout))
    database.close()


def test_servers_that_do_not_answer_are_findings_and_no_failure(doctor: Doctor, database_urls: DatabaseUrls) -> None:
    """Nothing hangs, and the password is not shown."""
    postgres_world(database_urls.app)

    no_broker = doctor("--no-clusters", "-o", "json", TANGO_BROKER_URL="redis://:hidden-password@127.0.0.1:1/0")
    no_database = doctor("-o", "json", TANGO_DATABASE_URL="postgresql://me:hidden-password@127.0.0.1:1/x")

    assert (no_broker.returncode, no_database.returncode) == (1, 1)
    assert any(row["check"] == "broker" and "does not answer" in row["found"] for row in json.loads(no_broker.stdout))
    assert any(row["check"] == "database" and "does not answer" in row["found"] for row in json.loads(no_database.stdout))
    assert "hidden-password" not in no_broker.stdout + no_broker.stderr + no_database.stdout + no_database.stderr
