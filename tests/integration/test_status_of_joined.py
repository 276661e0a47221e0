"""`tango status` of a stack that a cluster has joined."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tango.cli import stack
from tango.domain.observations import NodeState
from tango.stack import state, supervisor
from tango.stack.state import StackInfo
from tango.store.database import Database
from tango.store.fleet import PostgresFleetStore


def test_the_agent_of_a_joined_cluster_is_in_the_status(
    database_url: str, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the stack's own processes; a worker would answer on the broker, where none does."""
    database = Database(database_url)
    fleet = PostgresFleetStore(database)
    fleet.join("edge-7", kubeconfig="/edge", context="edge-7", rtt_ms=5.0, bandwidth_mbit_per_s=100.0)
    fleet.observe(
        "edge-7", [NodeState(name="n1", ready=True, cpu_allocatable_millicores=1, memory_allocatable_mib=1)], [], sample=True
    )
    database.close()
    info = StackInfo(database_url=database_url, broker_url=valkey_url, ready=True)
    monkeypatch.setattr(state, "read_stack", lambda _: info)
    monkeypatch.setattr(state, "supervisor_pid", lambda _: 1)
    own = {"name": "beat", "state": "running", "role": "periodic ticks", "pid": 7, "restarts": 0}
    monkeypatch.setattr(supervisor, "read_status", lambda _: {"processes": [own], "expected": 1})

    def shown(form: str) -> str:
        done = CliRunner().invoke(stack.status, ["--home", str(tmp_path), "-o", form], standalone_mode=False)
        assert done.exception is None, done.exception
        return done.stdout

    rows = json.loads(shown("json"))
    assert [row["name"] for row in rows] == ["beat", "agent of edge-7"]
    assert rows[1]["state"].startswith("heard ")
    assert "agent of edge-7" in shown("table")
