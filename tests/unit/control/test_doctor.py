"""Checks of an installation: each fault has one finding that names it and says what to do, and a sound one has none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tango.control.doctor import diagnose
from tango.domain.findings import (
    BrokerFacts,
    CheckpointFacts,
    ClusterFacts,
    DatabaseFacts,
    Facts,
    HostFacts,
    Level,
    ServiceFacts,
)

HOST = HostFacts(home="/home/me/tango", free_bytes=50 << 30, size_bytes=100 << 30, cores=4, load=1.0, stack={"postgres": "running"})
DATABASE = DatabaseFacts(
    version=170_004,
    revision="0026",
    newest_revision="0026",
    settings={"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"},
    connections=20,
    max_connections=100,
    answer_ms=0.2,
)
BROKER = BrokerFacts(
    maxmemory_policy="noeviction", waiting={"control": 1, "lc.c1": 2}, consumers={"control": 1, "lc.c1": 2}, answer_ms=0.1
)
CLUSTER = ClusterFacts(name="c1", picture_age_s=0.5, agent_age_s=0.4, nodes=4, ready=4)
CHECKPOINT = CheckpointFacts(live="june", refused="", own_failure="")
SOUND = Facts(
    host=HOST,
    database=DATABASE,
    broker=BROKER,
    clusters=(CLUSTER,),
    services=(ServiceFacts(name="web", instances=4, ready=3),),
    checkpoint=CHECKPOINT,
    open_runs=1,
    holders={"scheduler": 4.0, "reconcile": 8.0, "replay:3": -60.0},
)


def with_part(part: str, **changes: Any) -> Facts:
    """The sound installation with one part changed."""
    now = getattr(SOUND, part)
    changed = dataclasses.replace(now[0] if isinstance(now, tuple) else now, **changes)
    return dataclasses.replace(SOUND, **{part: (changed,) if isinstance(now, tuple) else changed})


def test_a_sound_installation_has_no_finding() -> None:
    """Also where nothing but the host and the database was looked at, and where no run is open and nobody does periodic work."""
    assert diagnose(SOUND) == []
    assert diagnose(Facts(host=dataclasses.replace(HOST, stack=None), database=DATABASE)) == []
    assert diagnose(dataclasses.replace(SOUND, open_runs=0, holders={})) == []


@pytest.mark.parametrize(
    ("facts", "check", "level", "found"),
    [
        (with_part("host", free_bytes=1 << 29), "disk", Level.PROBLEM, "0.5 GiB free of 100"),
        (with_part("host", load=9.0), "host", Level.NOTE, "9.0 processes want 4 cores"),
        (with_part("host", unlocked=("numpy 1.0 (expected >=2)",)), "packages", Level.NOTE, "numpy 1.0"),
        (
            with_part("host", stack={"worker-1": "backing off"}),
            "processes",
            Level.PROBLEM,
            "worker-1 of the local stack is backing off",
        ),
        (with_part("database", failure="PostgreSQL does not answer at x"), "database", Level.PROBLEM, "does not answer"),
        (with_part("database", version=130_002), "database", Level.PROBLEM, "PostgreSQL 13, expected 14"),
        (with_part("database", revision="0020"), "schema", Level.PROBLEM, "revision 0020, this version of Tango expects 0026"),
        (with_part("database", settings={"fsync": "off"}), "database", Level.PROBLEM, "fsync is off"),
        (with_part("database", settings={"full_page_writes": "off"}), "database", Level.PROBLEM, "full_page_writes is off"),
        (with_part("database", connections=90), "connections", Level.PROBLEM, "90 of 100 connections"),
        (with_part("database", oldest_transaction_s=900.0), "transactions", Level.NOTE, "open for 900 s"),
        (with_part("database", ahead_s=2.0), "clocks", Level.PROBLEM, "clock of the database is 2.0 s ahead of this host's"),
        (with_part("database", answer_ms=250.0), "distance", Level.NOTE, "the database takes 250 ms"),
        (with_part("broker", failure="the broker does not answer: x"), "broker", Level.PROBLEM, "does not answer"),
        (with_part("broker", maxmemory_policy="allkeys-lru"), "broker", Level.PROBLEM, "throws queues away"),
        (with_part("broker", maxmemory_bytes=100 << 20, used_bytes=90 << 20), "broker", Level.PROBLEM, "90 of 100 MiB"),
        (with_part("broker", is_appended=False), "broker", Level.NOTE, "no append-only file"),
        (with_part("broker", ahead_s=-3.0), "clocks", Level.PROBLEM, "clock of the broker is 3.0 s behind"),
        (with_part("broker", waiting={"lc.c9": 3}), "queues", Level.PROBLEM, "3 messages wait in lc.c9, and no worker consumes it"),
        (with_part("broker", waiting={"lc.c1": 5000}), "queues", Level.PROBLEM, "5,000 messages wait in lc.c1: its workers"),
        (
            with_part("clusters", agent_age_s=90.0, is_away=True),
            "agents",
            Level.PROBLEM,
            "agent of cluster c1 was last heard of 90 s ago",
        ),
        (with_part("clusters", agent_age_s=None), "agents", Level.PROBLEM, "was never heard of"),
        (with_part("clusters", picture_age_s=60.0), "agents", Level.PROBLEM, "what is known is 60 s old"),
        (with_part("clusters", ready=0), "nodes", Level.PROBLEM, "no node of cluster c1 is ready, of 4"),
        (with_part("clusters", lost_events=12), "journals", Level.NOTE, "12 events of the journal of cluster c1 were lost"),
        (with_part("clusters", refusals=("quota: exceeded quota",)), "refusals", Level.PROBLEM, "quota: exceeded quota"),
        (with_part("clusters", failure="connection refused"), "api server", Level.PROBLEM, "connection refused"),
        (with_part("clusters", forbidden=(("bind pods: no", "deploy/rbac"),)), "permissions", Level.PROBLEM, "may not bind pods"),
        (with_part("services", instances=0, ready=0), "services", Level.PROBLEM, "web has no instance"),
        (with_part("services", ready=0), "services", Level.PROBLEM, "has 4 instances and none is ready"),
        (dataclasses.replace(SOUND, guarantees="cluster c1 cannot keep"), "guarantees", Level.PROBLEM, "cluster c1 cannot keep"),
        (with_part("checkpoint", refused="damaged"), "checkpoint", Level.PROBLEM, "june is promoted and cannot be used: damaged"),
        (with_part("checkpoint", live="", own_failure="gone"), "checkpoint", Level.PROBLEM, "gone"),
        (with_part("checkpoint", own_failure="gone"), "checkpoint", Level.NOTE, "gone"),
        (
            dataclasses.replace(SOUND, holders={"reconcile": 1.0}),
            "scheduler",
            Level.PROBLEM,
            "the lease of their scheduler: never",
        ),
        (
            dataclasses.replace(SOUND, holders={"scheduler": 1.0, "reconcile": -40.0}),
            "scheduler",
            Level.PROBLEM,
            "lease of their reconcile: not since 40 s ago",
        ),
    ],
)
def test_a_fault_has_one_finding(facts: Facts, check: str, level: Level, found: str) -> None:
    """With what to do about it."""
    (finding,) = diagnose(facts)

    assert (finding.check, finding.level) == (check, level)
    assert found in finding.found
    assert finding.remedy


def test_what_does_not_work_comes_first() -> None:
    """However many notes there are."""
    facts = dataclasses.replace(
        with_part("host", load=99.0, unlocked=("x 1",)), services=(ServiceFacts(name="web", instances=0, ready=0),)
    )

    assert [finding.level for finding in diagnose(facts)] == [Level.PROBLEM, Level.NOTE, Level.NOTE]
