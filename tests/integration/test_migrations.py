"""The schema: up, down and up again, the same as the metadata, and closed to what a newer Tango has migrated."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg2
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, inspect, text

from models import metadata
from models.tables import request_state, service_class
from models.views import VIEW_NAMES, VIEWS
from tango.errors import ConfigError, StoreError, StoreUnavailable
from tango.stack.postgres import PostgresServer
from tango.store.migrate import LOCK_KEY, head, migrate, migrate_back
from tango.store.schema import bring_up_to_date, newest_revision


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without any table, owned by the superuser who migrates it."""
    admin = psycopg2.connect(postgres_server.admin_url(), connect_timeout=5)
    admin.autocommit = True
    with admin.cursor() as cursor:
        cursor.execute("CREATE DATABASE empty")
    yield postgres_server.admin_url("empty")
    with admin.cursor() as cursor:
        cursor.execute("DROP DATABASE empty WITH (FORCE)")
    admin.close()


def _objects(url: str) -> list[tuple[str, str]]:
    """(kind, name) of every relation, function and type of the schema."""
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT 'relation', relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace
            UNION SELECT 'function', proname::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            UNION SELECT 'type', typname::text FROM pg_type WHERE typnamespace = 'public'::regnamespace ORDER BY 1, 2
            """
        )
        found = cursor.fetchall()
    connection.close()
    return [row for row in found if "alembic_version" not in row[1]]


def test_the_schema_goes_up_down_and_up_again(empty_url: str) -> None:
    """Downgrade leaves nothing behind, so that an upgrade after it makes the same objects again."""
    assert _objects(empty_url) == []
    migrate(empty_url)
    first = _objects(empty_url)
    migrate(empty_url)

    migrate_back(empty_url, "base")
    below = _objects(empty_url)
    migrate(empty_url)

    assert below == []
    assert _objects(empty_url) == first
    assert {name for kind, name in first if kind == "relation"} >= {*metadata.tables, *VIEW_NAMES}


def test_simulated_runs_go_with_the_code_that_knows_them(empty_url: str) -> None:
    """To older code they would be live runs that never end; live runs stay."""
    migrate(empty_url)
    with psycopg2.connect(empty_url) as connection, connection.cursor() as cursor:
        for kind in ("live", "simulated"):
            cursor.execute(
                "INSERT INTO run (kind, name, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, settings) "
                "VALUES (%s, 'r', 's', 'f', 'h', 1, 1, true, 't', 1, 0, '{}') RETURNING run_id",
                (kind,),
            )
            run_id = cursor.fetchall()[0][0]
            cursor.execute("SELECT make_request_partition(%s), attach_request_partition(%s)", (run_id, run_id))
            cursor.execute("INSERT INTO run_metric (run_id, name, value) VALUES (%s, 'accepted', 0)", (run_id,))
        cursor.execute("INSERT INTO simulation (run_id, key, cell, record) VALUES (%s, 'k', '{}', true)", (run_id,))
    connection.close()

    migrate_back(empty_url, "0001")

    with psycopg2.connect(empty_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT (SELECT array_agg(run_id) FROM run), (SELECT array_agg(run_id) FROM run_metric)")
        assert cursor.fetchall() == [([1], [1])]
    connection.close()
    assert {name for _, name in _objects(empty_url) if name.startswith("request_1") or name.startswith("request_2")} == {
        "request_1",
        "request_1_pkey",
        "request_1_state_due_s_idx",
    }
    migrate(empty_url)


def test_runs_that_were_stored_before_get_their_shares(empty_url: str) -> None:
    """Live ones that have not ended, by cluster, with what is terminal already; nothing of them is handed over yet."""
    migrate(empty_url)
    migrate_back(empty_url, "0006")
    with psycopg2.connect(empty_url) as connection, connection.cursor() as cursor:
        for kind, status in (("live", "running"), ("live", "cancelling"), ("live", "completed"), ("simulated", "running")):
            cursor.execute(
                "INSERT INTO run (kind, status, name, system, fleet, fleet_hash, seed, speed, reassure, trace_source, span_s, accepted, "
                "settings) VALUES (%s, %s, 'r', 's', 'f', 'h', 1, 1, true, 't', 1, 0, '{}') RETURNING run_id",
                (kind, status),
            )
            run_id = cursor.fetchall()[0][0]
            cursor.execute("SELECT make_request_partition(%s), attach_request_partition(%s)", (run_id, run_id))
            cursor.executemany(
                "INSERT INTO request (run_id, request_id, class, service, cluster, due_s, cpu_work_s, memory_mib, state) "
                "VALUES (%s, %s, %s, 'web', %s, 0, 1, 1, %s)",
                [
                    (run_id, 0, "lc", "c1", "succeeded"),
                    (run_id, 1, "lc", "c1", "running"),
                    (run_id, 2, "lc", "c2", "accepted"),
                    (run_id, 3, "be", "c3", "accepted"),
                ],
            )
    connection.close()

    migrate(empty_url)

    with psycopg2.connect(empty_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT run_id, cluster, accepted, opened, handed_to, complete, terminal FROM lc_share ORDER BY 1, 2")
        found = cursor.fetchall()
    connection.close()
    assert found == [
        (run_id, *share) for run_id in (1, 2) for share in (("c1", 2, False, -1, False, 1), ("c2", 1, False, -1, False, 0))
    ]


def test_two_migrators_at_once_make_one_schema(empty_url: str) -> None:
    """Migrators wait for each other; the second finds nothing to do."""
    failures: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate(empty_url)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(_objects(empty_url)) > 20


def test_the_migrated_schema_is_the_metadata(empty_url: str) -> None:
    """No table, column, type, default or index differs between what migrations make and what `models` declares."""
    migrate(empty_url)
    engine = create_engine(empty_url.replace("postgresql://", "postgresql+psycopg2://", 1))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)
        enums = {e["name"]: tuple(e["labels"]) for e in inspect(connection).get_enums()}
    engine.dispose()

    assert differences == []
    assert enums == {declared.name: tuple(declared.enums) for declared in (request_state, service_class)}


def test_the_migrated_views_are_those_of_models(empty_url: str) -> None:
    """Each view, made again from `models.views`, has the definition that the migrations gave it."""
    migrate(empty_url)
    engine = create_engine(empty_url.replace("postgresql://", "postgresql+psycopg2://", 1))
    definition = text("SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'")
    with engine.connect() as connection:
        migrated = {name: body for name, body in connection.execute(definition)}
        for name in VIEW_NAMES:
            connection.execute(text(f"DROP VIEW {name}"))
        for view in VIEWS:
            connection.exec_driver_sql(view.replace("%", "%%"))
        declared = {name: body for name, body in connection.execute(definition)}
    engine.dispose()

    assert migrated == declared
    assert set(migrated) == set(VIEW_NAMES)


def test_a_database_of_a_newer_tango_is_refused(empty_url: str) -> None:
    """An unknown revision is named beside the newest known one, and nothing is changed."""
    migrate(empty_url)
    with psycopg2.connect(empty_url) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = _objects(empty_url)

    for change in (lambda: migrate(empty_url), lambda: migrate_back(empty_url, "base")):
        with pytest.raises(ConfigError, match=f"revision 9999, expected {head()} or older.*newer Tango"):
            change()

    assert _objects(empty_url) == before


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    """The message tells where it was tried and what to do, never the password."""
    with pytest.raises(StoreUnavailable, match="tango up") as refused:
        migrate("postgresql://somebody:hidden-word@127.0.0.1:1/tango")

    assert "127.0.0.1:1" in str(refused.value)
    assert "hidden-word" not in str(refused.value)


def test_a_migrator_does_not_wait_for_ever(empty_url: str) -> None:
    """A session that keeps the migrators' lock ends the wait of the next one with an error that says so."""
    holder = psycopg2.connect(empty_url)
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))

    with pytest.raises(StoreError, match=r"another session has held a lock for 0.2 s"):
        migrate(empty_url, lock_timeout_s=0.2)

    holder.close()
    migrate(empty_url)
    assert _objects(empty_url)


def test_a_start_migrates_only_what_is_not_up_to_date(empty_url: str) -> None:
    """Alembic is half a second of a start. What has the newest revision is not looked at further: not even the lock is asked for."""
    bring_up_to_date(empty_url)
    made = _objects(empty_url)
    holder = psycopg2.connect(empty_url)
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK_KEY,))

    bring_up_to_date(empty_url)
    holder.close()
    migrate_back(empty_url, "0007")
    below = _objects(empty_url)
    bring_up_to_date(empty_url)

    assert newest_revision() == head()
    assert made
    assert below != made
    assert _objects(empty_url) == made
